"""Encode shared libraries with the facts needed before loading them.

Byte by byte: u32 little-endian length of the head, the head (msgpack), the bytes of the library.
The head is `[file name, symbols, vector ISA, required ISA flags, machine, needed libraries]`.
Machine and needed libraries are read from the ELF file itself and compared again at decoding; ELF
files that are truncated or of another kind than a 64-bit little-endian shared object are refused.
"""

import struct
from collections.abc import Iterator
from typing import Final

from firebrick.base.namedtuple import NamedTuple
from firebrick.codecs.abc import Codec, Sink, Source
from firebrick.errors import CodecError, DecodeError, EncodeError, LimitExceeded
from firebrick.storage.format import MAX_BLOB_BYTES, Kind
from firebrick.storage.msgpack import Limits, pack, unpack

Data = bytes | bytearray | memoryview

MACHINES: Final = {62: "x86_64", 183: "aarch64", 243: "riscv64"}
MAX_HEADERS: Final = 128  # per file; linkers write about a dozen
MAX_NEEDED: Final = 256

_LIMITS = Limits(size=1 << 20, depth=2)
_LENGTH = struct.Struct("<I")
_IDENT = b"\x7fELF\x02\x01\x01"  # 64 bit, little-endian, version 1
_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
_SEGMENT = struct.Struct("<IIQQQQQQ")
_DYNAMIC = struct.Struct("<qQ")
_ET_DYN = 3
_PT_LOAD, _PT_DYNAMIC = 1, 2
_DT_NULL, _DT_NEEDED, _DT_STRTAB, _DT_STRSZ, _DT_SONAME = 0, 1, 5, 10, 14


class Elf(NamedTuple):
    """The header data of an ELF file: machine, DT_NEEDED in order, DT_SONAME or ""."""

    machine: str
    needed: tuple[str, ...]
    soname: str


class _Segment(NamedTuple):
    kind: int
    offset: int
    address: int
    size: int


def read_elf(data: Data) -> Elf:
    """Return machine and needed libraries of a 64-bit little-endian ELF shared object.

    Every offset is checked against the file's length before it is followed.

    Raises:
        DecodeError: Not such a file, truncated, or without a dynamic section.
        LimitExceeded: More program headers or needed libraries than any linker writes.

    Source: System V ABI, chapters 4 and 5.
    """
    view = memoryview(data)
    if len(view) < _HEADER.size or view[: len(_IDENT)] != _IDENT:
        raise DecodeError("not a 64-bit little-endian ELF file")
    header = _HEADER.unpack_from(view)
    _, kind, machine, version, _, at, sections, _, size, entry, count, section, number, _ = header
    if kind != _ET_DYN or version != 1 or size != _HEADER.size or entry != _SEGMENT.size:
        raise DecodeError(f"an ELF file of type {kind}, version {version}, header sizes {size} and {entry}")
    if machine not in MACHINES:
        raise DecodeError(f"ELF machine {machine} is not known")
    if count > MAX_HEADERS:
        raise LimitExceeded("number of program headers", count, MAX_HEADERS)
    _within(view, "section headers", sections, section * number)
    segments = list(_segments(view, at, count))
    dynamic = [segment for segment in segments if segment.kind == _PT_DYNAMIC]
    if len(dynamic) != 1:
        raise DecodeError(f"{len(dynamic)} dynamic segments, expected 1")
    entries = list(_dynamic(view, dynamic[0]))
    address, length = (_only(entries, tag) for tag in (_DT_STRTAB, _DT_STRSZ))
    strings = _strings(view, segments, address, length)
    needed = tuple(_string(strings, value) for tag, value in entries if tag == _DT_NEEDED)
    if len(needed) > MAX_NEEDED:
        raise LimitExceeded("number of needed libraries", len(needed), MAX_NEEDED)
    soname = next((_string(strings, value) for tag, value in entries if tag == _DT_SONAME), "")
    return Elf(MACHINES[machine], needed, soname)


def _within(view: memoryview, what: str, offset: int, length: int) -> memoryview:
    if offset + length > len(view):
        raise DecodeError(f"{what} end {offset + length - len(view)} bytes behind the file")
    return view[offset : offset + length]


def _segments(view: memoryview, at: int, count: int) -> Iterator[_Segment]:
    table = _within(view, "program headers", at, count * _SEGMENT.size)
    for kind, _, offset, address, _, size, _, _ in _SEGMENT.iter_unpack(table):
        _within(view, f"a segment of type {kind:#x}", offset, size)
        yield _Segment(kind, offset, address, size)


def _dynamic(view: memoryview, segment: _Segment) -> Iterator[tuple[int, int]]:
    body = view[segment.offset : segment.offset + segment.size]
    if segment.size % _DYNAMIC.size:
        raise DecodeError(f"a dynamic segment of {segment.size} bytes")
    for tag, value in _DYNAMIC.iter_unpack(body):
        if tag == _DT_NULL:
            return
        yield tag, value
    raise DecodeError("a dynamic segment without an end")


def _only(entries: list[tuple[int, int]], tag: int) -> int:
    values = [value for found, value in entries if found == tag]
    if len(values) != 1:
        raise DecodeError(f"{len(values)} dynamic entries of type {tag}, expected 1")
    return values[0]


def _strings(view: memoryview, segments: list[_Segment], address: int, length: int) -> bytes:
    for segment in segments:
        start = address - segment.address
        if segment.kind == _PT_LOAD and start >= 0 and start + length <= segment.size:
            return bytes(view[segment.offset + start : segment.offset + start + length])
    raise DecodeError("the string table lies in no segment")


def _string(strings: bytes, start: int) -> str:
    end = strings.find(b"\0", start) if start < len(strings) else -1
    if end < 0:
        raise DecodeError("a name lies outside the string table")
    try:
        return strings[start:end].decode()
    except UnicodeDecodeError as error:
        raise DecodeError(f"a name in the string table: {error}") from None


class Library(NamedTuple):
    """One shared library.

    Args:
        name: File name, without directory.
        symbols: Names to look up in it.
        isa: Vector ISA that Inductor chose (`avx2`, `avx512`, `neon`, …); "" for none.
        flags: CPU flags required to run it, sorted.
        data: The ELF file.
    """

    name: str
    symbols: tuple[str, ...]
    isa: str
    flags: tuple[str, ...]
    data: bytes

    @property
    def elf(self) -> Elf:
        """Return the file's header data; raise DecodeError as `read_elf`."""
        return read_elf(self.data)


class LibraryCodec(Codec[Library]):
    """The codec of shared libraries, which are parsed, never loaded."""

    kind = Kind.LIBRARY

    def encode(self, value: Library, sink: Sink) -> bytes:
        """Return head and bytes; raise EncodeError if the file is not a shared object."""
        if not isinstance(value, Library):
            raise EncodeError(type(value).__name__, reason="not a Library")
        if len(value.data) > MAX_BLOB_BYTES - _LIMITS.size:
            raise LimitExceeded("library in bytes", len(value.data), MAX_BLOB_BYTES - _LIMITS.size)
        if list(value.flags) != sorted(set(value.flags)) or not _plain(value.name):
            raise EncodeError(
                "Library",
                value.name,
                "flags must be sorted and unique, the name without a directory",
            )
        try:
            elf = value.elf
        except DecodeError as error:
            raise EncodeError("Library", value.name, error.reason) from None
        fields = [
            value.name,
            list(value.symbols),
            value.isa,
            list(value.flags),
            elf.machine,
            list(elf.needed),
        ]
        head = pack(fields, maps=False)
        if len(head) > _LIMITS.size:
            raise LimitExceeded("head of a library in bytes", len(head), _LIMITS.size)
        return b"".join((_LENGTH.pack(len(head)), head, value.data))

    def decode(self, data: bytes | memoryview, source: Source, version: int) -> Library:
        """Rebuild a library and compare machine and needed libraries with the file's own."""
        self.check_version(version)
        try:
            (length,) = _LENGTH.unpack_from(data)
            body = memoryview(data)[_LENGTH.size :]
            head = unpack(_within(body, "the head", 0, length), _LIMITS)
            name, symbols, isa, flags, machine, needed = head
            texts = (name, isa, machine, *symbols, *flags, *needed)
        except CodecError:
            raise
        except (struct.error, TypeError, ValueError) as error:
            raise DecodeError(f"not a library: {error}") from None
        if not all(type(text) is str for text in texts) or flags != sorted(set(flags)) or not _plain(name):
            raise DecodeError("the head of a library is not in canonical form")
        library = Library(name, tuple(symbols), isa, tuple(flags), bytes(body[length:]))
        elf = library.elf
        if (elf.machine, elf.needed) != (machine, tuple(needed)):
            raise DecodeError(f"{name} is for {elf.machine} and needs {elf.needed}, its head says otherwise")
        return library


def _plain(name: str) -> bool:
    return name not in ("", ".", "..") and not set(name) & set("/\\\0")
