"""Compression: the only module that imports zstandard. Thread-safe; contexts are kept for each thread."""

from __future__ import annotations

import threading

import zstandard

from firebrick.errors import DecodeError

Data = bytes | bytearray | memoryview


class _Contexts(threading.local):
    """Keep zstd contexts for one thread: they must not be shared, and are costly to make."""

    def __init__(self) -> None:
        self.compressors: dict[int, zstandard.ZstdCompressor] = {}
        self.decompressor = zstandard.ZstdDecompressor()

    def compressor(self, level: int) -> zstandard.ZstdCompressor:
        if level not in self.compressors:
            self.compressors[level] = zstandard.ZstdCompressor(level=level, write_content_size=True)
        return self.compressors[level]


_contexts = _Contexts()


def compress(data: Data, level: int) -> bytes:
    """Return one frame that says how long its content is."""
    return _contexts.compressor(level).compress(data)


def content_size(frame: Data) -> int:
    """Return how long the content of a frame is, as it says; -1 where it does not.

    Raises:
        DecodeError: these bytes begin no frame.
    """
    try:
        return zstandard.frame_content_size(frame)
    except zstandard.ZstdError as error:
        raise DecodeError(f"zstd: {error}") from None


def decompress(frame: Data, size: int) -> bytes:
    """Return the content of the one frame that the bytes are.

    Args:
        frame: all of it, with nothing behind.
        size: how long the content is; no more is allocated. The caller has compared it with its limits.

    Raises:
        DecodeError: these bytes are no such frame.
    """
    try:
        return _contexts.decompressor.decompress(frame, max_output_size=size, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise DecodeError(f"zstd: {error}") from None
