"""Make the states in which a crash of the system can leave the files of a store.

The model is that of POSIX, which promises less than any file system keeps (as in ALICE, Pillai and
others, OSDI 2014; CrashMonkey, Mohan and others, OSDI 2018): what was written since the last flush of a
file may be there or not, sector by sector and in any order; so may its length; and the name of a new
file, a removal or a new name are there for certain only after a flush of the folder. A sector of 512
bytes is whole.
"""

from __future__ import annotations

import posixpath
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from support.io_trace import Event, Op

SECTOR = 512

Files = dict[str, bytes | None]  # None: a folder
Choice = Callable[[int], list[bool]]  # which of so many are kept


@dataclass
class _File:
    durable: bytearray = field(default_factory=bytearray)
    pending: list[tuple[int, bytes | None]] = field(
        default_factory=list
    )  # sector and bytes; or size and None

    def write(self, offset: int, data: bytes) -> None:
        end = offset + len(data)
        while offset < end:
            size = min(SECTOR - offset % SECTOR, end - offset)
            self.pending.append((offset, data[len(data) - (end - offset) :][:size]))
            offset += size

    def sync(self) -> None:
        self.durable = self.built([True] * len(self.pending))
        self.pending = []

    def built(self, kept: list[bool]) -> bytearray:
        content = bytearray(self.durable)
        for (at, data), keep in zip(self.pending, kept, strict=True):
            if not keep:
                continue
            if data is None:
                del content[at:]
                content.extend(bytes(at - len(content)))
                continue
            content.extend(bytes(max(0, at + len(data) - len(content))))
            content[at : at + len(data)] = data
        return content


class Disk:
    """Hold what is durable and what is not, as events are played; None stands for a folder."""

    def __init__(self) -> None:
        self._files: dict[str, _File | None] = {".": None}  # as processes see them
        self._names: dict[str, _File | None] = {".": None}  # as the disk has them
        self._changes: list[tuple[str, bool, _File | None]] = []  # name, whether it is there, what it names

    def play(self, event: Event) -> None:
        """Take one event in."""
        path, file = event.path, self._files.get(event.path)
        match event.op:
            case Op.OPEN | Op.MKDIR:
                self._name(path, _File() if event.op is Op.OPEN else None)
            case Op.WRITE if file:
                file.write(event.offset, event.data)
            case Op.SIZE if file:
                file.pending.append((event.offset, None))
            case Op.UNLINK:
                self._remove(path)
            case Op.RENAME | Op.LINK:
                self._name(event.data.decode(), file)
                if event.op is Op.RENAME:
                    self._remove(path)
            case Op.SYNC if file:
                file.sync()
            case Op.SYNC:
                self._names = self._applied([dirname(name) == path for name, *_ in self._changes])
                self._changes = [change for change in self._changes if dirname(change[0]) != path]

    def states(self, rng: random.Random, count: int) -> Iterator[Files]:
        """Give so many states: nothing lost, everything lost, each simple kind of loss, then random ones."""
        simple: list[Choice] = [
            lambda n: [True] * n,
            lambda n: [False] * n,
            lambda n: [i < n - 1 for i in range(n)],
            lambda n: [i == n - 1 for i in range(n)],
            lambda n: [i % 2 == 0 for i in range(n)],
        ]
        for number in range(count):
            if number < len(simple):
                yield self._state(simple[number], simple[number == 1])
            else:
                yield self._state(_drawn(rng), _drawn(rng))

    def _name(self, path: str, file: _File | None) -> None:
        self._files[path] = file
        self._changes.append((path, True, file))

    def _remove(self, path: str) -> None:
        self._files.pop(path, None)
        self._changes.append((path, False, None))

    def _applied(self, kept: list[bool]) -> dict[str, _File | None]:
        names = dict(self._names)
        for (name, there, file), keep in zip(self._changes, kept, strict=True):
            if keep and there:
                names[name] = file
            elif keep:
                names.pop(name, None)
        return names

    def _state(self, sectors: Choice, changes: Choice) -> Files:
        names = self._applied(changes(len(self._changes)))
        return {
            name: None if file is None else bytes(file.built(sectors(len(file.pending))))
            for name, file in names.items()
            if dirname(name) in names
        }


def dirname(name: str) -> str:
    """Return the folder that a name is in."""
    return posixpath.dirname(name) or "."


def _drawn(rng: random.Random) -> Choice:
    """Choose some of what is pending: in order up to some point, or each by itself."""
    share, in_order = rng.choice([0.02, 0.5, 0.98]), rng.random() < 0.3

    def choose(n: int) -> list[bool]:
        end = rng.randrange(n + 1)
        return [i < end if in_order else rng.random() < share for i in range(n)]

    return choose
