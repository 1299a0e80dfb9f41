"""A cross-process, cross-thread writer lock with a timeout."""

from __future__ import annotations

import contextlib
import fcntl
import os
import random
import threading
import time
from collections.abc import Iterator

from firebrick.errors import StoreClosed, StoreLocked, UsageError
from firebrick.storage.directory import Place
from firebrick.storage.format import DATA_FILE, OPEN_TIMEOUT_S
from firebrick.storage.os_errors import from_system


class WriterLock:
    """A lock on writing one file: a lock for threads and `flock` for processes.

    `flock` belongs to our own descriptor of the data file: it does not conflict with LMDB's locks, and ends
    with its process. It is polled, because waiting for it has no timeout.
    """

    def __init__(self, path: str) -> None:
        """Make the lock of a store at a path; nothing is opened."""
        self._path = path
        self._fd = -1
        self.identity: tuple[int, int] | None = None  # device and inode of the open file
        self._threads = threading.Lock()
        self._owner: int | None = None
        self._hopeless = False  # whether the last wait was in vain

    def open(self, place: Place) -> None:
        """Open the data file of a place, which is the file locked."""
        self.close()
        self._fd = place.open(DATA_FILE, os.O_RDWR)
        info = os.fstat(self._fd)
        self.identity = (info.st_dev, info.st_ino)

    def close(self) -> None:
        """Close the file, which also unlocks it."""
        fd, self._fd, self.identity = self._fd, -1, None
        if fd >= 0:
            os.close(fd)

    @property
    def descriptor(self) -> int:
        """The descriptor of the data file, -1 when it is closed."""
        return self._fd

    @contextlib.contextmanager
    def held(self, timeout: float) -> Iterator[None]:
        """Hold the lock for a `with` block.

        After a wait in vain, later ones last `format.OPEN_TIMEOUT_S` at most, until the lock was had: whoever
        records has many writes.

        Raises:
            StoreLocked: Somebody else held it for `timeout` seconds.
            UsageError: This thread holds it.
            StoreClosed: Another thread closed the store.
            StoreError: The system has no such lock, or none left.
        """
        deadline = time.monotonic() + (min(timeout, OPEN_TIMEOUT_S) if self._hopeless else timeout)
        if self._owner == threading.get_ident():
            raise UsageError("a write inside a write transaction of the same thread")
        if not self._threads.acquire(timeout=timeout):
            raise StoreLocked(self._path, "another thread of this process is writing")
        try:
            self._owner = threading.get_ident()
            self._poll(deadline)
            try:
                yield
            finally:
                with contextlib.suppress(OSError, ValueError):  # closed meanwhile
                    fcntl.flock(self._fd, fcntl.LOCK_UN)
        finally:
            self._owner = None
            self._threads.release()

    def _poll(self, deadline: float) -> None:
        pause = 0.0002
        while True:
            if (fd := self._fd) < 0:
                raise StoreClosed(self._path, "another thread closed it")
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                self._hopeless = False
                return
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    self._hopeless = True
                    raise StoreLocked(self._path, "another process is writing") from None
            except OSError as error:
                raise from_system(self._path, error) from error
            time.sleep(pause * random.uniform(0.5, 1.5))
            pause = min(2 * pause, 0.01)
