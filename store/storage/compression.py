"""Compression: the only module that imports zstandard. Thread-safe; contexts are kept per thread."""

from __future__ import annotations

import threading

import zstandard

from firebrick.errors import DecodeError

Data = bytes | bytearray | memoryview


class _Contexts(threading.local):
    """The zstd contexts of one thread: they must not be shared, and are costly to create."""

    def __init__(self) -> None:
        self.compressors: dict[int, zstandard.ZstdCompressor] = {}
        self.decompressor = zstandard.ZstdDecompressor()

    def compressor(self, level: int) -> zstandard.ZstdCompressor:
        if level not in self.compressors:
            self.compressors[level] = zstandard.ZstdCompressor(level=level, write_content_size=True)
        return self.compressors[level]


_contexts = _Contexts()


def compress(data: Data, level: int) -> bytes:
    """Return one frame that states its content size."""
    return _contexts.compressor(level).compress(data)


def content_size(frame: Data) -> int:
    """Return the content size stated by a frame; -1 if it states none.

    Raises:
        DecodeError: the bytes do not begin a frame.
    """
    try:
        return zstandard.frame_content_size(frame)
    except zstandard.ZstdError as error:
        raise DecodeError(f"zstd: {error}") from None


def decompress(frame: Data, size: int) -> bytes:
    """Return the content of a single frame.

    Args:
        frame: the whole frame, without trailing bytes.
        size: the content size; no more is allocated. The caller has checked it against its limits.

    Raises:
        DecodeError: the bytes are not such a frame.
    """
    try:
        return _contexts.decompressor.decompress(frame, max_output_size=size, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise DecodeError(f"zstd: {error}") from None
    except MemoryError:
        raise DecodeError(f"{size} bytes are more than this process can hold") from None
