"""Numbers in an encoding are not believed: nothing large is made because a number says so."""

import copy
import io
import json
import pickle
import struct
import sys
import tracemalloc
from collections import Counter, deque
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from firebrick import codecs
from firebrick.codecs.abc import MAX_COUNT, child
from firebrick.codecs.graph import PLAIN, Op, decode_graph
from firebrick.codecs.guards import GuardsCodec, scan
from firebrick.errors import BlobMissing, CodecError, DecodeError, EncodeError, FirebrickError, LimitExceeded
from firebrick.storage.blob import StoredBlob
from firebrick.storage.format import Kind
from firebrick.storage.keys import ContentKey
from firebrick.storage.msgpack import pack, unpack
from support.places import GOLDEN

FOLDER = GOLDEN
INDEX: dict[str, Any] = json.loads((FOLDER / "index.json").read_text())
TAG = f".{sys.implementation.cache_tag}."
NAMES = sorted(name for name in INDEX if name.endswith(".bin") and (".cpython-" not in name or TAG in name))
NUMBERS = (1 << 31, 1 << 60, (1 << 64) - 1, -1, -(1 << 63))
HEADED = (Kind.TENSOR, Kind.LIBRARY)  # a length, a head in msgpack, and bytes
LENGTH = struct.Struct("<I")
ROOM = 32 << 20  # bytes


def source(name: str) -> Callable[[ContentKey], StoredBlob]:
    blobs = {
        bytes.fromhex(child["key"]): StoredBlob(
            Kind[child["kind"]], child["version"], (FOLDER / child["file"]).read_bytes()
        )
        for child in INDEX[name]["children"]
    }

    def get(key: ContentKey) -> StoredBlob:
        assert type(key) is bytes
        if key not in blobs:
            raise BlobMissing(key)
        return blobs[key]

    return get


def variants(value: Any) -> Iterator[Any]:
    """Put each number at the place of each leaf of a value."""
    places: list[tuple[Any, ...]] = [()]
    while places:
        place = places.pop()
        part = value
        for index in place:
            part = part[index]
        if isinstance(part, list | dict):
            places += [(*place, index) for index in (part if isinstance(part, dict) else range(len(part)))]
        for number in NUMBERS:
            if not place:
                yield number
                continue
            changed = copy.deepcopy(value)
            parent = changed
            for index in place[:-1]:
                parent = parent[index]
            parent[place[-1]] = number
            yield changed


def bodies(name: str) -> Iterator[bytes]:
    data = (FOLDER / name).read_bytes()
    head, tail = b"", b""
    if Kind[INDEX[name]["kind"]] in HEADED:
        (length,) = LENGTH.unpack_from(data)
        data, tail = data[LENGTH.size : LENGTH.size + length], data[LENGTH.size + length :]
    try:
        value = unpack(data)
    except CodecError:
        return  # text
    for changed in variants(value):
        body = pack(changed)
        if Kind[INDEX[name]["kind"]] in HEADED:
            head = LENGTH.pack(len(body))
        yield head + body + tail


@pytest.mark.parametrize("name", NAMES)
def test_a_number_anywhere_is_refused_or_costs_nothing(name: str) -> None:
    facts, get = INDEX[name], source(name)
    tracemalloc.start()
    try:
        for body in bodies(name):
            tracemalloc.reset_peak()
            before = tracemalloc.get_traced_memory()[0]
            try:
                codecs.decode(Kind[facts["kind"]], facts["version"], body, get)
            except FirebrickError:
                pass
            assert tracemalloc.get_traced_memory()[1] - before < ROOM
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("key", [0, 32, 1 << 31, 1 << 60, -1, True, None, "k" * 32, [1] * 32, b"short", b""])
def test_what_is_no_key_is_refused_before_anything_is_asked_for(key: Any) -> None:
    def never(key: ContentKey) -> StoredBlob:
        raise AssertionError

    with pytest.raises(DecodeError):
        child(never, key, Kind.TENSOR)


LONG = range(MAX_COUNT + 1)


@pytest.mark.parametrize("call", [Op.CALL, Op.NEW])
@pytest.mark.parametrize("name", ["collections:deque", "collections:Counter"])
@pytest.mark.parametrize("stop", [MAX_COUNT + 1, 1 << 40, 1 << 62])
def test_a_graph_makes_no_container_of_a_long_range(call: Op, name: str, stop: int) -> None:
    nodes = [[int(Op.GLOBAL), name], 0, stop, 1, [int(Op.RANGE), 1, 2, 3], [int(call), 0, 4]]
    with pytest.raises(LimitExceeded):
        decode_graph(pack([nodes, [], 5]), PLAIN, codecs.Collector())  # type: ignore[arg-type]


def test_a_graph_makes_one_of_a_short_range_and_keeps_a_long_one() -> None:
    nodes = [[int(Op.GLOBAL), "collections:deque"], 0, 3, 1, [int(Op.RANGE), 1, 2, 3], [int(Op.CALL), 0, 4]]
    assert decode_graph(pack([nodes, [], 5]), PLAIN, codecs.Collector()) == deque([0, 1, 2])  # type: ignore[arg-type]
    nodes = [0, 1 << 60, 1, [int(Op.RANGE), 0, 1, 2]]
    assert decode_graph(pack([nodes, [], 3]), PLAIN, codecs.Collector()) == range(1 << 60)  # type: ignore[arg-type]


class Calls:
    def __init__(self, function: object, *args: object) -> None:
        self.reduced = function, args

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return self.reduced


@pytest.mark.parametrize(
    ("function", "argument"),
    [
        (bytearray, 1 << 40),
        (bytearray, True),
        *((f, LONG) for f in (list, set, tuple, frozenset, deque, Counter)),
    ],
)
def test_a_guard_state_makes_nothing_of_a_number(function: type, argument: object) -> None:
    from firebrick.guards.unpickler import _Unpickler

    with pytest.raises((DecodeError, LimitExceeded)):
        _Unpickler(io.BytesIO(pickle.dumps(Calls(function, argument), 4))).load()


def test_a_number_is_no_guard_state() -> None:
    with pytest.raises(EncodeError):
        GuardsCodec().encode(1 << 31, codecs.Collector())  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        scan(1 << 31)  # type: ignore[arg-type]


def test_a_guarded_dict_has_a_length_that_can_be_made() -> None:
    name = next(name for name in NAMES if INDEX[name]["kind"] == "GUARD_PROGRAM")
    program = unpack((FOLDER / name).read_bytes())
    for length in MAX_COUNT + 1, 1 << 60, -3:
        program[9] = [[-1, 0, length]]
        with pytest.raises(DecodeError):
            codecs.decode(Kind.GUARD_PROGRAM, 1, pack(program), source(name))


def test_memory_that_is_not_there_is_an_error_of_the_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    import msgpack

    def fail(*_: object, **__: object) -> Any:
        raise MemoryError

    monkeypatch.setattr(msgpack, "unpackb", fail)
    with pytest.raises(DecodeError):
        unpack(b"\xc0")
    monkeypatch.undo()
    monkeypatch.setattr(type(codecs.codec_for(Kind.TEXT)), "decode", fail)
    with pytest.raises(DecodeError):
        codecs.decode(Kind.TEXT, 1, b"", source(NAMES[0]))
