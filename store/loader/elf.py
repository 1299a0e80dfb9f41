"""Reduce a shared library to the parts the dynamic linker needs, equal for equal code.

A compiler writes directories into debug information, and the linker a build id over everything. Neither is
loaded; without them equal kernels are equal bytes, and less than half the size.
"""

from __future__ import annotations

import struct

from firebrick.codecs.library import read_elf

_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
_SEGMENT = struct.Struct("<IIQQQQQQ")
_NOTE = struct.Struct("<III")
_PT_NOTE = 4
_NT_GNU_BUILD_ID = 3


def reduce_elf(data: bytes) -> bytes:
    """Return a 64-bit little-endian shared object without sections, its build id cleared.

    Raises:
        DecodeError: the bytes are not such a file.

    Source: System V ABI, chapter 5 (program loading needs segments only).
    """
    read_elf(data)  # checks every offset followed here
    header = list(_HEADER.unpack_from(data))
    at, size, count = header[5], header[9], header[10]
    segments = [_SEGMENT.unpack_from(data, at + i * size) for i in range(count)]
    end = max(offset + length for _, _, offset, _, _, length, _, _ in segments)
    reduced = bytearray(data[: max(end, at + count * size)])
    header[6] = header[12] = header[13] = 0  # section headers: offset, number, names
    _HEADER.pack_into(reduced, 0, *header)
    for kind, _, offset, _, _, length, _, _ in segments:
        if kind == _PT_NOTE:
            _clear_build_id(reduced, offset, offset + length)
    return bytes(reduced)


def _clear_build_id(data: bytearray, at: int, end: int) -> None:
    while at + _NOTE.size <= end:
        name_length, length, kind = _NOTE.unpack_from(data, at)
        name_at = at + _NOTE.size
        text_at = name_at + (name_length + 3 & ~3)
        if text_at + length > end:
            return
        if kind == _NT_GNU_BUILD_ID and data[name_at : name_at + name_length] == b"GNU\0":
            data[text_at : text_at + length] = bytes(length)
        at = text_at + (length + 3 & ~3)
