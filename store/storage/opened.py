"""One open LMDB environment, with its lock file, its databases and its directory."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager

from firebrick.errors import StoreDamaged, StoreError, StoreLocked
from firebrick.storage import format as fmt
from firebrick.storage import lmdb_api
from firebrick.storage.directory import Place
from firebrick.storage.lmdb_api import AlreadyOpen, Environment, Handles, Raw
from firebrick.storage.lock_file import LockFile


class Opened:
    """An environment from its opening to its closing.

    Opened and closed under the engines' lock. Errors of LMDB and the system are not translated.
    """

    def __init__(
        self, place: Place, map_size: int | None, limit: int = 0, *, write: bool, lock: bool
    ) -> None:
        """Open the environment of a place; the databases come next.

        Args:
            place: Where it is; used only now.
            map_size: Bytes of address space to begin with; None for the default.
            limit: Bytes of the map at most, if the file is not larger already; 0: no limit.
            write: Open it for writing; a file that is not there is made.
            lock: Use the lock file.

        Raises:
            StoreLocked: Somebody else is stuck opening it; or it is open in this process.
            StoreFull: There is no room for the lock file.
            StoreDamaged: The file has missing pages, or a process died of it.
            StorePermissionError: The directory was replaced meanwhile.
            StoreUntrusted: Others may have written the file, and this LMDB is not hardened.
        """
        self.path = place.path
        self.handles: Handles = {}
        self.writable = False
        vetted = lmdb_api.vet(place) if place.is_foreign() else None
        self._lock_file = LockFile(place) if lock else None
        self._data, self._length = -1, 0  # a descriptor of the file, and its bytes
        try:
            inside = place.inside
            self.env: Environment = lmdb_api.open_environment(
                place, map_size, limit, write=write, lock_file=self._lock_file
            )
        except AlreadyOpen as error:
            self._let_go(keep=True)
            detail = f"something else in this process has the file open: {error}"
            raise StoreLocked(self.path, detail) from None
        except BaseException:
            self._let_go()
            raise
        with self._or_close():
            place.confirm(inside)
            if vetted is not None and lmdb_api.stamp(place) != vetted:
                raise StoreLocked(self.path, "it was written to while it was verified")
            lmdb_api.check_file(self.env, place)
            self._data = place.open(fmt.DATA_FILE, os.O_RDONLY)
            self._length = os.fstat(self._data).st_size

    def read_databases(self) -> None:
        """Open the databases for reading, and check the format."""
        with self._or_close():
            self.handles = lmdb_api.remapped(
                self.env, self.path, lambda: lmdb_api.open_databases(self.env, self.path)
            )

    def create_databases(self, *, create: bool) -> None:
        """Open the databases for writing, creating them if there are none, and check the format.

        The caller holds the writers' lock.
        """

        def action() -> Handles:
            if self._lock_file is not None:
                self._lock_file.wait(write=True)
            return lmdb_api.create_databases(self.env, self.path, create=create)

        with self._or_close():
            self.handles = lmdb_api.remapped(self.env, self.path, action)
            self.writable = True

    def begin(self, *, write: bool) -> Raw:
        """Start a transaction.

        Raises:
            StoreLocked: A stuck process holds LMDB's own locks.
            StoreDamaged: The file has become shorter, and a read of what is missing would kill the process.
        """
        length = os.fstat(self._data).st_size
        if length < self._length:
            raise StoreDamaged(self.path, f"it had {self._length} bytes, and others made it {length}")
        self._length = length
        if self._lock_file is not None:
            self._lock_file.wait(write=write)
        return lmdb_api.begin(self.env, write=write)

    def alone_in_upkeep(self, timeout: float) -> AbstractContextManager[None]:
        """Hold the upkeep lock; StoreLocked if another process has it."""
        if self._lock_file is None:
            return contextlib.nullcontext()
        return self._lock_file.alone_in_upkeep(timeout)

    def close(self) -> None:
        """Close the environment, then its lock file, whose locks would end with it."""
        self.handles = {}
        self.env.close()
        self._let_go()

    def forget(self) -> None:
        """Drop everything of the parent process; called in a new child process."""
        self._let_go()

    def _let_go(self, *, keep: bool = False) -> None:
        data, self._data = self._data, -1
        if data >= 0:
            os.close(data)
        lock_file, self._lock_file = self._lock_file, None
        if lock_file is not None:
            with contextlib.suppress(OSError):
                if keep:
                    lock_file.keep()
            lock_file.close()

    @contextlib.contextmanager
    def _or_close(self) -> Iterator[None]:
        try:
            yield
        except BaseException:
            with contextlib.suppress(StoreError):
                self.close()
            raise
