"""Decide whether a directory is a safe place for a store: local, private, no symbolic link."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable

from firebrick.errors import (
    NetworkFilesystemError,
    StoreError,
    StoreNotFound,
    StorePermissionError,
    StrPath,
    UsageError,
)
from firebrick.format import DATA_FILE, DIRECTORY_MODE, LOCAL_FUSE, LOCK_FILE, NETWORK_FILESYSTEMS

_MOUNTINFO = "/proc/self/mountinfo"


def prepare(path: StrPath, *, readonly: bool, create: bool) -> str:
    """Check the directory of a store, make it if asked to, and return its real path.

    A new directory, and an empty one of this user, get mode 0700. Otherwise nothing is changed: the
    directory must belong to this user, or for reading to root, and nobody else may write into it; a
    writer's must not be open to others at all.

    Raises:
        UsageError: The path is empty.
        NetworkFilesystemError: The directory lies on a file system shared between machines.
        StoreNotFound: There is no directory and none is to be made.
        StorePermissionError: It is a symbolic link, no directory, or not private.
    """
    if not os.fspath(path):
        raise UsageError("the path of a store is empty")
    path = os.path.abspath(path)
    try:
        if create and not readonly and not os.path.lexists(path):
            refuse_network(os.path.dirname(path))
            os.makedirs(os.path.dirname(path), exist_ok=True)
            os.mkdir(path, DIRECTORY_MODE)
    except FileExistsError:
        pass  # made by another process in the meantime, and checked like any other
    except OSError as error:
        raise _os_error(path, error) from error
    info = _lstat(path, path, stat.S_ISDIR, "directory")
    refuse_network(path)
    if not readonly:
        if info.st_uid != os.geteuid():
            raise StorePermissionError(path, f"it belongs to user {info.st_uid}, not {os.geteuid()}")
        if stat.S_IMODE(info.st_mode) & 0o077:
            _close_to_others(path, info)
    for name in DATA_FILE, LOCK_FILE:
        file = os.path.join(path, name)
        if os.path.lexists(file):
            _lstat(path, file, stat.S_ISREG, "file")
    return os.path.realpath(path)


def _lstat(path: str, file: str, is_type: Callable[[int], bool], noun: str) -> os.stat_result:
    try:
        info = os.lstat(file)
    except FileNotFoundError:
        raise StoreNotFound(path, "no such directory") from None
    except OSError as error:
        raise _os_error(path, error) from error
    if stat.S_ISLNK(info.st_mode):
        raise StorePermissionError(path, f"{file} is a symbolic link")
    if not is_type(info.st_mode):
        raise StorePermissionError(path, f"{file} is not a {noun}")
    if info.st_uid not in (os.geteuid(), 0):
        raise StorePermissionError(path, f"{file} belongs to user {info.st_uid}, not {os.geteuid()}")
    if stat.S_IMODE(info.st_mode) & 0o022:
        raise StorePermissionError(
            path, f"{file} has mode {stat.S_IMODE(info.st_mode):o}: others may write to it"
        )
    return info


def _close_to_others(path: str, info: os.stat_result) -> None:
    try:
        if os.listdir(path):
            raise StorePermissionError(path, f"its mode is {stat.S_IMODE(info.st_mode):o}, not 700")
        os.chmod(path, DIRECTORY_MODE)
    except OSError as error:
        raise _os_error(path, error) from error


def _os_error(path: str, error: OSError) -> StoreError:
    if isinstance(error, PermissionError):
        return StorePermissionError(path, str(error))
    return StoreError(path, str(error))


def refuse_network(path: str) -> None:
    """Raise NetworkFilesystemError if a path lies on a file system shared between machines."""
    kind = filesystem(os.path.realpath(path))
    if kind in NETWORK_FILESYSTEMS or kind.partition(".")[2] in NETWORK_FILESYSTEMS:
        raise NetworkFilesystemError(
            path,
            f"{kind} is shared between machines, and they do not see each other's locks and maps",
        )
    if kind.partition(".")[0] in ("fuse", "fuseblk") and kind not in LOCAL_FUSE:
        raise NetworkFilesystemError(path, f"nothing is known of the memory maps of {kind}")


def filesystem(path: str) -> str:
    """Name the file system that a real path is on ("ext4", "fuse.sshfs"), "" if not known.

    Reads the mount table: the last entry with the longest mount point that is a parent of the path.
    Device numbers do not serve, as they differ between the table and stat on btrfs and overlay.
    Without a table (not Linux) nothing is known.
    Source: proc(5), /proc/pid/mountinfo.
    """
    try:
        with open(_MOUNTINFO, "rb") as table:
            lines = table.read().splitlines()
    except OSError:
        return ""
    best, found = -1, ""
    target = os.fsencode(path).rstrip(b"/") + b"/"
    for line in lines:
        left, _, right = line.partition(b" - ")
        point = left.split(b" ")[4]
        if b"\\" in point:
            point = point.decode("unicode_escape").encode("latin-1")
        point = point.rstrip(b"/") + b"/"
        if target.startswith(point) and len(point) >= best:
            best, found = len(point), os.fsdecode(right.split(b" ")[0])
    return found
