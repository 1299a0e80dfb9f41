"""Check whether a directory is a safe place for a store, and hold on to the one checked.

Whoever may write to a parent can redirect a path at any moment. So a directory is opened first, then checked
through its descriptor, and its files are opened through the descriptor too: the directory checked is the one
used.
"""

from __future__ import annotations

import errno
import os
import stat
from typing import Self

from firebrick.errors import (
    NetworkFilesystemError,
    StoreNotFound,
    StorePermissionError,
    StoreReadOnly,
    StrPath,
    UsageError,
)
from firebrick.storage.format import DATA_FILE, DIRECTORY_MODE, LOCAL_FUSE, LOCK_FILE, NETWORK_FILESYSTEMS
from firebrick.storage.os_errors import from_system

_MOUNTINFO = "/proc/self/mountinfo"
_DESCRIPTORS = "/proc/self/fd"


class Place:
    """A checked directory, held by a descriptor; a context manager that releases it.

    Attributes:
        path: Its real path when it was checked, for messages and reopening.
    """

    __slots__ = ("_fd", "path")

    def __init__(self, path: str, fd: int) -> None:
        """Take ownership of a descriptor of the directory at a real path."""
        self.path = path
        self._fd = fd

    def __enter__(self) -> Self:
        """Return the place."""
        return self

    def __exit__(self, *_: object) -> None:
        """Release the directory."""
        self.close()

    def close(self) -> None:
        """Release the directory; a second call does nothing."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    @property
    def inside(self) -> str:
        """Return a path to this directory for opening files by name, valid whatever is renamed.

        If /proc is not mounted it is the real path, and `confirm` detects a replacement afterwards.
        """
        path = f"{_DESCRIPTORS}/{self._fd}"
        try:
            if os.path.samestat(os.stat(path), os.fstat(self._fd)):
                return path
        except OSError:
            pass
        return self.path

    def stat(self, name: str) -> os.stat_result | None:
        """Return the status of a file of the directory, following no symbolic link; None if it is missing."""
        try:
            return os.stat(name, dir_fd=self._fd, follow_symlinks=False)
        except FileNotFoundError:
            return None

    def identify(self, name: str = DATA_FILE) -> tuple[int, int] | None:
        """Return device and inode of a file of the directory, None if it is missing."""
        info = self.stat(name)
        return None if info is None else (info.st_dev, info.st_ino)

    def is_foreign(self) -> bool:
        """Tell whether others may have written the files: another user, or an archive or copy.

        Firebrick makes directories of mode 0700; one that others can read was left by something else.
        """
        folder, files = os.fstat(self._fd), (self.stat(DATA_FILE), self.stat(LOCK_FILE))
        owners = {folder.st_uid, *(file.st_uid for file in files if file is not None)}
        return owners != {os.geteuid()} or bool(stat.S_IMODE(folder.st_mode) & 0o077)

    def open(self, name: str, flags: int, mode: int = 0o600) -> int:
        """Open a file of the directory, never through a symbolic link; the caller closes it."""
        return os.open(name, flags | os.O_CLOEXEC | os.O_NOFOLLOW, mode, dir_fd=self._fd)

    def rename(self, old: str, new: str) -> None:
        """Rename a file of the directory, replacing one of the new name."""
        os.rename(old, new, src_dir_fd=self._fd, dst_dir_fd=self._fd)

    def link(self, old: str, new: str) -> None:
        """Give a file of the directory a second name."""
        os.link(old, new, src_dir_fd=self._fd, dst_dir_fd=self._fd)

    def unlink(self, name: str) -> None:
        """Remove a file of the directory."""
        os.unlink(name, dir_fd=self._fd)

    def flush(self) -> None:
        """Make the names in the directory survive a crash of the system."""
        fd = self.open(".", os.O_RDONLY | os.O_DIRECTORY)
        try:
            _flush(fd)
        finally:
            os.close(fd)

    def confirm(self, inside: str) -> None:
        """Raise StorePermissionError unless a path still leads to the files of this directory."""
        for name in DATA_FILE, LOCK_FILE:
            try:
                info = os.stat(os.path.join(inside, name))
            except FileNotFoundError:
                continue  # then nothing was opened there either
            if self.identify(name) != (info.st_dev, info.st_ino):
                raise StorePermissionError(self.path, f"it was exchanged while {name} was opened")

    def check(self, *, readonly: bool) -> None:
        """Raise StorePermissionError or StoreReadOnly unless `prepare` allows the directory."""
        path = self.path
        info = os.fstat(self._fd)
        _check(path, path, info)
        refuse_network(path)
        if not readonly:
            if info.st_uid != os.geteuid():
                raise StoreReadOnly(path, f"it belongs to user {info.st_uid}, not {os.geteuid()}")
            if stat.S_IMODE(info.st_mode) & 0o077:
                self._close_to_others(info)
        for name in DATA_FILE, LOCK_FILE:
            file = os.path.join(path, name)
            if (found := self.stat(name)) is not None:
                if stat.S_ISLNK(found.st_mode):
                    raise StorePermissionError(path, f"{file} is a symbolic link")
                if not stat.S_ISREG(found.st_mode):
                    raise StorePermissionError(path, f"{file} is not a file")
                _check(path, file, found)
        if not readonly:
            self._check_writable()

    def _check_writable(self) -> None:
        """Raise StoreReadOnly if the system does not let a file be written or, if missing, created."""
        for name in DATA_FILE, LOCK_FILE:
            name, mode = (name, os.R_OK | os.W_OK) if self.stat(name) else (".", os.W_OK | os.X_OK)
            if not os.access(name, mode, dir_fd=self._fd, effective_ids=True):
                file = os.path.normpath(os.path.join(self.path, name))
                raise StoreReadOnly(self.path, f"the system does not let {file} be written to")

    def _close_to_others(self, info: os.stat_result) -> None:
        fd = self.open(".", os.O_RDONLY | os.O_DIRECTORY)
        try:
            if os.listdir(fd):
                raise StorePermissionError(self.path, f"its mode is {stat.S_IMODE(info.st_mode):o}, not 700")
            os.fchmod(fd, DIRECTORY_MODE)
        finally:
            os.close(fd)


def prepare(path: StrPath, *, readonly: bool, create: bool) -> Place:
    """Check the directory of a store, creating it if requested, and hold it; the caller closes the place.

    A new directory, and an empty one of this user, get mode 0700. Otherwise nothing is changed: the directory
    must belong to this user, or for reading to root, and nobody else may write to it; a writer's must not be
    accessible to others at all.

    Raises:
        UsageError: The path is empty, or not a path.
        NetworkFilesystemError: The directory lies on a file system shared between machines.
        StoreNotFound: There is no directory, and `create` is False.
        StorePermissionError: It is a symbolic link, not a directory, or not private.
        StoreReadOnly: It is read-only: it is root's, or the system forbids writing.
        StoreFull: There is no room to create it.
        StoreError: The system does not let it be examined.
    """
    try:
        name = os.fsdecode(path)
    except TypeError:
        raise UsageError(f"not a path: {path!r}") from None
    if not name or "\0" in name:
        raise UsageError("the path of a store is empty" if not name else f"not a path: {name!r}")
    try:
        name = os.path.abspath(name)
        parent, last = os.path.split(name)
        real = os.path.join(os.path.realpath(parent), last)
        if create and not readonly and not os.path.lexists(real):
            _make(parent, real)
        place = Place(real, _open(name, real))
        try:
            place.check(readonly=readonly)
        except BaseException:
            place.close()
            raise
        return place
    except OSError as error:
        raise from_system(name, error) from error


def identify_file(path: str) -> tuple[int, int] | None:
    """Return device and inode of the data file in a directory, None if it cannot be looked at."""
    try:
        info = os.stat(os.path.join(path, DATA_FILE))
    except OSError:
        return None
    return info.st_dev, info.st_ino


def is_file(path: StrPath) -> bool:
    """Tell whether a path is that of a file, which may be a sealed pack, and no symbolic link."""
    try:
        return stat.S_ISREG(os.stat(os.fspath(path), follow_symlinks=False).st_mode)
    except (OSError, ValueError, TypeError):
        return False


def _make(parent: str, path: str, mode: int = DIRECTORY_MODE) -> None:
    """Make a directory, and its parents, that survive a crash of the system."""
    refuse_network(parent)
    if not os.path.isdir(parent):
        _make(os.path.dirname(parent), parent, 0o777)
    try:
        os.mkdir(path, mode)
    except FileExistsError:
        return  # created by another process meanwhile, and checked like any other
    try:
        fd = os.open(parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except PermissionError:  # it may be written to and not read
        return
    try:
        _flush(fd)
    finally:
        os.close(fd)


def _flush(fd: int) -> None:
    """Flush a folder; some file systems have no such thing."""
    try:
        os.fsync(fd)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS, errno.EROFS):
            raise


def _open(name: str, real: str) -> int:
    try:
        return os.open(real, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        raise StoreNotFound(name, "no such directory") from None
    except NotADirectoryError:
        what = "a symbolic link" if os.path.islink(real) else "not a directory"
        raise StorePermissionError(name, f"{name} is {what}") from None


def _check(path: str, file: str, info: os.stat_result) -> None:
    if info.st_uid not in (os.geteuid(), 0):
        raise StorePermissionError(path, f"{file} belongs to user {info.st_uid}, not {os.geteuid()}")
    if stat.S_IMODE(info.st_mode) & 0o022:
        raise StorePermissionError(
            path, f"{file} has mode {stat.S_IMODE(info.st_mode):o}: others may write to it"
        )


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
    """Return the file system type of a real path ("ext4", "fuse.sshfs"), "" if unknown.

    Reads the mount table: the last entry with the longest mount point that is a parent of the path. Device
    numbers are useless, as they differ between the table and stat on btrfs and overlay. Without a table (not
    Linux) nothing is known. Source: proc(5), /proc/pid/mountinfo.
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
