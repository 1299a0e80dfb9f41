"""Make LMDB's lock file safe to open and to wait for.

LMDB itself has three unbounded waits, and one write that can kill the process:

- It asks for byte 0 of the lock file with F_SETLKW, and asks again after every signal. Whoever opens
  the store first holds that byte for the time of opening; if it is stopped then, everyone hangs.
  Here the byte is asked for without waiting, up to a limit, in the order that LMDB uses: alone, else
  with others. Such a lock belongs to the *process*, so LMDB's own request is then granted at once
  whatever others do meanwhile: no race is left. As such locks end when any descriptor of the file is
  closed, ours stays open for as long as the environment.
- It waits for two mutexes in the file: one around the table of readers, one around a write. A look
  at their words tells whether somebody holds them. That leaves the microseconds between the look and
  the wait: a process that is stopped just then, inside LMDB, can hold up one that is just there.
- It writes to the file through a map. The file is sparse, so on a full disk that write is a SIGBUS.
  Here its blocks are allocated before LMDB maps it.

Source: LMDB 0.9 `mdb.c` (mdb_env_excl_lock, mdb_env_setup_locks, MDB_txninfo), fcntl(2), glibc
`posix_fallocate.c` (which writes to the file where the file system cannot allocate, but refuses to
where the descriptor appends).
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import random
import sys
import threading
import time
from collections.abc import Iterator

from firebrick.errors import StoreLocked
from firebrick.storage import format as fmt
from firebrick.storage.directory import Place

_LINE = 64  # bytes of a reader slot and of LMDB's cache line
_HEAD = 192  # of what is before the slots, less the first one
_OWNER = 0x3FFFFFFF  # FUTEX_TID_MASK: the thread that holds a mutex
_FREE = bytes(4)
_READERS = 8  # place of the mutex of the table of readers
_WRITERS = 128 if os.uname().machine == "aarch64" else 64  # and of writers: behind that, next line
_SLOTS = _WRITERS + _LINE  # of readers
_PID = slice(8, 12)  # of its process in a slot, or 0

_CANNOT_ALLOCATE = frozenset((errno.EBADF, errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS))

_open: dict[tuple[int, int], LockFile] = {}  # lock files of this process; a second descriptor would unlock it
_kept: dict[tuple[int, int], int] = {}  # descriptors that were left open, to be used again


def _has_known_mutexes() -> bool:
    try:
        return (os.confstr("CS_GNU_LIBC_VERSION") or "").startswith("glibc")
    except (ValueError, OSError):
        return False


_KNOWN_MUTEXES = _has_known_mutexes()


class LockFile:
    """The lock file of one environment, from before it is opened until after it is closed.

    Made and closed under the engines' lock; any thread may `wait`.
    """

    def __init__(self, place: Place) -> None:
        """Open the file of a place, creating it if missing.

        Raises:
            StoreLocked: This process already has it open.
            OSError: The system refuses it.
        """
        self._path = place.path
        self._hopeless = False
        self.abandoned = False  # whether a process died while it, and nobody now, had the store open
        self._upkeep = threading.Lock()
        self.identity = place.identify(fmt.LOCK_FILE)
        if self.identity in _open:
            raise StoreLocked(self._path, "its lock file is open in this process already")
        self._fd = _kept.pop(self.identity, -1) if self.identity else -1
        if self._fd < 0:
            self._fd = place.open(fmt.LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_APPEND)
        try:
            info = os.fstat(self._fd)
            self.identity = (info.st_dev, info.st_ino)
            _open[self.identity] = self
        except BaseException:
            self.close()
            raise

    def make_ready(self) -> None:
        """Prepare the file so that LMDB opens it without waiting forever or dying.

        Call it before every attempt, since LMDB unlocks the file when one fails.

        Raises:
            StoreLocked: Somebody holds it for longer than `format.LMDB_TIMEOUT_S`.
            OSError: There is no room for it on the disk, or the system refuses it.
        """
        alone = self._lock(fmt.LMDB_TIMEOUT_S)
        self.abandoned = self.abandoned or (alone and self._has_readers())
        self._allocate(alone=alone)
        if not alone:  # else LMDB makes the mutexes anew
            self.wait(write=False)

    def close(self) -> None:
        """Release the file; the environment must already be closed."""
        if self.identity is not None and _open.get(self.identity) is self:
            del _open[self.identity]
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def keep(self) -> None:
        """Leave the file open: something else in this process uses it, and would lose its locks."""
        fcntl.lockf(self._fd, fcntl.LOCK_SH | fcntl.LOCK_NB, 1)  # as LMDB had it
        if self.identity is not None:
            _kept[self.identity], self._fd = self._fd, -1

    def wait(self, *, write: bool) -> None:
        """Wait until nobody holds the mutexes that LMDB is about to take.

        After one timeout, later calls do not wait until the mutex has been seen free.

        Raises:
            StoreLocked: A live thread holds one for longer than `format.LMDB_TIMEOUT_S`.
        """
        if not _KNOWN_MUTEXES:
            return
        if os.pread(self._fd, 4, _READERS) != _FREE:  # runs before every reading transaction: keep it short
            self._poll(_READERS)
        if write and os.pread(self._fd, 4, _WRITERS) != _FREE:
            self._poll(_WRITERS)
        self._hopeless = False

    @contextlib.contextmanager
    def alone_in_upkeep(self, timeout: float) -> Iterator[None]:
        """Hold the upkeep lock for a `with` block.

        It is a `flock` of this file, so it does not conflict with LMDB's or writers' locks, and ends with its
        process.

        Raises:
            StoreLocked: Another process or thread holds it for longer than `timeout` seconds.
        """
        deadline = time.monotonic() + timeout
        if not self._upkeep.acquire(timeout=timeout):
            raise StoreLocked(self._path, "another thread of this process collects or evicts")
        try:
            for _ in pauses(deadline - time.monotonic()):
                with contextlib.suppress(BlockingIOError):
                    fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
            else:
                raise StoreLocked(self._path, "another process collects or evicts")
            yield
        finally:
            with contextlib.suppress(OSError, ValueError):  # closed meanwhile
                fcntl.flock(self._fd, fcntl.LOCK_UN)
            self._upkeep.release()

    def _has_readers(self) -> bool:
        """Tell whether a slot is taken; if nobody has the store open, its process died."""
        slots = os.pread(self._fd, fmt.MAX_READERS * _LINE, _SLOTS)
        return (
            any(slots[at:][_PID] != bytes(4) for at in range(0, len(slots), _LINE)) if any(slots) else False
        )

    def _holder(self, mutex: int) -> int:
        return int.from_bytes(os.pread(self._fd, 4, mutex), sys.byteorder) & _OWNER

    def _poll(self, mutex: int) -> None:
        holder = 0
        for _ in pauses(0.0 if self._hopeless else fmt.LMDB_TIMEOUT_S):
            if not (holder := self._holder(mutex)):
                return
        self._hopeless = True
        what = "of writers" if mutex == _WRITERS else "of the table of readers"
        raise StoreLocked(self._path, f"thread {holder} holds LMDB's lock {what}, and does not get on")

    def _lock(self, timeout: float) -> bool:
        """Lock byte 0, exclusively or shared; tell whether exclusively."""
        for _ in pauses(timeout):
            for how in fcntl.LOCK_EX, fcntl.LOCK_SH:
                try:
                    fcntl.lockf(self._fd, how | fcntl.LOCK_NB, 1)
                    return how == fcntl.LOCK_EX
                except BlockingIOError:
                    continue
        raise StoreLocked(self._path, "another process is opening it, and does not get on")

    def _allocate(self, *, alone: bool) -> None:
        """Allocate every block of the file on disk.

        Only an exclusive holder may change its length, as others have mapped it; and only then may zeros be
        written if the file system cannot allocate.
        """
        info = os.fstat(self._fd)
        size = info.st_size
        if alone:
            size = max(size, _HEAD + (fmt.MAX_READERS - 1) * _LINE)
        if size == info.st_size and info.st_blocks * 512 >= size:
            return
        try:
            try:
                os.posix_fallocate(self._fd, 0, size)
            except OSError as error:
                if error.errno not in _CANNOT_ALLOCATE:
                    raise
                if alone:
                    self._fill(size)
        except OSError:
            if alone:
                os.ftruncate(self._fd, 0)
            raise

    def _fill(self, size: int) -> None:
        os.ftruncate(self._fd, 0)  # what is written is appended
        written = 0
        while written < size:
            written += os.write(self._fd, bytes(size - written))


def pauses(timeout: float) -> Iterator[None]:
    """Yield at once, then after each pause, for so many seconds."""
    pause, deadline = 0.0002, time.monotonic() + timeout
    while True:
        yield
        if time.monotonic() >= deadline:
            return
        time.sleep(pause * random.uniform(0.5, 1.5))
        pause = min(2 * pause, 0.01)
