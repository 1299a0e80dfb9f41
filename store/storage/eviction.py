"""Evict bundles: first those that save the fewest seconds of compilation per byte and are longest unused.

A bundle's bytes are those of its manifest and of its parts, each divided by the number of bundles that share
it. Its worth is seconds per byte, halved for every `HALF_LIFE_S` since it was used or made. Pinned bundles
stay, and so do blobs that a registry value needs.
"""

from __future__ import annotations

import contextlib
import functools
import math
import time
from collections import Counter
from collections.abc import Iterable
from typing import Final

from firebrick.errors import CodecError, DamagedError, StoreFull
from firebrick.storage import deletion, journal
from firebrick.storage import format as fmt
from firebrick.storage.collector import Collected, drop_blob, drop_blobs, keep_named, registry_names
from firebrick.storage.environment import Engine
from firebrick.storage.msgpack import unpack
from firebrick.storage.reader import Keys, split_bundle
from firebrick.storage.slices import MOST, PAUSE_S, walk
from firebrick.storage.transaction import Transaction

HALF_LIFE_S: Final = 7 * 86400.0
_UNKNOWN_S: Final = 1.0  # of compilation, if nothing was noted


def evict(engine: Engine, target: int) -> Collected:
    """Remove bundles and unneeded blobs until the pages in use have so many bytes.

    Works in short transactions; the caller holds the upkeep lock.

    Args:
        engine: of the store.
        target: bytes.

    Returns:
        What was removed; less than requested if the rest is pinned or needed.

    Raises:
        StoreFull: There is no room for the pages that a deletion changes.
    """
    with engine.begin() as txn:
        began = txn.number
        if txn.live_bytes() <= target:
            return Collected()  # by somebody else meanwhile
    sizes, needs = _survey(engine)
    with engine.begin() as txn:
        orphans = {key for key, count in needs.items() if not count} - journal.needed(txn, began, fmt.GRACE_S)
    blobs, size = drop_blobs(engine, sorted(orphans), began)
    result = Collected(blobs=blobs, bytes=size)
    victims = [key for _, key in sorted(_ranks(engine, sizes, needs))]
    at, most = 0, MOST
    while at < len(victims):
        with engine.begin() as txn:
            surplus = txn.live_bytes() - target
        if surplus <= 0:
            break
        drop = functools.partial(
            _drop_bundles, keys=victims[at : at + most], needs=needs, began=began, surplus=surplus
        )
        try:
            done, dropped, taken = engine.write(drop, durable=False)
        except StoreFull:  # fewer deletions change fewer pages, and readers proceed meanwhile
            if most == 1:
                raise
            most = max(1, most // 16)
            time.sleep(PAUSE_S)
            continue
        at += done
        needs.subtract(taken)
        result = result.plus(dropped)
        time.sleep(PAUSE_S)
    return result


def _survey(engine: Engine) -> tuple[dict[bytes, int], Counter[bytes]]:
    """Return the bytes of all blobs, and how many bundles and registry values need each."""
    sizes = {key: len(value) for _, key, value in walk(engine, "blobs")}
    needs = Counter[bytes](dict.fromkeys(sizes, 0))
    for _, key, value in walk(engine, "bundles"):
        needs.update(_parts(key, value))
    unnamed = dict(sizes)
    for txn, key, value in walk(engine, "registry"):
        keep_named(txn, registry_names(key, value, unnamed), unnamed)
    needs.update(sizes.keys() - unnamed.keys())
    return sizes, needs


def _ranks(engine: Engine, sizes: dict[bytes, int], needs: Counter[bytes]) -> Iterable[tuple[float, bytes]]:
    now = time.time()
    for txn, key, value in walk(engine, "bundles"):
        if not deletion.is_pinned(txn, key):
            parts = _parts(key, value)
            shares = (sizes.get(part, 0) / max(1, needs[part]) for part in parts)
            yield worth(txn, key, len(value) + sum(shares), now), key


def _parts(key: bytes, value: memoryview) -> Keys:
    with contextlib.suppress(DamagedError):
        return split_bundle(key, value)[1]
    return []


def worth(txn: Transaction, bundle: bytes, size: float, now: float) -> float:
    """Return the worth of a bundle on a logarithmic scale, base 2.

    Args:
        txn: holds its facts.
        bundle: its key.
        size: its bytes.
        now: seconds since 1970.
    """
    seconds, used = _UNKNOWN_S, 0.0
    with contextlib.suppress(DamagedError, CodecError, TypeError, ValueError, AttributeError):
        facts = unpack(txn.record("clock", fmt.CLOCK_NOTE + bundle) or b"\x80")
        seconds = max(1e-3, float(facts.get("seconds", _UNKNOWN_S)))
        used = float(facts.get("when", now))
    with contextlib.suppress(DamagedError):
        used = max(used, int.from_bytes(txn.record("clock", fmt.CLOCK_USE + bundle) or b"", "little"))
    return math.log2(seconds / size) - max(0.0, now - used) / HALF_LIFE_S


def _drop_bundles(
    txn: Transaction, *, keys: list[bytes], needs: Counter[bytes], began: int, surplus: int
) -> tuple[int, Collected, Counter[bytes]]:
    """Drop bundles, with the parts only they need, until time is up or there is room.

    Returns:
        The number considered, what was removed, and the decrease in uses of each part.
    """
    end = time.perf_counter() + fmt.SLICE_S
    spared = journal.needed(txn, began)
    blobs = bundles = size = done = 0
    taken = Counter[bytes]()
    for key in keys:
        done += 1
        if key not in spared and not deletion.is_pinned(txn, key):
            parts = journal.parts_of(txn, key)
            bundles += deletion.drop_bundle(txn, key)
            taken.update(parts)
            for part in parts:
                if taken[part] >= needs[part] and part not in spared:
                    freed = drop_blob(txn, part)
                    blobs += bool(freed)
                    size += freed
        if size > surplus or time.perf_counter() > end:
            break
    return done, Collected(blobs, bundles, 0, size), taken
