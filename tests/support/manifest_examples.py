"""Manifests of bundles with everything in them, for the tests of their codec."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from firebrick.storage.format import KEY_BYTES
from firebrick.storage.keys import ContentKey
from firebrick.storage.manifest import Compiled, Fact, LeanForm, Manifest, NoLeanForm, Placement, Reached
from firebrick.storage.msgpack import pack


def manifests(max_size: int) -> st.SearchStrategy[Manifest]:
    """Make manifests; `max_size` is the most characters of a text and entries of a map."""
    texts = st.text(max_size=max_size)
    keys = st.binary(min_size=KEY_BYTES, max_size=KEY_BYTES).map(ContentKey)
    few = min(max_size, 3)

    def maps(values: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
        made = st.dictionaries(texts, values, max_size=few)
        return made.map(lambda items: dict(sorted(items.items(), key=lambda item: pack(item[0]))))

    plain = st.none() | st.booleans() | st.integers(-(1 << 63), (1 << 64) - 1) | texts
    compiled = st.builds(
        Compiled,
        keys,
        maps(keys),
        maps(keys),
        maps(texts),
        maps(texts),
        st.none() | keys,
        texts,
        st.none() | keys,
        st.none() | keys,
    )
    places = st.none() | st.builds(Placement, st.integers(-1, 64), texts)
    lists = st.lists(texts, max_size=few)
    forms = st.builds(
        LeanForm, keys, maps(texts), maps(keys), lists, places, maps(lists), maps(st.integers(0, 9))
    )
    return st.builds(
        Manifest,
        recipe=keys,
        parts=keys,
        process=st.lists(st.builds(Fact, texts, st.lists(plain, max_size=few), texts), max_size=few),
        buckets=texts,
        reached=st.none() | st.builds(Reached, keys, keys, keys),
        compiled=st.none() | compiled,
        lean=st.builds(NoLeanForm, texts) | forms,
    )
