"""The LMDB environments of this process: one per file, shared by every store that opens it.

LMDB forbids opening a file twice in one process, because its POSIX locks belong to (process, file); so
environments are reference-counted, and found by device and inode of their data file.

Size of the map: it is virtual, the file has only the pages in use. So 1 TiB of address space costs nothing,
and no process ever has to follow another's growth. If that much is unavailable, or address space is limited
(RLIMIT_AS; the rest belongs to the program), the map starts small and doubles when it is full. A map is
private to its process: growing it needs no consent from others, who see MDB_MAP_RESIZED and follow. Growing
remaps, so it waits until no transaction of this process is open; views of a snapshot never move.

Locks: LMDB's write lock has no timeout. Writers therefore first take `flock`, on their own descriptor of the
data file, by polling, up to a limit. The kernel drops it when a writer dies, and LMDB's own lock is robust.
py-lmdb can open named databases of a file that is open for writing only under this lock; so that readers
never depend on writers, a store that does not get it soon is opened for reading, and reopened for writing by
its first write. `lock_file` explains how LMDB's own waits are bounded.

Damage: values are verified by their readers, but LMDB itself follows its tree blindly, and a damaged page can
kill the process (docs/format.md has figures). `verify` finds such damage without following it.

Durability: environments have MDB_NOMETASYNC, that is, one flush per commit; the file stays sound, but a
system crash can undo the last commit. A second flush is at once or later, as `durability` says.

Forks: a child never uses the parent's environment. Closing it there frees the reader slots of the parent
(tried with lmdb 3.0: a snapshot of the parent changed under it), so a child only drops its references, on
which py-lmdb does nothing in a child, and reopens the file on first use. If a thread of the parent was inside
an LMDB call at the fork, its references cannot be dropped and the child gets StoreLocked.

Reading without a lock (`readonly`) leaves no trace in the directory. LMDB's two meta pages protect an
unannounced reader against one commit; after a second one the transaction ends with StoreLocked, so no stale
data is accepted.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TypeVar

from firebrick.errors import (
    StoreClosed,
    StoreError,
    StoreFull,
    StoreLocked,
    StoreNotFound,
    StoreReadOnly,
    StrPath,
    UsageError,
)
from firebrick.storage import format as fmt
from firebrick.storage import lmdb_api
from firebrick.storage.directory import Place, identify_file, prepare
from firebrick.storage.durability import Durability, Flusher, level
from firebrick.storage.lmdb_api import Environment, MapFull, MapResized, Raw, translated
from firebrick.storage.new_file import make_file
from firebrick.storage.opened import Opened
from firebrick.storage.remap_lock import RemapLock
from firebrick.storage.transaction import Transaction
from firebrick.storage.view import Source
from firebrick.storage.writer_lock import WriterLock

T = TypeVar("T")

_lock = threading.RLock()  # held while environments are opened, closed and counted
_engines: dict[tuple[int, int], Engine] = {}


class Engine(Source):
    """One environment; the module docstring states its guarantees.

    Any thread may call its methods. `gate` and `live` belong to transactions.
    """

    def __init__(self, path: str, *, readonly: bool, map_size: int | None) -> None:
        """Describe an environment; `acquire` opens it."""
        self.path = path
        self.readonly = readonly
        self.limit = 0  # bytes; writes of this process do not grow the map beyond this; 0: no limit
        self._map_size = map_size
        self._users = 0
        self._identity = (-1, -1)
        self._reset()

    def _reset(self) -> None:
        self.remap_lock = RemapLock()
        self.live: set[Transaction] = set()
        self._opened: Opened | None = None
        self._writer = WriterLock(self.path)
        self._flusher = Flusher()
        self._flushed = -1  # the last commit known to be flushed

    # -- opening and closing

    @staticmethod
    def acquire(
        path: StrPath, *, readonly: bool, create: bool, map_size: int | None, limit: int = 0
    ) -> Engine:
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
            engine = _engines.get(identity) if identity else None
            if engine is None:
                engine = Engine(place.path, readonly=readonly, map_size=map_size)
            engine.limit = limit or engine.limit
            if engine.readonly and not readonly:
                engine._upgrade(place)
            elif engine._opened is None:
                engine._start(place, create)
            engine._users += 1
            return engine

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
                    self._check_identity(place.identify())
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
                self._identity = place.identify() or (-1, -1)
            _engines[self._identity] = self
        except BaseException:
            self._stop()
            raise

    def _open(self, place: Place, *, write: bool) -> Opened:
        return Opened(place, self._map_size, self.limit, write=write, lock=not self.readonly)

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
        except StoreLocked:
            if fresh or held:
                raise
            return False
        return True

    def _check_identity(self, found: tuple[int, int] | None) -> None:
        if found != self._identity:
            raise StoreNotFound(self.path, "it was removed or replaced while it was open")

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

    # -- transactions

    def begin(self) -> Transaction:
        """Start a reading transaction; the caller ends it, or uses it as a context manager.

        Raises:
            StoreLocked: No reader slot is left, or the map is being replaced.
        """
        deadline = time.monotonic() + fmt.LOCK_TIMEOUT_S
        with translated(self.path, None):
            for _ in range(fmt.MAX_REMAPS):
                try:
                    return self._begin(False, deadline)
                except MapResized:
                    self._resize(0)
        raise lmdb_api.outgrown(self.path)

    def write(
        self,
        body: Callable[[Transaction], T],
        *,
        durable: bool | Durability = "each",
        timeout: float = fmt.LOCK_TIMEOUT_S,
    ) -> T:
        """Run `body` in a writing transaction and commit; an exception leaves nothing behind.

        Args:
            body: Does the writing. It is rerun from the start after the map has grown.
            durable: When the commit must survive a system crash.
            timeout: Longest wait for the write lock, in seconds.

        Raises:
            StoreReadOnly, StoreNotFound: Writing is not possible here, or the directory is gone.
            StoreLocked: The lock was not available in time.
            StoreFull: No room on the disk, or for a larger map.
        """
        if self.readonly:
            raise StoreReadOnly(self.path)
        deadline = time.monotonic() + timeout
        self._current  # noqa: B018 - reopens the file after a fork
        with self._writer.held(timeout), translated(self.path, None):
            self._check_identity(identify_file(self.path))
            if not self._current.writable:
                self._upgrade_environment()
            result, dirty = self._grow(lambda: self._attempt(body, deadline))
        if dirty and level(durable) == "interval":
            self._flusher.later(self._writer.descriptor)
        self.settle(durable)
        return result

    def _grow(self, attempt: Callable[[], T]) -> T:
        """Retry until the map is large enough for this write and those of others."""
        remaps = 0
        while remaps < fmt.MAX_REMAPS:
            try:
                return attempt()
            except MapFull:  # ends when address space does
                size = self._environment.info()["map_size"]
                if 0 < self.limit <= size:
                    raise
                self._resize(min(2 * size, self.limit or 2 * size))
            except MapResized:
                remaps += 1
                self._resize(0)
        raise lmdb_api.outgrown(self.path)

    def flush(self) -> None:
        """Make every commit so far survive a system crash."""
        with translated(self.path, None):
            last = self._environment.info()["last_txnid"]
            self._environment.sync(True)
            self._flushed = last

    def settle(self, durable: bool | Durability) -> None:
        """At the level "each", flush what is not known to be flushed, whoever wrote it."""
        if level(durable) == "each" and self._environment.info()["last_txnid"] > self._flushed:
            self.flush()

    def _attempt(self, body: Callable[[Transaction], T], deadline: float) -> tuple[T, bool]:
        txn = self._begin(True, deadline)
        try:
            result = body(txn)
            txn.end(commit=True)
        finally:
            txn.end()
        return result, txn.dirty

    def _begin(self, write: bool, deadline: float) -> Transaction:
        gate = self.remap_lock
        token = gate.enter(max(0.0, deadline - time.monotonic()))
        if token is None:
            raise StoreLocked(self.path, "its memory map is being replaced in this process")
        try:
            opened = self._current
            txn = Transaction(self, opened.begin(write=write), opened.handles, token)
        except BaseException:
            gate.leave(token)
            raise
        self.live.add(txn)
        return txn

    def is_stale(self, raw: Raw) -> bool:
        """Tell whether writers may have reused pages that a reader without a lock has seen."""
        return self.readonly and self._environment.info()["last_txnid"] > raw.id() + 1

    def _resize(self, size: int) -> None:
        """Map `size` bytes; 0 for another process's size."""
        with self.remap_lock.alone(fmt.GROW_TIMEOUT_S) as alone:
            if not alone:
                raise (StoreFull if size else StoreLocked)(
                    self.path, "its memory map must grow, but a snapshot is open in this process"
                )
            env = self._environment
            before = env.info()["map_size"]
            try:
                with translated(self.path, None):
                    env.set_mapsize(size)
            except StoreError as error:  # the environment has lost its map
                self._map_size = before
                with _lock:
                    self._stop()  # and is reopened by its next use
                raise StoreFull(self.path, f"a map of {size} bytes: {error.detail}") from error

    # -- the whole file

    def upkeep(self, timeout: float) -> AbstractContextManager[None]:
        """Hold the upkeep lock for a `with` block; others read and write meanwhile.

        Raises:
            StoreLocked: Somebody else held it for longer than `timeout` seconds.
        """
        return self._current.alone_in_upkeep(timeout)

    def verify(self) -> list[str]:
        """Return the structural faults of the file; writers are locked out meanwhile."""
        if self.readonly:
            return lmdb_api.verify(self.path)
        self._current  # noqa: B018 - reopens the file after a fork
        with self._writer.held(fmt.LOCK_TIMEOUT_S):
            return lmdb_api.verify(self.path)

    def map_facts(self) -> tuple[int, int]:
        """Return bytes of the map, and bytes of the file ever in use."""
        env = self._environment
        return env.info()["map_size"], (env.info()["last_pgno"] + 1) * env.stat()["psize"]


def _forget_parent() -> None:
    global _lock
    _lock = threading.RLock()
    for engine in list(_engines.values()):
        engine.forget()


os.register_at_fork(after_in_child=_forget_parent)
