"""Own the LMDB environments of this process: one per file, shared by every `Store` that opens it.

This is the only module that imports lmdb. LMDB forbids to open a file twice in one process, because its POSIX locks belong to
(process, file); so environments are counted and found by the device and inode of their data file.

**Size of the map.** The map is virtual: the file has only the pages in use, so 1 TiB of address space costs nothing, needs no growth,
and no process ever has to follow another's growth. Where that much address space is not to be had, or is limited
(RLIMIT_AS: the rest belongs to the program), the map starts small and doubles when it is full. A map is private to its process: growing
it needs no consent of others, who see `MapResizedError` and follow. Growing remaps, so it waits until no transaction of
this process is open.

**Locks.** LMDB's write lock can not be waited for with a limit. Writers therefore first take `flock` on a descriptor of their own of the data
file, by polling, up to a limit; the kernel drops it when a writer dies, and LMDB's own lock is robust.

**Durability.** Environments are open with MDB_NOMETASYNC: one flush per commit, integrity kept, the last commits can be
undone by a crash of the *system*. A durable write flushes once more, after the lock is released.

**Forks.** A child never uses the parent's environment. Closing it there would free the parent's reader slots (seen with lmdb 3.0: a snapshot of
the parent changed under it), so the child only drops its references and opens the file again at first use.

**Reading without a lock** (`readonly`) leaves no trace in the directory. LMDB's two meta pages protect a reader against one commit that it did not
announce itself to; after a second one the transaction ends with StoreLocked, so nothing stale is believed.

Source: LMDB 0.9 `lmdb.h` and `mdb.c`, py-lmdb 3.0 `cpython.c` and documentation.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import random
import resource
import threading
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

import lmdb
import lmdb.verify

from firebrick import format as fmt
from firebrick._gate import Gate
from firebrick._place import prepare
from firebrick.blob import decode_record, encode_record
from firebrick.errors import (
    DamagedError,
    StoreClosed,
    StoreDamaged,
    StoreError,
    StoreFull,
    StoreLocked,
    StoreNotFound,
    StorePermissionError,
    StoreReadOnly,
    StoreVersionError,
    StrPath,
    UsageError,
)
from firebrick.keys import Data

T = TypeVar("T")
Retry = (lmdb.MapFullError, lmdb.MapResizedError)

_lock = threading.RLock()  # guards _engines and opening and closing
_engines: dict[tuple[int, int], Engine] = {}


class Transaction:
    """Wrap one LMDB transaction; made by `Engine.read`, `Engine.begin` and `Engine.write`.

    Views it hands out are valid until it ends. A transaction may be used by one thread at a time.
    """

    __slots__ = ("_engine", "_raw", "_token", "dirty")

    def __init__(self, engine: Engine, raw: lmdb.Transaction[memoryview], token: int) -> None:
        self._engine = engine
        self._raw: lmdb.Transaction[memoryview] | None = raw  # a child process sets it to None
        self._token = token
        self.dirty = False

    @property
    def _open(self) -> lmdb.Transaction[memoryview]:
        if self._raw is None:
            raise StoreClosed(self._engine.path, "the transaction has ended, or belongs to the parent process")
        return self._raw

    def get(self, database: str, key: bytes) -> memoryview | None:
        """Look a value up; the view is valid until the transaction ends."""
        return self._open.get(key, db=self._engine.database(database))

    def has(self, database: str, key: bytes, value: bytes | None = None) -> bool:
        """Tell whether a key is there, or with `value` this duplicate of it, without reading the value."""
        with self._open.cursor(self._engine.database(database)) as cursor:
            return cursor.set_key(key) if value is None else cursor.set_key_dup(key, value)

    def items(self, database: str, start: bytes = b"", prefix: bytes = b"") -> Iterator[tuple[bytes, memoryview]]:
        """Walk keys in order from `start` (at least `prefix`) while they begin with `prefix`; every duplicate counts."""
        with self._open.cursor(self._engine.database(database)) as cursor:
            more = cursor.set_range(max(start, prefix)) if start or prefix else cursor.first()
            while more and (key := bytes(cursor.key())).startswith(prefix):
                yield key, cursor.value()
                more = cursor.next()

    def duplicates(self, database: str, key: bytes) -> list[bytes]:
        """List the values of one key in a DUPSORT database, sorted."""
        with self._open.cursor(self._engine.database(database)) as cursor:
            return [bytes(value) for _, value in cursor.getmulti([key], dupdata=True)]

    def entries(self, database: str) -> int:
        """Count the entries of a database."""
        return self._open.stat(self._engine.database(database))["entries"]

    def put(self, database: str, key: bytes, value: Data) -> bool:
        """Write a value, or add a duplicate; False if exactly that is there already."""
        handle = self._engine.database(database)
        if fmt.DATABASES[database]:
            new = self._open.put(key, value, dupdata=False, db=handle)
        elif new := (self._open.get(key, db=handle) != value):
            self._open.put(key, value, db=handle)
        self.dirty = self.dirty or new
        return new

    def delete(self, database: str, key: bytes) -> bool:
        """Remove a key with all its values; False if it was not there."""
        gone = self._open.delete(key, db=self._engine.database(database))
        self.dirty = self.dirty or gone
        return gone

    def record(self, database: str, key: bytes) -> bytes | None:
        """Read a record and check it; DamagedError if its header or checksum is wrong."""
        value = self.get(database, key)
        return None if value is None else decode_record(database, key, value)

    def put_record(self, database: str, key: bytes, body: Data) -> bool:
        """Write a record; False if it is there already."""
        return self.put(database, key, encode_record(database, key, body))

    def end(self, *, commit: bool = False, pin: bool = False) -> None:
        """End the transaction; ending it again does nothing.

        Args:
            commit: Keep what was written.
            pin: Never remap or unmap the memory again, because a view of it is still in use.
        """
        raw, self._raw = self._raw, None
        if raw is None:
            return
        self._engine.ended(self)
        try:
            if commit and self.dirty:
                raw.commit()
            else:
                stale = self._engine.stale(raw)
                raw.abort()
                if stale:
                    raise StoreLocked(self._engine.path, "another process wrote to it while it was read without a lock")
        finally:
            if not pin:
                self._engine.gate.leave(self._token)


class Engine:
    """Hold one environment; see the module for what it guarantees. Every method may be called by any thread."""

    def __init__(self, path: str, readonly: bool, map_size: int | None) -> None:
        self.path = path
        self.readonly = readonly
        self._map_size = map_size
        self._env: lmdb.Environment | None = None
        self._handles: dict[str, lmdb._Database] = {}
        self._identity = (-1, -1)
        self.users = 0
        self._reset()

    def _reset(self) -> None:
        self.gate = Gate()
        self._writer = threading.Lock()
        self._writing: int | None = None
        self._live: set[Transaction] = set()
        self._lock_fd = -1

    # -- opening and closing

    @staticmethod
    def acquire(path: StrPath, *, readonly: bool, create: bool, map_size: int | None) -> Engine:
        """Return the environment of a directory and count one more user of it; `release` counts one less."""
        if map_size is not None and map_size < 1 << 16:
            raise UsageError(f"map_size must be at least 65536 bytes, not {map_size}")
        real = prepare(path, readonly=readonly, create=create)
        with _lock:
            identity = _identify(real)
            if identity is None and (readonly or not create):
                raise StoreNotFound(real, f"it has no {fmt.DATA_FILE}")
            engine = _engines.get(identity) if identity else None
            if engine is None:
                engine = Engine(real, readonly, map_size)
                engine._start(create)
                _engines[engine._identity] = engine
            elif engine.readonly and not readonly:
                engine._upgrade()
            elif engine._env is None:
                engine._start(create)
            engine.users += 1
            return engine

    def retain(self) -> None:
        """Count one more user."""
        with _lock:
            self.users += 1

    def release(self) -> None:
        """Count one user less; the last one closes the environment, unless a transaction is still open."""
        with _lock:
            self.users -= 1
            if self.users > 0:
                return
            with self.gate.alone(0.1) as alone:
                if alone:
                    self._stop()
                    _engines.pop(self._identity, None)

    def _upgrade(self) -> None:
        with self.gate.alone(fmt.LOCK_TIMEOUT_S) as alone:
            if not alone:
                raise StoreLocked(self.path, "it is open for reading, with snapshots, in this process")
            self._stop()
            self.readonly = False
            self._start(create=False)

    def _stop(self) -> None:
        self._handles.clear()
        env, self._env = self._env, None
        if env is not None:
            env.close()
        if self._lock_fd >= 0:
            os.close(self._lock_fd)
            self._lock_fd = -1

    def _start(self, create: bool) -> None:
        try:
            with self._translated():
                self._env = self._open_environment()
                self._identity = _identify(self.path) or (-1, -1)
                if self.readonly:
                    self._check_length()
                    self._open_databases()
                else:
                    self._lock_fd = os.open(self._data_file, os.O_RDONLY | os.O_CLOEXEC)
                    self._env.reader_check()
                    with self._flock(time.monotonic() + fmt.LOCK_TIMEOUT_S):
                        self._check_length()
                        self._create_databases(create)
        except BaseException:
            self._stop()
            raise

    @property
    def _data_file(self) -> str:
        return os.path.join(self.path, fmt.DATA_FILE)

    def _open_environment(self) -> lmdb.Environment:
        sizes = _map_sizes(self._map_size, self._data_file)
        for size in sizes:
            try:
                return lmdb.Environment(
                    self.path,
                    map_size=size,
                    readonly=self.readonly,
                    lock=not self.readonly,
                    metasync=False,
                    mode=fmt.DIRECTORY_MODE,
                    create=False,
                    max_readers=fmt.MAX_READERS,
                    max_dbs=2 * len(fmt.DATABASES),
                    lib_version=fmt.LMDB_MAJOR,
                )
            except lmdb.MemoryError:
                if size == sizes[-1]:
                    raise
            except lmdb.InvalidError as error:
                raise StoreVersionError(self.path, f"not a file of LMDB 0.9: {error}") from None
        raise AssertionError  # pragma: no cover

    def _check_length(self) -> None:
        """Refuse a file that lacks pages, before a read behind its end kills the process with SIGBUS."""
        env = self._environment
        needed = (env.info()["last_pgno"] + 1) * env.stat()["psize"]
        size = os.stat(self._data_file).st_size
        if size < needed and (problems := self.verify()):  # free pages at the end may be missing
            raise StoreDamaged(self.path, f"{size} bytes of {needed} are there: {problems[0]}")

    def _open_databases(self) -> None:
        env = self._environment
        try:
            self._handles = {
                name: env.open_db(name.encode(), create=False, dupsort=dup, dupfixed=dup)
                for name, dup in fmt.DATABASES.items()
            }
        except lmdb.NotFoundError:
            raise StoreVersionError(self.path, "it is not a finished Firebrick store") from None
        with self.read() as txn:
            self._check_version(txn.record("meta", fmt.META_FORMAT))

    def _create_databases(self, create: bool) -> None:
        # Handles of an environment with a lock are opened in a write transaction, as py-lmdb drops those of a reading one.
        env = self._environment
        with env.begin(write=True, buffers=True) as raw:
            fresh = not raw.stat()["entries"]
            if fresh and not create:
                raise StoreNotFound(self.path, "the file is empty")
            try:
                self._handles = {
                    name: env.open_db(name.encode(), txn=raw, create=fresh, dupsort=dup, dupfixed=dup)
                    for name, dup in fmt.DATABASES.items()
                }
            except lmdb.NotFoundError:
                raise StoreVersionError(self.path, "it is not a Firebrick store") from None
            if fresh:
                body = str(fmt.FORMAT_VERSION).encode()
                raw.put(fmt.META_FORMAT, encode_record("meta", fmt.META_FORMAT, body), db=self._handles["meta"])
            value = raw.get(fmt.META_FORMAT, db=self._handles["meta"])
            self._check_version(None if value is None else decode_record("meta", fmt.META_FORMAT, value))

    def _check_version(self, found: bytes | None) -> None:
        if found != str(fmt.FORMAT_VERSION).encode():
            raise StoreVersionError(self.path, f"found {found!r}, known is {fmt.FORMAT_VERSION}")

    @property
    def _environment(self) -> lmdb.Environment:
        if self._env is None:
            raise StoreClosed(self.path)
        return self._env

    def database(self, name: str) -> lmdb._Database:
        """Return the handle of a named database."""
        return self._handles[name]
