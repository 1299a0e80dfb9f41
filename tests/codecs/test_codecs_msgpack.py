"""One form for packed bytes, and limits that hold before anything is allocated."""

import struct
import tracemalloc
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firebrick.errors import DecodeError, EncodeError, LimitExceeded
from firebrick.storage import msgpack
from firebrick.storage.msgpack import Limits, pack, unpack

scalars = st.one_of(st.none(), st.booleans(), st.integers(-(1 << 63), (1 << 64) - 1), st.text(), st.binary())
values = st.recursive(
    scalars,
    lambda inner: st.one_of(st.lists(inner), st.dictionaries(scalars, inner)),
    max_leaves=20,
)


@given(values)
def test_what_is_packed_is_unpacked(value: Any) -> None:
    assert unpack(pack(value)) == value


@given(st.dictionaries(st.text(), values))
def test_the_order_of_a_map_does_not_show(value: dict[str, Any]) -> None:
    backwards = dict(reversed(value.items()))
    assert pack(backwards) == pack(value)
    assert pack([backwards, {"in": backwards}]) == pack((value, {"in": value}))


@given(st.floats())
def test_floats_keep_every_bit(value: float) -> None:
    assert pack(value) == b"\xcb" + struct.pack(">d", value)
    assert struct.pack(">d", unpack(pack(value))) == struct.pack(">d", value)


def test_lone_surrogates_survive() -> None:
    assert unpack(pack("a\ud800b")) == "a\ud800b"


@given(st.binary(max_size=50))
def test_arbitrary_bytes_are_refused_or_unpacked(data: bytes) -> None:
    try:
        unpack(data)
    except (DecodeError, LimitExceeded):
        pass


@pytest.mark.parametrize("value", [1 << 64, -(1 << 63) - 1, object(), {1, 2}, 1j, [bytearray]])
def test_what_msgpack_does_not_have_is_refused(value: Any) -> None:
    with pytest.raises(EncodeError):
        pack(value)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "not msgpack"),
        (b"\x92\x01", "not msgpack"),
        (b"\x01\x02", "1 bytes left over"),
        (b"\xc1", "not msgpack"),
        (b"\xa1\xff", "not msgpack"),
        (b"\x82\x01\x02\x01\x03", "twice"),
        (b"\x82\x01\x02\xcb\x3f\xf0\x00\x00\x00\x00\x00\x00\x03", "twice"),
        (b"\x81\x90\x01", "not msgpack"),
        (b"\xd6\xff\x00\x00\x00\x00", "not msgpack"),
        (b"\xd4\x05\x00", "not msgpack"),
    ],
)
def test_what_is_not_one_valid_value_is_refused(data: bytes, reason: str) -> None:
    with pytest.raises(DecodeError, match=reason):
        unpack(data)


def test_a_value_may_be_as_deep_as_the_limit_and_no_deeper() -> None:
    def deep(levels: int) -> Any:
        value: Any = 1
        for level in range(levels):
            value = [value] if level % 2 else {1: value}
        return value

    limits = Limits(depth=5)
    assert unpack(pack(deep(5)), limits) == deep(5)
    with pytest.raises(LimitExceeded) as caught:
        unpack(pack(deep(6)), limits)
    assert (caught.value.what, caught.value.limit) == ("nesting", 5)
    with pytest.raises(LimitExceeded):
        unpack(b"\x91" * 5000 + b"\x01")


def test_long_and_large_encodings_are_refused() -> None:
    with pytest.raises(LimitExceeded) as caught:
        unpack(bytes(100), Limits(size=99))
    assert (caught.value.actual, caught.value.limit) == (100, 99)
    assert unpack(pack([0] * 9), Limits(items=9)) == [0] * 9
    with pytest.raises(DecodeError, match="exceeds"):
        unpack(pack([0] * 9), Limits(items=8))


@pytest.mark.parametrize("head", [b"\xdd", b"\xdf", b"\xdb", b"\xc6", b"\xc9"])
def test_a_length_beyond_the_data_allocates_nothing(head: bytes) -> None:
    data = head + b"\x7f\xff\xff\xff" + bytes(20)
    tracemalloc.start()
    try:
        with pytest.raises(DecodeError):
            unpack(data)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_a_packed_value_larger_than_a_blob_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(msgpack, "MAX_BLOB_BYTES", 10)
    assert len(pack(bytes(8))) == 10
    with pytest.raises(LimitExceeded) as caught:
        pack(bytes(9))
    assert (caught.value.actual, caught.value.limit) == (11, 10)


def test_a_promise_of_no_maps_gives_the_same_bytes() -> None:
    value = [1, ["a", (b"b", None)], 2.5]
    assert pack(value, maps=False) == pack(value)
