"""Read the properties of a CUDA binary's (cubin's) kernels, without a driver.

Source: the section ``.nv.info`` of cubins, as ``cuobjdump --dump-resource-usage`` reads it: entries of a
format (u8), an attribute (u8) and a value or its length (u16).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from typing import Final

from firebrick.errors import DecodeError

MAX_SECTIONS: Final = 4096
_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
_SECTION = struct.Struct("<IIQQQQIIQQ")
_SYMBOL = struct.Struct("<IBBHQQ")
_ENTRY = struct.Struct("<BBH")
_PAIR = struct.Struct("<II")
_IDENT: Final = b"\x7fELF\x02\x01"  # 64 bit, little-endian
_CUDA: Final = 190  # machine
_SIZED: Final = 4  # format of entries followed by their value
_REGISTERS: Final = 0x2F  # attribute: index of a symbol, number of registers
_INFO: Final = ".nv.info"


def registers(data: bytes | memoryview) -> Mapping[str, int]:
    """Return registers per thread by kernel name; empty if the binary does not record them.

    Raises:
        DecodeError: it is not a complete cubin.
    """
    view = memoryview(data)
    try:
        return dict(_registers(view))
    except (struct.error, IndexError, OverflowError, UnicodeDecodeError) as error:
        raise DecodeError(f"not a cubin: {error}") from None


def _registers(view: memoryview) -> Iterator[tuple[str, int]]:
    header = _HEADER.unpack_from(view)
    if bytes(view[: len(_IDENT)]) != _IDENT or header[2] != _CUDA:
        raise DecodeError("not a cubin")
    at, size, count, names = header[6], header[11], header[12], header[13]
    if size != _SECTION.size or count > MAX_SECTIONS:
        raise DecodeError(f"a cubin with {count} sections of {size} bytes")
    sections = [_SECTION.unpack_from(view, at + number * size) for number in range(count)]

    def body(number: int) -> memoryview:
        _, _, _, _, offset, length, *_ = sections[number]
        if offset + length > len(view):
            raise DecodeError(f"section {number} ends {offset + length - len(view)} bytes behind the file")
        return view[offset : offset + length]

    titles = body(names)
    for number, section in enumerate(sections):
        if _text(titles, section[0]) == _INFO:
            symbols = sections[section[6]]  # the section this one is linked to
            texts = body(symbols[6])
            for symbol, value in _pairs(body(number)):
                name = _SYMBOL.unpack_from(body(section[6]), symbol * _SYMBOL.size)[0]
                yield _text(texts, name), value


def _pairs(info: memoryview) -> Iterator[tuple[int, int]]:
    at = 0
    while at < len(info):
        form, attribute, value = _ENTRY.unpack_from(info, at)
        at += _ENTRY.size
        if form == _SIZED:
            if attribute == _REGISTERS:
                yield _PAIR.unpack_from(info, at)
            at += value


def _text(strings: memoryview, start: int) -> str:
    rest = bytes(strings[start : start + 1024])
    return rest[: rest.index(0) if 0 in rest else None].decode()
