"""Keys: what they depend on, canonical forms, and their bytes for ever."""

import hypothesis.strategies as st
import pytest
from hypothesis import given

from firebrick.errors import DecodeError, LimitExceeded, UsageError
from firebrick.storage import keys
from firebrick.storage.format import Kind
from firebrick.storage.keys import (
    content_key,
    pack_components,
    pack_strings,
    parse_key,
    recipe_key,
    record_check,
    short,
    short_hash,
    unpack_components,
    unpack_strings,
)

TEXT = st.text(max_size=20)
COMPONENTS = st.dictionaries(TEXT, TEXT, max_size=5)


def test_keys_never_change() -> None:
    """These bytes are on disks: other values need a new KEY_VERSION."""
    assert content_key(Kind.CODE, b"abc").hex() == (
        "e2e56b749260840ec51dabcabb16642106c3f874c5fd2a7fc585ab3c2be5e44a"
    )
    assert recipe_key({"b": "1", "a": "2"}).hex() == (
        "53d61bbdcd2b9a98341c0be0f5b972eb4a166eeaf2bfebcf989c1e470818b275"
    )
    assert record_check("meta", b"k", b"body").hex() == "a9ed83cf38095dc36f73f4e0ba20d0bb"
    assert short_hash("context", b"c").hex() == "1aadcbd5ec6d0fbc07b2c4d918417335"


def test_a_content_key_depends_on_kind_version_and_bytes() -> None:
    made = {
        content_key(kind, data, version)
        for kind in Kind
        for data in (b"", b"a", b"b")
        for version in (1, 2, 12)
    }
    assert len(made) == len(Kind) * 9


def test_a_content_key_is_the_same_for_every_buffer() -> None:
    data = bytes(100)
    buffers = (data, bytearray(data), memoryview(data))
    assert len({content_key(Kind.TENSOR, buffer) for buffer in buffers}) == 1


@given(COMPONENTS, st.randoms())
def test_a_recipe_key_does_not_depend_on_order(components: dict[str, str], rng: object) -> None:
    items = list(components.items())
    rng.shuffle(items)  # type: ignore[attr-defined]
    assert recipe_key(dict(items)) == recipe_key(components)


@given(COMPONENTS, COMPONENTS)
def test_different_components_have_different_keys(a: dict[str, str], b: dict[str, str]) -> None:
    assert (recipe_key(a) == recipe_key(b)) == (a == b)


@given(COMPONENTS)
def test_components_survive_packing(components: dict[str, str]) -> None:
    assert unpack_components(pack_components(components)) == components


@given(st.lists(st.binary(max_size=10), max_size=5))
def test_strings_survive_packing(parts: list[bytes]) -> None:
    assert unpack_strings(pack_strings(parts)) == parts


@given(st.binary(max_size=40))
def test_any_bytes_are_canonical_components_or_refused(data: bytes) -> None:
    try:
        components = unpack_components(data)
    except DecodeError:
        return
    assert pack_components(components) == data


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"\1\0\0", "3 bytes left where a length was expected"),
        (b"\5\0\0\0ab", "a string ends 3 bytes behind the data"),
        (pack_strings([b"a"]), "components are not in canonical form"),
        (pack_strings([b"b", b"", b"a", b""]), "components are not in canonical form"),
        (pack_strings([b"a", b"1", b"a", b"2"]), "components are not in canonical form"),
    ],
)
def test_components_that_are_not_canonical_are_refused(data: bytes, reason: str) -> None:
    with pytest.raises(DecodeError) as caught:
        unpack_components(data)
    assert caught.value.reason == reason


def test_components_that_are_not_utf8_are_refused() -> None:
    with pytest.raises(DecodeError):
        unpack_components(pack_strings([b"\xff", b""]))
    with pytest.raises(UsageError):
        recipe_key({"a": "\ud800"})
    with pytest.raises(UsageError):
        recipe_key({"a": 1})  # type: ignore[dict-item]


def test_components_have_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keys, "MAX_COMPONENT_BYTES", 10)
    with pytest.raises(LimitExceeded) as caught:
        recipe_key({"a": "bcd"})
    assert (caught.value.actual, caught.value.limit) == (12, 10)


def test_a_key_is_read_from_its_digits() -> None:
    key = content_key(Kind.TEXT, b"")
    assert parse_key(key.hex()) == key
    assert key.hex().startswith(short(key))
    for wrong in "", "00", key.hex()[:-1] + "g", " " + key.hex(), key.hex()[:-1] + " ":
        with pytest.raises(UsageError):
            parse_key(wrong)
