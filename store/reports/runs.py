"""Keep the events of recent processes in the store, for later explanation.

Each process writes one registry entry at exit, unless all its events are hits. The entries are bounded in
number and size; docs/explain.md describes them.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from firebrick.errors import FirebrickError
from firebrick.reports.events import Event
from firebrick.storage.msgpack import pack, unpack

if TYPE_CHECKING:
    from firebrick.reports.counters import Stats
    from firebrick.storage.store import Store

_log = logging.getLogger("firebrick")
RUNS: Final = ".runs"  # context of the registry
SECTION: Final = "run"  # of that context; names are times and process ids
KEPT_RUNS: Final = 20
_EVENTS: Final = 200  # of one run
_BYTES: Final = 64 << 10  # of one run


class Run:
    """The record of one process.

    Attributes:
        when: its end, in seconds since 1970.
        pid: its process id.
        events: misses, bypasses and notices, oldest first.
    """

    def __init__(self, when: float, pid: int, events: Sequence[Event]) -> None:
        self.when = when
        self.pid = pid
        self.events = tuple(events)


def keep(store: Store, stats: Stats) -> None:
    """Write this process's events into the store, and drop those of old processes.

    Writes nothing to a read-only store, or if every event is a hit. Adds notices that take several processes
    to detect. Ignores faults of the store.
    """
    told = stats.events.told()
    if not told or store.readonly:
        return
    try:
        from firebrick.reports.detectors import volatile

        before = read(store)
        for event in volatile([run.events for run in before.values()], told):
            stats.record(event)
            told.append(event)
        now = time.time()
        name = f"{time.time_ns():020d}-{os.getpid()}"
        gone = sorted(before)[: max(0, len(before) + 1 - KEPT_RUNS)]
        changes: dict[tuple[str, str], bytes | None] = {(SECTION, old): None for old in gone}
        changes[SECTION, name] = _packed(now, told)
        store.registry_update(RUNS, changes)
    except FirebrickError as error:
        _log.debug("the events of this process are not kept", exc_info=error)


def _packed(when: float, events: Sequence[Event]) -> bytes:
    """Return a run as bytes; if it is too large, without the newest events."""
    kept = [event.plain() for event in events[:_EVENTS]]
    while len(data := pack([when, os.getpid(), kept])) > _BYTES and kept:
        del kept[len(kept) * 3 // 4 :]
    return data


def read(store: Store) -> dict[str, Run]:
    """Return a store's runs by name, oldest first, without those that cannot be read.

    Raises:
        FirebrickError: the store cannot be read.
    """
    runs = {}
    for (_, name), data in store.registry(RUNS).items():
        try:
            when, pid, events = unpack(data)
            runs[name] = Run(float(when), int(pid), [Event.of_plain(event) for event in events])
        except (FirebrickError, TypeError, ValueError, IndexError):
            continue
    return runs
