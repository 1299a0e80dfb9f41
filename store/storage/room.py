"""Keep a store's file within a limit: make room before a write, and after one that found none.

A writer's map ends at the limit, so the file never exceeds it in any case. A sixteenth of it is left free:
LMDB copies the pages that a transaction changes, even a deletion, and needs runs of free pages for large
values. When less is free, bundles are evicted until a tenth more is, so that not every write has to evict.

A full disk, or readers that keep freed space from being reused, make a write fail; then more is evicted, and
the write is retried for a short while.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from typing import Final, TypeVar

from firebrick.errors import StoreError, StoreFull, StoreLocked
from firebrick.storage.collector import Collected
from firebrick.storage.compaction import compact
from firebrick.storage.durability import Durability
from firebrick.storage.environment import Engine
from firebrick.storage.eviction import evict
from firebrick.storage.transaction import Transaction

T = TypeVar("T")

_RESERVE: Final = 16  # share of the limit left free
_LEAST_RESERVE: Final = 96 * 4096  # bytes: a few pages of each database
_SURPLUS: Final = 10  # share of the limit freed beyond the need
_TRIES: Final = 4
_UPKEEP_S: Final = 20.0  # longest wait for another evictor
_AGAIN_S: Final = 60.0  # between attempts to compact
_PAUSE_S: Final = 0.05  # for readers to move on to the latest commit

_tried: dict[str, float] = {}  # when a store was compacted last, by its path


def write(
    engine: Engine, body: Callable[[Transaction], T], *, durable: bool | Durability, limit: int, size: int
) -> tuple[T, Collected]:
    """Write as `Engine.write` does, with room made for it.

    Args:
        engine: where to write.
        body: does the writing.
        durable: when the commit is to survive a crash of the system.
        limit: bytes that the data file may have; 0: what is on the disk.
        size: bytes that are to be written, as far as they are known.

    Returns:
        What the body returned, and what was evicted for it.

    Raises:
        StoreFull: There is no room, and none to be made.
        StoreError: As `Engine.write`.
    """
    need = size + size // 8 + (1 << 16)  # with the pages that are copied
    evicted = Collected()
    if limit and size:
        if need > limit - _reserve(limit):
            raise StoreFull(engine.path, f"{size} bytes do not fit into its limit")
        evicted = _make_room(engine, limit, need)
    for attempt in range(_TRIES):
        try:
            return engine.write(body, durable=durable), evicted
        except StoreFull:
            if attempt == _TRIES - 1:
                raise
            live = _live_bytes(engine)
            evicted = evicted.plus(_evict(engine, max(0, live - need - live // _SURPLUS)))
            time.sleep(_PAUSE_S)
    raise AssertionError


def _make_room(engine: Engine, limit: int, need: int) -> Collected:
    if engine.map_facts()[1] > limit:
        _shrink(engine, limit)
    most = limit - _reserve(limit) - need
    if engine.map_facts()[1] <= most or _live_bytes(engine) <= most:
        return Collected()
    evicted = _evict(engine, max(0, most - limit // _SURPLUS))
    if (live := _live_bytes(engine)) > most:
        raise StoreFull(engine.path, f"{live} bytes of {limit} are in use, and no more can be evicted")
    return evicted


def _shrink(engine: Engine, limit: int) -> None:
    """Compact a file that was larger before it had its limit; where that cannot be, not again for a while."""
    if time.monotonic() - _tried.get(engine.path, -_AGAIN_S) < _AGAIN_S:
        return
    _tried[engine.path] = time.monotonic()
    with contextlib.suppress(StoreError), engine.upkeep(0.0):
        evict(engine, limit - _reserve(limit))
        compact(engine)


def _reserve(limit: int) -> int:
    return max(limit // _RESERVE, _LEAST_RESERVE)


def _live_bytes(engine: Engine) -> int:
    with engine.begin() as txn:
        return txn.live_bytes()


def _evict(engine: Engine, target: int) -> Collected:
    try:
        with engine.upkeep(_UPKEEP_S):
            return evict(engine, target)
    except (StoreLocked, StoreFull):  # somebody else makes room, or none is left even for that
        return Collected()
