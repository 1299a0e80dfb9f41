"""Digests: the only module that imports blake3.

Two uses never share a digest where one of them names its own *context* (BLAKE3's mode ``derive_key``).
"""

from __future__ import annotations

from blake3 import blake3 as Hasher

__all__ = ["Hasher", "digest", "hasher_for", "hex_digest"]

Data = bytes | bytearray | memoryview


def hasher_for(context: str) -> Hasher:
    """Return a new hasher for one use; a context that is derived costs more than a small value."""
    return Hasher(derive_key_context=context)


def digest(data: Data) -> bytes:
    """Return 32 bytes."""
    return Hasher(data).digest()


def hex_digest(data: Data) -> str:
    """Return 64 characters."""
    return Hasher(data).hexdigest()
