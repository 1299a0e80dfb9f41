"""Manifests of bundles: what is refused when they are made, read and checked."""

from pathlib import Path
from typing import Any

import pytest

from firebrick.codecs import decode, encode
from firebrick.errors import DecodeError, EncodeError, UnknownVersion
from firebrick.storage.format import MANIFEST_VERSION, Kind
from firebrick.storage.keys import ContentKey, recipe_key
from firebrick.storage.manifest import (
    Compiled,
    LeanForm,
    Manifest,
    NoLeanForm,
    Placement,
    Reached,
    pack_manifest,
    unpack_manifest,
)
from firebrick.storage.msgpack import pack, unpack
from firebrick.storage.store import Blob, Store

KEY = ContentKey(b"k" * 32)
COMPILED = Compiled(KEY, {"r": KEY}, {"b": KEY}, {"m": "math"}, {}, KEY, "ab", KEY)
LEAN = LeanForm(KEY, {}, {"b": KEY}, [], Placement(0, "why"))
MANIFEST = Manifest(KEY, KEY, [], "", Reached(KEY, KEY, KEY), COMPILED, LEAN)


def changed(at: str, value: Any) -> bytes:
    """Return the body of a manifest with one entry of another value; without it for ``...``."""
    body = unpack(pack_manifest(MANIFEST))
    place, name = (body["lean"], at.removeprefix("lean.")) if at.startswith("lean.") else (body, at)
    if value is ...:
        del place[name]
    else:
        place[name] = value
    return pack(body)


ENTRIES = [
    *unpack(pack_manifest(MANIFEST)),
    *(f"lean.{name}" for name in unpack(pack_manifest(MANIFEST))["lean"]),
]


@pytest.mark.parametrize("entry", sorted({*ENTRIES} - {"version"}))
def test_an_entry_that_is_not_there_is_refused_by_name(entry: str) -> None:
    named = "pinned" if entry == "lean.gpu" else entry.removeprefix("lean.")
    with pytest.raises(DecodeError, match=named):
        unpack_manifest(changed(entry, ...))


@pytest.mark.parametrize("version", [..., 0, MANIFEST_VERSION + 1])
def test_another_version_is_refused(version: Any) -> None:
    with pytest.raises(UnknownVersion):
        unpack_manifest(changed("version", version))


@pytest.mark.parametrize("entry", ENTRIES)
@pytest.mark.parametrize("value", [None, 1.5, [5], {"x": None}, b"short"])
def test_an_entry_of_another_type_is_refused(entry: str, value: Any) -> None:
    with pytest.raises(DecodeError):
        unpack_manifest(changed(entry, value))


@pytest.mark.parametrize("entry", ["more", "lean.more"])
def test_an_entry_to_come_is_refused(entry: str) -> None:
    with pytest.raises(DecodeError, match="more', which is not known"):
        unpack_manifest(changed(entry, 1))


def test_one_that_could_not_be_read_is_not_made() -> None:
    with pytest.raises(EncodeError, match="code of a manifest: expected 32 bytes"):
        encode(Kind.BUNDLE, MANIFEST._replace(compiled=COMPILED._replace(code=ContentKey(b"short"))))
    with pytest.raises(EncodeError, match="not a Manifest"):
        encode(Kind.BUNDLE, {})


def test_says_which_lane_may_have_it() -> None:
    skipped = Manifest(KEY, KEY, [], "", None, None, NoLeanForm("off"))
    assert skipped.skip and skipped.serves_lean
    assert not MANIFEST.skip and MANIFEST.serves_lean
    assert not MANIFEST._replace(lean=NoLeanForm("a tensor subclass")).serves_lean
    for manifest in (skipped, MANIFEST):
        assert decode(Kind.BUNDLE, MANIFEST_VERSION, pack_manifest(manifest), {}.__getitem__) == manifest


@pytest.mark.parametrize(
    ("body", "problems"),
    [
        (pack_manifest(MANIFEST), 0),
        (changed("imports", 5), 1),
        (changed("process", ...), 1),
        (changed("lean", {"gpu": "x"}), 1),
        (b"no msgpack", 1),
    ],
)
def test_check_finds_one_that_is_broken(tmp_path: Path, body: bytes, problems: int) -> None:
    parts = {"a": "b"}
    with Store.open(tmp_path / "s") as store:
        store.publish(recipe_key(parts), parts, Blob(Kind.BUNDLE, body, MANIFEST_VERSION), [])
        found = store.check().problems
    kinds = [problem.kind for problem in found]
    assert kinds == ["damaged", "dangling recipe"][: 2 * problems]


def test_check_passes_over_one_of_another_version(tmp_path: Path) -> None:
    parts = {"a": "b"}
    with Store.open(tmp_path / "s") as store:
        store.publish(recipe_key(parts), parts, Blob(Kind.BUNDLE, b"whatever", MANIFEST_VERSION - 1), [])
        assert store.check().clean
