"""Do long work on a store in short transactions, so that nobody has to wait for it.

An open reader keeps space from being reused, and a writer keeps other writers out: both end after
`format.SLICE_S` and continue in a new transaction. Between two writes others get their turn.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from firebrick.storage import format as fmt
from firebrick.storage.environment import Engine
from firebrick.storage.transaction import Transaction

T = TypeVar("T")

MOST = 4096  # items per transaction
PAUSE_S = 0.02  # longer than the longest pause of a writer that polls the lock


def walk(
    engine: Engine, database: str, start: bytes = b""
) -> Iterator[tuple[Transaction, bytes, memoryview]]:
    """Walk a database without duplicates, from a key on, in several transactions.

    Yields:
        The transaction, the key and the value; all but the key are valid until the next step. Entries written
        meanwhile may or may not be met.
    """
    more: bytes | None = start
    while more is not None:
        end, after = time.perf_counter() + fmt.SLICE_S, more
        more = None
        with engine.begin() as txn:
            for key, value in txn.items(database, after):
                yield txn, key, value
                if time.perf_counter() > end:
                    more = key + b"\0"
                    break


def write_all(
    engine: Engine, items: Sequence[T], prepare: Callable[[Transaction], Callable[[T], int]]
) -> tuple[int, int]:
    """Write something for each item, in as many transactions as necessary.

    Args:
        engine: where to write.
        items: the items.
        prepare: called with each transaction; returns a function called with each item, which returns a
            number, 0 if there was nothing to do.

    Returns:
        The count of non-zero numbers, and their sum.
    """
    at = count = total = 0

    def body(txn: Transaction) -> list[int]:
        end, results = time.perf_counter() + fmt.SLICE_S, []
        action = prepare(txn)
        for item in items[at : at + MOST]:
            results.append(action(item))
            if time.perf_counter() > end:
                break
        return results

    while at < len(items):
        results = engine.write(body, durable=False)
        at += len(results)
        count += sum(map(bool, results))
        total += sum(results)
        if at < len(items):
            time.sleep(PAUSE_S)
    return count, total
