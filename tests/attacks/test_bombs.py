"""A few bytes that claim to be many end in a typed error, before the memory for them is asked for."""

import resource
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

from firebrick import codecs
from firebrick.errors import FirebrickError
from firebrick.storage import format as fmt
from firebrick.storage.blob import FLAG_ZSTD, HEADER, MAGIC, decode_blob
from firebrick.storage.format import Kind
from firebrick.storage.keys import content_key
from firebrick.storage.msgpack import unpack
from support.io_trace import in_child

HUGE, ROOM = 1 << 30, 128 << 20  # what a bomb claims; memory that its reader may take, beyond what it has


def frame(size: int, stated: bool = True) -> bytes:
    """Compress zeros, piece by piece."""
    made = zstandard.ZstdCompressor(write_content_size=stated).compressobj(size=size if stated else -1)
    piece = bytes(1 << 20)
    return b"".join([*(made.compress(piece) for _ in range(size >> 20)), made.flush()])


def value(body: bytes, raw: int, kind: Kind = Kind.WRAPPER) -> bytes:
    return HEADER.pack(MAGIC, kind, 1, FLAG_ZSTD, len(body), raw) + body


def misstated() -> bytes:
    """Return a frame of many bytes whose head states 256."""
    whole = frame(HUGE)
    head = struct.pack("<IBH", 0xFD2FB528, 0x60, 0)  # one segment; a size of two bytes, less 256
    assert zstandard.frame_content_size(head) == 256
    return head + whole[zstandard.frame_header_size(whole) :]


def limited(action: Callable[[], object]) -> int:
    """Run in a child that has little memory; 0 if it ends in a typed error."""

    def run() -> None:
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + ROOM,) * 2)
        with pytest.raises(FirebrickError):
            action()

    return in_child(run)


BOMBS = {
    "all that may be stated": lambda: value(frame(HUGE), HUGE),
    "more than may be stated": lambda: value(frame(HUGE), HUGE + 1),
    "stated small in the header": lambda: value(frame(HUGE), 100),
    "stated nowhere": lambda: value(frame(HUGE, stated=False), 100),
    "stated small in the frame": lambda: value(misstated(), 256),
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_compression_bomb_ends_in_a_typed_error_within_its_memory(name: str) -> None:
    bomb = BOMBS[name]()
    assert len(bomb) < 1 << 20
    assert limited(lambda: decode_blob(bytes(32), bomb)) == 0


def test_a_bomb_under_its_right_key_is_a_typed_error_where_memory_is_short() -> None:
    bomb, key = value(frame(HUGE), HUGE), content_key(Kind.WRAPPER, bytes(HUGE), 1)
    assert limited(lambda: decode_blob(key, bomb)) == 0


LENGTHS = [b"\xc6", b"\xdb", b"\xdd", b"\xdf", b"\xc9"]  # of bytes, text, list, map, extension: 32 bits


@pytest.mark.parametrize("head", LENGTHS)
def test_a_length_of_msgpack_is_not_believed(head: bytes) -> None:
    body = head + b"\xff\xff\xff\xff" + b"\0" * 64
    assert limited(lambda: unpack(body)) == 0
    for kind in codecs.CODECS:
        if kind is not Kind.TEXT and kind is not Kind.WRAPPER:
            assert limited(lambda kind=kind: codecs.decode(kind, 1, body, refuse)) == 0


def test_lists_in_lists_do_not_end_the_process() -> None:
    deep = b"\x91" * 1_000_000 + b"\xc0"
    assert limited(lambda: unpack(deep)) == 0
    for kind in Kind.GRAPH, Kind.CODE, Kind.LEAN_BACKEND, Kind.GUARD_PROGRAM, Kind.BUNDLE:
        assert limited(lambda kind=kind: codecs.decode(kind, 1, deep, refuse)) == 0


def refuse(key: bytes) -> object:
    raise AssertionError(f"asked for {key!r}")


def test_the_limit_of_a_blob_is_what_a_reader_may_have_to_hold() -> None:
    assert fmt.MAX_BLOB_BYTES == HUGE
