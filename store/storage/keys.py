"""Compute the keys of blobs and recipes: BLAKE3-256 in key-derivation mode.

Every use has a separate context string, so that equal bytes of two kinds, or a recipe and a blob, never share
a key. The strings contain `format.KEY_VERSION`. It must be raised when the strings, the canonical form of
components or the hash change; it need not be raised for a new kind or codec version, which the string already
contains.
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Mapping
from typing import NewType

from firebrick.base.digest import Hasher, hasher_for
from firebrick.errors import DecodeError, LimitExceeded, UsageError
from firebrick.storage.format import CHECK_BYTES, KEY_BYTES, KEY_VERSION, MAX_COMPONENT_BYTES, Kind

ContentKey = NewType("ContentKey", bytes)
Data = bytes | bytearray | memoryview

_LENGTH = struct.Struct("<I")


@functools.cache
def _hasher(use: str) -> Hasher:
    # Copied for each digest: deriving the context costs more than hashing a small blob.
    return hasher_for(f"firebrick {KEY_VERSION} {use}")


def _digest(use: str, *parts: Data) -> bytes:
    hasher = _hasher(use).copy()
    for part in parts:
        hasher.update(part)
    return hasher.digest()


def content_key(kind: Kind, data: Data, version: int = 1) -> ContentKey:
    """Return the content key of bytes.

    Args:
        kind: The kind of the bytes.
        data: The uncompressed bytes from the codec; contiguous.
        version: Version of that codec. It is part of the key, because the same bytes may mean something else
            in another version, and so that the key covers every field of a header.

    Returns:
        32 bytes.

    Hashes on the calling thread only and releases the interpreter lock for large inputs; any thread
    may call it. Source: BLAKE3 paper, section 2.3, mode `derive_key`.
    """
    return ContentKey(_digest(f"blob {int(kind)} {version}", data))


def record_check(database: str, key: bytes, body: Data) -> bytes:
    """Return the checksum (16 bytes) of a record; it detects damage and misplacement, not forgery."""
    return _digest(f"record {database}", _LENGTH.pack(len(key)), key, body)[:CHECK_BYTES]


def short_hash(use: str, *parts: bytes) -> bytes:
    """Return the hash of byte strings, each with its length: 16 bytes for a database key."""
    return _digest(use, pack_strings(parts))[:16]


def recipe_key(components: Mapping[str, str]) -> bytes:
    """Return the key of a recipe: 32 bytes over the canonical form of its components.

    Raises:
        UsageError: A name or value is not text that UTF-8 can hold.
        LimitExceeded: They are longer than `format.MAX_COMPONENT_BYTES`.
    """
    return _digest("recipe", pack_components(components))


def pack_components(components: Mapping[str, str]) -> bytes:
    """Return components in canonical form: name and value in turn, sorted by name as UTF-8 bytes.

    Raises:
        UsageError: A name or value is not text that UTF-8 can hold.
        LimitExceeded: They are longer than `format.MAX_COMPONENT_BYTES`.
    """
    try:
        pairs = sorted((name.encode(), value.encode()) for name, value in components.items())
    except (UnicodeEncodeError, AttributeError) as error:
        raise UsageError(f"components must be text: {error}") from None
    packed = pack_strings([part for pair in pairs for part in pair])
    if len(packed) > MAX_COMPONENT_BYTES:
        raise LimitExceeded("length of the components", len(packed), MAX_COMPONENT_BYTES)
    return packed


def unpack_components(data: Data) -> dict[str, str]:
    """Parse the result of `pack_components`; anything not canonical is a DecodeError."""
    try:
        texts = [part.decode() for part in unpack_strings(data)]
    except UnicodeDecodeError as error:
        raise DecodeError(f"components: {error}") from None
    components = dict(zip(texts[::2], texts[1::2], strict=False))
    if len(texts) % 2 or pack_components(components) != data:
        raise DecodeError("components are not in canonical form")
    return components


def pack_strings(parts: list[bytes] | tuple[bytes, ...]) -> bytes:
    """Join byte strings, each preceded by its length (u32, little-endian)."""
    return b"".join(piece for part in parts for piece in (_LENGTH.pack(len(part)), part))


def unpack_strings(data: Data) -> list[bytes]:
    """Parse the result of `pack_strings`; every byte must be accounted for, else DecodeError."""
    parts: list[bytes] = []
    view = memoryview(data)
    at = 0
    while at < len(view):
        if len(view) - at < _LENGTH.size:
            raise DecodeError(f"{len(view) - at} bytes left where a length was expected")
        end = at + _LENGTH.size + _LENGTH.unpack_from(view, at)[0]
        if end > len(view):
            raise DecodeError(f"a string ends {end - len(view)} bytes behind the data")
        parts.append(bytes(view[at + _LENGTH.size : end]))
        at = end
    return parts


def parse_key(text: str) -> ContentKey:
    """Parse a key from 64 hexadecimal digits; UsageError for anything else."""
    try:
        key = bytes.fromhex(text)
    except ValueError:
        key = b""
    if len(key) != KEY_BYTES or len(text) != 2 * KEY_BYTES:
        raise UsageError(f"not a key of {2 * KEY_BYTES} hexadecimal digits: {text!r}")
    return ContentKey(key)


def short(key: bytes) -> str:
    """Return the first 12 hexadecimal digits of a key, for messages and logs."""
    return key[:6].hex()
