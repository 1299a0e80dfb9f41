"""Open an environment once for all its users in this process, close it after the last, and follow swaps."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from typing import TYPE_CHECKING, Self

from firebrick.errors import StoreClosed, StoreLocked, StoreNotFound, StrPath, UsageError
from firebrick.storage import format as fmt
from firebrick.storage.directory import Place, identify_file, prepare
from firebrick.storage.durability import Flusher
from firebrick.storage.lmdb_api import Environment, add_margin, translated
from firebrick.storage.new_file import make_file
from firebrick.storage.opened import Opened
from firebrick.storage.remap_lock import RemapLock
from firebrick.storage.swap import opening
from firebrick.storage.view import Source
from firebrick.storage.writer_lock import WriterLock

if TYPE_CHECKING:
    from firebrick.storage.transaction import Transaction

_lock = threading.RLock()  # held while environments are opened, closed and counted
_engines: dict[tuple[int, int], SharedEnvironment] = {}


class SharedEnvironment(Source):
    """One environment, shared by all users of its file in this process; the base of `Engine`.

    Any thread may call its methods.
    """

    def __init__(self, path: str, *, readonly: bool, map_size: int | None) -> None:
        """Describe an environment; `acquire` opens it."""
        self.path = path
        self.readonly = readonly
        self.limit = 0  # bytes; writes of this process do not grow the map beyond this; 0: no limit
        self._map_size = map_size
        self._users = 0
        self._identity = (-1, -1)
        self._folder: tuple[int, int] | None = None
        self._reset()

    def _reset(self) -> None:
        self.remap_lock = RemapLock()
        self.live: set[Transaction] = set()
        self._opened: Opened | None = None
        self._writer = WriterLock(self.path)
        self._flusher = Flusher()
        self._flushed = -1  # the last commit known to be flushed
        self._looked = time.monotonic()

    # -- opening and closing

    @classmethod
    def acquire(
        cls, path: StrPath, *, readonly: bool, create: bool, map_size: int | None, limit: int = 0
    ) -> Self:
        """Return the environment of a directory and increment its use count.

        Args:
            path: The directory.
            readonly: Leave no trace in it, unless this process has it open for writing.
            create: Create it if missing.
            map_size: Initial bytes of address space; None for the default.
            limit: Bytes the data file may grow to by writes of this process; 0: no limit.

        Raises:
            StoreError: One of its subclasses, as documented there.
        """
        if map_size is not None and not 1 << 16 <= map_size <= fmt.MAX_MAP_SIZE:
            raise UsageError(f"map_size must be 65536 to {fmt.MAX_MAP_SIZE} bytes, not {map_size}")
        with prepare(path, readonly=readonly, create=create) as place, _lock:
            identity = place.identify()
            if identity is None and (readonly or not create):
                raise StoreNotFound(place.path, f"it has no {fmt.DATA_FILE}")
            engine = cls._known(place, identity)
            if engine is None:
                engine = cls(place.path, readonly=readonly, map_size=map_size)
            engine.limit = limit or engine.limit
            if engine.readonly and not readonly:
                engine._upgrade(place)
            elif engine._opened is None:
                engine._start(place, create)
            engine._users += 1
            return engine

    @classmethod
    def _known(cls, place: Place, identity: tuple[int, int] | None) -> Self | None:
        """Return the environment that this process has of a directory, with its present files."""
        folder = place.identify(".")
        for engine in [*_engines.values()]:
            if isinstance(engine, cls) and identity and engine._identity == identity:
                return engine
            if isinstance(engine, cls) and identity and engine._folder == folder:
                if not engine.follow():
                    raise StoreLocked(place.path, "it was compacted, and this process has a snapshot open")
                return engine
        return None

    def retain(self) -> None:
        """Increment the use count."""
        with _lock:
            self._users += 1

    def release(self) -> None:
        """Decrement the use count; the last user closes the environment, unless a view is in use."""
        with _lock:
            self._users -= 1
            if self._users > 0:
                return
            with self.remap_lock.alone(1.0) as alone:
                if alone:
                    self._stop()

    def _upgrade(self, place: Place) -> None:
        with self.remap_lock.alone(fmt.GROW_TIMEOUT_S) as alone:
            if not alone:
                raise StoreLocked(self.path, "this process has it open for reading, with snapshots")
            self._stop()
            self.readonly = False
            self._start(place, create=False)

    def _upgrade_environment(self) -> None:
        """Reopen for writing an environment opened for reading because a writer held the lock."""
        with self.remap_lock.alone(fmt.GROW_TIMEOUT_S) as alone, _lock:
            if not alone:
                raise StoreLocked(self.path, "a snapshot of this process prevents writing")
            try:
                with prepare(self.path, readonly=False, create=False) as place, translated(self.path, None):
                    if place.identify() != self._identity:
                        raise StoreLocked(self.path, "it was compacted just now")
                    self._close_environment()
                    self._opened = self._open(place, write=True)
                    self._opened.create_databases(create=False)
            except BaseException:
                self._stop()
                raise

    def _start(self, place: Place, create: bool) -> None:
        try:
            with translated(self.path, None):
                if self.readonly or not self._start_writing(place, create):
                    self._opened = self._open(place, write=False)
                    self._opened.read_databases()
            _engines[self._identity] = self
        except BaseException:
            self._stop()
            raise

    def _open(self, place: Place, *, write: bool) -> Opened:
        with contextlib.nullcontext() if self.readonly else opening(place):
            opened = Opened(place, self._map_size, self.limit, write=write, lock=not self.readonly)
            self._identity = place.identify() or (-1, -1)
            self._folder = place.identify(".")
            self._flushed = -1  # numbers begin anew in a file that was compacted
            return opened

    def _start_writing(self, place: Place, create: bool) -> bool:
        fresh = place.identify() is None
        if fresh and not create:
            raise StoreNotFound(self.path, f"it has no {fmt.DATA_FILE}")
        if fresh:
            make_file(place)
        self._writer.open(place)
        held = False
        try:
            with self._writer.held(fmt.LOCK_TIMEOUT_S if fresh else fmt.OPEN_TIMEOUT_S):
                held = True
                self._opened = self._open(place, write=True)
                self._opened.create_databases(create=create)
                add_margin(self._opened.env, self._writer.descriptor)
        except StoreLocked:
            if fresh or held:
                raise
            return False
        return True

    def is_current(self) -> bool:
        """Tell whether the open files are those of the directory.

        Raises:
            StoreNotFound: The directory or its data file is gone, or it is another directory.
        """
        self._looked = time.monotonic()
        found = identify_file(self.path)
        if found is None or identify(self.path) != self._folder:
            raise StoreNotFound(self.path, "it was removed or replaced while it was open")
        locked = self._writer.identity
        same = found == self._identity and locked in (None, found)
        return same and not os.path.lexists(os.path.join(self.path, fmt.SWAP_FILE))

    def follow(self, timeout: float = fmt.GROW_TIMEOUT_S) -> bool:
        """Open the files that have replaced the open ones.

        Returns:
            False if transactions of this process do not end within `timeout` seconds; they keep seeing the
            old files.
        """
        with self.remap_lock.alone(timeout) as alone, _lock:
            if alone and self._opened is not None:
                self._stop()
                with prepare(self.path, readonly=self.readonly, create=False) as place:
                    self._start(place, create=False)
            return alone

    def _close_environment(self) -> None:
        opened, self._opened = self._opened, None
        if opened is not None:
            opened.close()

    def _stop(self) -> None:
        if _engines.get(self._identity) is self:
            del _engines[self._identity]
        self._flusher.now()
        self._close_environment()
        self._writer.close()

    def _shut(self) -> None:
        with _lock:
            self._stop()

    @property
    def _current(self) -> Opened:
        opened = self._opened
        if opened is None:  # after a fork, or closed
            with _lock:
                if self._opened is None:
                    if self._users <= 0:
                        raise StoreClosed(self.path)
                    _engines.pop(self._identity, None)
                    with prepare(self.path, readonly=self.readonly, create=False) as place:
                        self._start(place, create=False)
                return self._current
        return opened

    @property
    def _environment(self) -> Environment:
        return self._current.env

    def forget(self) -> None:
        """Drop everything that belongs to the parent process; called in a new child process."""
        for txn in self.live:
            txn.forget()
        self._flusher.forget()
        self._writer.close()
        if self._opened is not None:
            self._opened.forget()
        self._reset()


def identify(path: str) -> tuple[int, int] | None:
    """Return device and inode of what is at a path, None if nothing is."""
    try:
        info = os.stat(path)
    except OSError:
        return None
    return info.st_dev, info.st_ino


def _forget_parent() -> None:
    global _lock
    _lock = threading.RLock()
    for engine in list(_engines.values()):
        engine.forget()


os.register_at_fork(after_in_child=_forget_parent)
