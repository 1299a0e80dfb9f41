"""Digests: the only module that imports blake3.

Two uses never share a digest if one of them names its own *context* (BLAKE3's mode ``derive_key``).
"""

from __future__ import annotations

from blake3 import blake3 as Hasher

__all__ = ["Hasher", "digest", "hasher_for", "hex_digest"]

Data = bytes | bytearray | memoryview


def hasher_for(context: str) -> Hasher:
    """Return a new hasher for one use; deriving a context costs more than hashing a small value."""
    return Hasher(derive_key_context=context)


def digest(data: Data) -> bytes:
    """Return the digest as 32 bytes."""
    return Hasher(data).digest()


def hex_digest(data: Data) -> str:
    """Return the digest as 64 hexadecimal characters."""
    return Hasher(data).hexdigest()
