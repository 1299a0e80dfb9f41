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

Damage: values are verified by their readers, but LMDB itself follows its tree. Zeros behind the last page
keep damaged pointers within the file, `verify` finds damage without following it, `quarantine` begins anew.

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

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

from firebrick.errors import StoreError, StoreFull, StoreLocked, StoreReadOnly
from firebrick.storage import format as fmt
from firebrick.storage import lmdb_api
from firebrick.storage.durability import Durability, level
from firebrick.storage.lmdb_api import MapFull, MapResized, Raw, translated
from firebrick.storage.shared_environment import SharedEnvironment
from firebrick.storage.transaction import Transaction

T = TypeVar("T")


class Engine(SharedEnvironment):
    """Transactions in an environment; the module docstring states its guarantees.

    Any thread may call its methods. `remap_lock` and `live` belong to transactions.
    """

    # -- transactions

    def begin(self) -> Transaction:
        """Start a reading transaction; the caller ends it, or uses it as a context manager.

        Raises:
            StoreLocked: No reader slot is left, or the map is being replaced.
        """
        now = time.monotonic()
        deadline = now + fmt.LOCK_TIMEOUT_S
        if now - self._looked > fmt.LOOK_PERIOD_S:
            self.look()
        with translated(self.path, None):
            for _ in range(fmt.MAX_REMAPS):
                try:
                    return self._begin(False, deadline)
                except MapResized:
                    self._resize(0)
        raise lmdb_api.outgrown(self.path)

    def look(self) -> None:
        """Follow a swap, so that the old file leaves the disk; if that is impossible, go on."""
        with contextlib.suppress(StoreError):
            if self._opened is not None and not self.is_current():
                self.follow(0.0)

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
        for _ in range(fmt.MAX_REMAPS):
            self._current  # noqa: B018 - reopens the file after a fork
            with self._writer.held(timeout), translated(self.path, None):
                if self.is_current():
                    if not self._current.writable:
                        self._upgrade_environment()
                    result, dirty = self._grow(lambda: self._attempt(body, deadline))
                    lmdb_api.add_margin(self._environment, self._writer.descriptor)
                    break
            if not self.follow():
                raise StoreLocked(self.path, "it was compacted, and this process has a snapshot open")
        else:
            raise StoreLocked(self.path, "it is compacted again and again")
        if dirty and level(durable) == "interval":
            self._flusher.later(self._writer.descriptor)
        self.settle(durable)
        return result

    @contextlib.contextmanager
    def at_rest(self) -> Iterator[int]:
        """Keep writers out for a `with` block; yields the number of the last transaction."""
        with self._writer.held(fmt.LOCK_TIMEOUT_S), translated(self.path, None):
            yield self.last_number() if self.is_current() else -1

    def last_number(self) -> int:
        """Return the number of the last transaction."""
        number: int = self._environment.info()["last_txnid"]
        return number

    def copy(self, fd: int) -> None:
        """Write what is in use to a file, as of one moment."""
        token = self.remap_lock.enter(fmt.GROW_TIMEOUT_S)
        if token is None:
            raise StoreLocked(self.path, "its memory map is being replaced in this process")
        try:
            with translated(self.path, None):
                self._environment.copyfd(fd, compact=True)
        finally:
            self.remap_lock.leave(token)

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
                self._shut()  # and is reopened by its next use
                raise StoreFull(self.path, f"a map of {size} bytes: {error.detail}") from error

    # -- the whole file

    @contextlib.contextmanager
    def upkeep(self, timeout: float) -> Iterator[None]:
        """Hold the upkeep lock for a `with` block; others read and write meanwhile.

        Raises:
            StoreLocked: Somebody else held it for longer than `timeout` seconds.
        """
        with translated(self.path, None), self._current.alone_in_upkeep(timeout):
            yield

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
