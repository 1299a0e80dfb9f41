"""The limit of a store's bytes on disk."""

from __future__ import annotations

import os

from firebrick.errors import StrPath, UsageError
from firebrick.storage import format as fmt

_LOCK_BYTES = 64 * (fmt.MAX_READERS + 2)


def data_limit(path: StrPath, max_bytes: int | None) -> int:
    """Return the bytes a data file may have within its store's limit; 0: no limit.

    Args:
        path: of the store, existing or not.
        max_bytes: of the store; 0: no limit; None: `format.MAX_BYTES`, or `format.MAX_SHARE` of the disk if
            that is less.

    Raises:
        UsageError: `max_bytes` is less than `format.MIN_MAX_BYTES`.
    """
    if max_bytes is None:
        max_bytes = max(fmt.MIN_MAX_BYTES, min(fmt.MAX_BYTES, int(_disk_bytes(path) * fmt.MAX_SHARE)))
    if max_bytes and max_bytes < fmt.MIN_MAX_BYTES:
        raise UsageError(f"max_bytes must be at least {fmt.MIN_MAX_BYTES}, or 0, not {max_bytes}")
    return max_bytes and (max_bytes - _LOCK_BYTES) // 65536 * 65536


def _disk_bytes(path: StrPath) -> float:
    name = os.path.abspath(path)
    while True:
        try:
            disk = os.statvfs(name)
        except OSError:
            if name in ("", os.sep):
                return float("inf")
            name = os.path.dirname(name)
        else:
            return float(disk.f_blocks * disk.f_frsize)
