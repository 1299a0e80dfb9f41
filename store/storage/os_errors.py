"""Translate system errors into store errors, by number and never by text."""

from __future__ import annotations

import contextlib
import errno
import os
import resource

from firebrick.errors import StoreError, StoreFull, StoreNotFound, StorePermissionError, StoreReadOnly

_FULL = frozenset((errno.ENOSPC, errno.EDQUOT, errno.EFBIG))


def store_error(path: str, code: int, detail: str) -> StoreError:
    """Return the store error for an error number, for a store at a path."""
    if code in _FULL or (code == errno.EIO and _no_room(path)):
        return StoreFull(path, detail)
    if code == errno.EROFS:
        return StoreReadOnly(path, detail)
    if code in (errno.EACCES, errno.EPERM):
        return StorePermissionError(path, detail)
    if code == errno.ENOENT:
        return StoreNotFound(path, detail)
    return StoreError(path, detail)


def from_system(path: str, error: OSError) -> StoreError:
    """Return the store error for an OSError, for a store at a path."""
    return store_error(path, error.errno or 0, str(error))


def _no_room(path: str) -> bool:
    """Tell whether a short write, an I/O error to LMDB, may be due to a full disk or a limit."""
    if resource.getrlimit(resource.RLIMIT_FSIZE)[0] != resource.RLIM_INFINITY:
        return True
    with contextlib.suppress(OSError):
        disk = os.statvfs(path)
        return disk.f_bavail * disk.f_frsize < 1 << 20
    return False
