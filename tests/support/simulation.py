"""Simulate processes that share one store: their schedule, their clock, their locks, kills and crashes.

The code of the store runs as it is; what lies under it is simulated: LMDB's transactions and map, `flock`,
and time. Processes are greenlets that change at each call into that layer, in an order drawn from a seed,
so a seed repeats a run exactly (the way of FoundationDB: Zhou and others, SIGMOD 2021). What a run may
contain: processes that are killed at any such call, a crash of the system that undoes the commit which is
not flushed, maps that must grow, and wall clocks that jump.
"""

from __future__ import annotations

import fcntl
import random
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from types import SimpleNamespace
from typing import Any

import greenlet
import lmdb

from firebrick.storage import (
    environment,
    journal,
    lmdb_api,
    lock_file,
    remap_lock,
    slices,
    writer_lock,
)
from firebrick.storage import format as fmt
from firebrick.storage import store as store_module
from firebrick.storage.environment import Engine
from firebrick.storage.lock_file import LockFile

Tables = dict[str, dict[bytes, Any]]


class Dead(BaseException):
    """Ends a greenlet whose process was killed; nothing that it does any more has an effect."""


class Process:
    """One simulated process with one thread."""

    def __init__(self, world: World, body: Callable[[Process], None]) -> None:
        self.world, self.alive, self.wakes = world, True, 0.0
        self.finished = False
        self.error: BaseException | None = None
        self.body = body
        self.greenlet = greenlet.greenlet(self._run, world.hub)

    def _run(self) -> None:
        try:
            self.body(self)
        except Dead:
            pass
        except BaseException as error:
            self.error = error
        self.finished = True


class World:
    """Hold one run: the disk, the clock, the processes and the one that runs."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.hub = greenlet.getcurrent()
        self.now, self.wall = 0.0, 1_700_000_000.0
        self.processes: list[Process] = []
        self.current: Process | None = None
        self.disk = Disk()
        self.steps = 0

    def spawn(self, body: Callable[[Process], None]) -> Process:
        """Add a process."""
        process = Process(self, body)
        self.processes.append(process)
        return process

    def step(self, sleep: float = 0.0) -> None:
        """Let others run; in a process that was killed, raise Dead."""
        process = self.current
        if process is None:  # the judge looks, alone
            return
        process.wakes = self.now + sleep
        self.hub.switch()
        if not process.alive:
            raise Dead

    def kill(self, process: Process) -> None:
        """Kill a process: its locks end, its transaction is dropped."""
        process.alive = False
        self.disk.forget(process)

    def crash(self) -> None:
        """Crash the system: every process dies, and what is not flushed may be lost."""
        for process in self.processes:
            if not process.finished:
                self.kill(process)
        self.disk.crash(self.rng)

    def run(self, until: Callable[[], bool]) -> None:
        """Run processes in a drawn order until all have ended, or something is true."""
        while waiting := [process for process in self.processes if not process.finished]:
            self.steps += 1
            self.now += self.rng.choice((1e-5, 1e-4, 1e-3))
            if until():
                return
            ready = [process for process in waiting if process.wakes <= self.now or not process.alive]
            if not ready:
                self.now = min(process.wakes for process in waiting)
                continue
            self.current = self.rng.choice(ready)
            self.current.greenlet.switch()
            self.current = None


class Disk:
    """Hold the committed versions of the file, and the locks on it."""

    def __init__(self) -> None:
        empty: Tables = {name: {} for name in fmt.DATABASES}
        self.head, self.number, self.before = empty, 1, empty
        self.flushed = 1  # number of the last commit that survives a crash
        self.locks: dict[str, Process | None] = {}
        self.size = 0

    def forget(self, process: Process) -> None:
        """Let go of the locks of a process."""
        for name, owner in self.locks.items():
            if owner is process:
                self.locks[name] = None

    def commit(self, tables: Tables) -> None:
        """Flush the pages, and with them the last commit; then write the meta page."""
        self.flushed = self.number
        self.before, self.head = self.head, tables
        self.number += 1
        self.size = sizes(tables)

    def crash(self, rng: random.Random) -> None:
        """Lose the last commit or not, unless it is flushed."""
        if self.flushed < self.number and rng.random() < 0.7:
            self.head, self.number = self.before, self.number - 1
            self.size = sizes(self.head)
        self.flushed, self.before = self.number, self.head


def sizes(tables: Tables) -> int:
    """Return the bytes that tables take, roughly."""
    return sum(len(table) * 100 + sum(map(len, table.values())) for table in tables.values())


class Env:
    """Stand for one process's LMDB environment."""

    def __init__(self, world: World, map_size: int) -> None:
        self.world, self.map_size = world, map_size

    def info(self) -> dict[str, int]:
        return {"map_size": self.map_size, "last_txnid": self.world.disk.number}

    def set_mapsize(self, size: int) -> None:
        self.world.step()
        self.map_size = size or max(self.map_size, self.world.disk.size)

    def sync(self, force: bool) -> None:
        self.world.step()
        self.world.disk.flushed = self.world.disk.number
        self.world.step()

    def close(self) -> None:
        pass


class Raw:
    """Stand for one transaction of LMDB."""

    def __init__(self, env: Env, write: bool) -> None:
        self.env, self.write, self.world = env, write, env.world
        disk = self.world.disk
        while write and disk.locks.get("lmdb"):
            self.world.step(0.001)
        self.owner = self.world.current
        if disk.size > env.map_size:
            raise lmdb.MapResizedError("simulated")
        if write:
            disk.locks["lmdb"] = self.owner
        self.tables = {name: dict(table) for name, table in disk.head.items()} if write else disk.head
        self.number = disk.number + write

    def id(self) -> int:
        return self.number

    def get(self, key: bytes, db: str) -> memoryview | None:
        value = self.tables[db].get(key)
        if isinstance(value, tuple):
            value = value[0]
        return None if value is None else memoryview(value)

    def put(self, key: bytes, value: Any, dupdata: bool = True, db: str = "") -> bool:
        self._change()
        table = self.tables[db]
        if fmt.DATABASES[db]:
            there = table.get(key, ())
            if bytes(value) in there:
                return False
            table[key] = tuple(sorted((*there, bytes(value))))
        else:
            table[key] = bytes(value)
        if self.env.map_size < 1 << 30 and sizes(self.tables) > self.env.map_size:
            raise lmdb.MapFullError("simulated")
        return True

    def delete(self, key: bytes, value: bytes = b"", db: str = "") -> bool:
        self._change()
        table = self.tables[db]
        if not value:
            return table.pop(key, None) is not None
        there = table.get(key, ())
        if value not in there:
            return False
        if rest := tuple(item for item in there if item != value):
            table[key] = rest
        else:
            del table[key]
        return True

    def stat(self, db: str) -> dict[str, int]:
        table = self.tables[db]
        return {"entries": sum(map(len, table.values())) if fmt.DATABASES[db] else len(table)}

    def cursor(self, db: str) -> Cursor:
        return Cursor(self, db)

    def commit(self) -> None:
        self._change()
        self.world.disk.commit(self.tables)
        self.world.disk.locks["lmdb"] = None
        self.world.step()

    def abort(self) -> None:
        if self.write and self.world.disk.locks.get("lmdb") is self.owner:
            self.world.disk.locks["lmdb"] = None

    def _change(self) -> None:
        if self.world.rng.random() < 0.2:  # a kill in the middle; others see nothing of it
            self.world.step()
        if self.owner is not None and not self.owner.alive:
            raise Dead


class Cursor:
    """Stand for a cursor of LMDB."""

    def __init__(self, raw: Raw, db: str) -> None:
        self.raw, self.db, self.at = raw, db, -1
        table = raw.tables[db]
        self.table = table
        self.pairs: list[tuple[bytes, bytes]] = []

    def __enter__(self) -> Cursor:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def set_key(self, key: bytes) -> bool:
        return key in self.table

    def set_key_dup(self, key: bytes, value: bytes) -> bool:
        return bytes(value) in self.table.get(key, ())

    def first(self) -> bool:
        return self.set_range(b"")

    def set_range(self, start: bytes) -> bool:
        found = sorted(key for key in self.table if key >= start)
        for key in found:
            value = self.table[key]
            self.pairs += [(key, item) for item in (value if isinstance(value, tuple) else (value,))]
        return self.next()

    def next(self) -> bool:
        if not self.raw.write and self.raw.world.rng.random() < 0.1:
            self.raw.world.step()
        self.at += 1
        return self.at < len(self.pairs)

    def key(self) -> bytes:
        return self.pairs[self.at][0]

    def value(self) -> memoryview:
        return memoryview(self.pairs[self.at][1])

    def getmulti(self, keys: list[bytes], dupdata: bool) -> Iterator[tuple[bytes, bytes]]:
        return ((key, value) for key in keys for value in self.table.get(key, ()))


class Opened:
    """Stand for `firebrick.storage.opened.Opened`."""

    writable = True

    def __init__(self, world: World, map_size: int) -> None:
        self.env = Env(world, map_size)
        self.handles = {name: name for name in fmt.DATABASES}
        self.world = world
        self.lock_file = LockFile.__new__(LockFile)
        self.lock_file._path, self.lock_file._fd = "simulated", -2
        self.lock_file._upkeep = threading.Lock()

    def begin(self, *, write: bool) -> Raw:
        self.world.step()
        return Raw(self.env, write)

    def alone_in_upkeep(self, timeout: float) -> AbstractContextManager[None]:
        return self.lock_file.alone_in_upkeep(timeout)

    def close(self) -> None:
        pass


class SimulatedEngine(Engine):
    """An engine on a simulated file."""

    def __init__(self, world: World, map_size: int) -> None:
        super().__init__("simulated", readonly=False, map_size=map_size)
        self._opened = Opened(world, map_size)  # type: ignore[assignment]
        self._writer._fd = -1 + 2  # what `flock` is told
        self._users = 1

    def is_current(self) -> bool:
        return True  # no file is replaced

    def _stop(self) -> None:
        pass


@contextmanager
def simulated(find: Callable[[], World]) -> Iterator[None]:
    """Put the simulated layer under the store's modules for the length of a block.

    Args:
        find: returns the world of the present run.
    """

    def flock(fd: int, how: int) -> None:
        world, name = find(), "upkeep" if fd == -2 else "writer"
        if how & fcntl.LOCK_UN:
            if world.current and world.disk.locks.get(name) is world.current:
                world.disk.locks[name] = None
            return
        world.step()
        if world.disk.locks.get(name) not in (None, world.current):
            raise BlockingIOError
        world.disk.locks[name] = world.current

    calls = {name: getattr(fcntl, name) for name in ("LOCK_EX", "LOCK_SH", "LOCK_NB", "LOCK_UN")}
    clock = SimpleNamespace(
        sleep=lambda seconds: find().step(seconds),
        monotonic=lambda: find().now,
        perf_counter=lambda: find().now,
        time=lambda: find().wall + find().now,
    )
    threads = SimpleNamespace(Lock=threading.Lock, Condition=threading.Condition, RLock=threading.RLock)
    threads.get_ident = lambda: id(find().current)
    replaced: list[tuple[Any, str, Any]] = [
        (module, "time", clock)
        for module in (environment, journal, lock_file, slices, writer_lock, store_module)
    ]
    locks = SimpleNamespace(flock=flock, **calls)
    replaced += [(module, "fcntl", locks) for module in (lock_file, writer_lock)]
    chance = SimpleNamespace(uniform=lambda low, high: find().rng.uniform(low, high))
    replaced += [(module, "random", chance) for module in (lock_file, writer_lock)]
    replaced += [(module, "threading", threads) for module in (remap_lock, writer_lock)]
    replaced.append((lmdb_api, "add_margin", lambda env, fd: None))  # there is no file
    kept = [(owner, name, getattr(owner, name)) for owner, name, _ in replaced]
    try:
        for owner, name, value in replaced:
            setattr(owner, name, value)
        yield
    finally:
        for owner, name, value in kept:
            setattr(owner, name, value)
