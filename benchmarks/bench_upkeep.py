"""Measure what upkeep costs those who use a store, and what its size costs who opens it.

`--gc N` collects N blobs that nothing needs beside N that a bundle needs, while a reader reads blobs and a
writer puts some, each in a process of its own; their longest waits are compared with those of the same time
before. `--open N…` fills stores of up to N blobs, and opens each in new processes. Prints lines of JSON.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import random
import statistics
import tempfile
import time
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

from firebrick.storage.format import Kind
from firebrick.storage.keys import ContentKey, recipe_key
from firebrick.storage.store import Blob, Store

BATCH = 10_000
SIZE = 300  # bytes of a blob
STARTS = 11
LOOKUPS = 20_000


def blob(number: int) -> Blob:
    """Make a small blob of its own bytes."""
    return Blob(Kind.TEXT, number.to_bytes(8, "little") * (SIZE // 8))


def fill(path: Path, count: int, first: int = 0) -> list[ContentKey]:
    """Put so many blobs."""
    keys: list[ContentKey] = []
    with Store.open(path, durable=False) as store:
        for start in range(first, first + count, BATCH):
            keys += store.put_many(blob(i) for i in range(start, min(start + BATCH, first + count)))
    return keys


def use(path: str, keys: list[ContentKey], write: bool, done: Event, out: Any) -> None:
    """Read or put until told to stop, and tell the longest waits of each second."""
    rng, number = random.Random(0), 1 << 40
    waits: list[tuple[float, float]] = []
    with Store.open(path, durable=False) as store:
        while not done.is_set():
            start = time.monotonic()
            if write:
                number += 1
                store.put(*blob(number))
                time.sleep(0.001)
            else:
                store.get(rng.choice(keys))
            waits.append((start, time.monotonic() - start))
    out.put((write, sorted(waits, key=lambda wait: -wait[1])[:1000], len(waits)))


def gc(count: int) -> dict[str, Any]:
    """Collect while others use the store."""
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "store"
        needed = fill(path, count)
        fill(path, count, count)
        with Store.open(path, durable=False) as store:
            for start in range(0, count, 100):
                components = {"function": str(start)}
                manifest = Blob(Kind.BUNDLE, str(start).encode())
                store.publish(recipe_key(components), components, manifest, needed[start : start + 100])
            done, out = context.Event(), context.Queue()
            users = [
                context.Process(target=use, args=(str(path), needed[:1000], write, done, out))
                for write in (False, True)
            ]
            for user in users:
                user.start()
            time.sleep(5.0)
            began = time.monotonic()
            collected = store.gc(grace=0.0)
            ended = time.monotonic()
            done.set()
            found = [out.get() for _ in users]
            for user in users:
                user.join()
        report: dict[str, Any] = {"entries": count, "collected": collected.blobs, "gc_s": ended - began}
        for write, waits, number in found:
            who = "writer" if write else "reader"
            report[f"{who}_calls"] = number
            before = [wait for at, wait in waits if at < began]
            during = [wait for at, wait in waits if began <= at < ended]
            report[f"{who}_longest_before_ms"] = 1e3 * max(before, default=0.0)
            report[f"{who}_longest_during_ms"] = 1e3 * max(during, default=0.0)
        return report


def start_up(path: str, key: bytes, chosen: list[bytes]) -> dict[str, float]:
    """Open a store, get one blob, and look others up; seconds."""
    start = time.perf_counter()
    store = Store.open(path)
    opened = time.perf_counter() - start
    start = time.perf_counter()
    store.get(key)
    first = time.perf_counter() - start
    start = time.perf_counter()
    for other in chosen:
        store.get(other)
    lookup = (time.perf_counter() - start) / len(chosen)
    store.close()
    return {"open_s": opened, "first_get_s": first, "get_s": lookup}


def opening(most: int) -> list[dict[str, Any]]:
    """Open stores of more and more entries."""
    context = multiprocessing.get_context("spawn")
    rows, keys = list[dict[str, Any]](), list[ContentKey]()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "store"
        count = 1
        while count <= most:
            keys += fill(path, count - len(keys), len(keys))
            chosen = random.Random(0).choices(keys, k=LOOKUPS)
            found = []
            for _ in range(STARTS):
                with context.Pool(1) as pool:
                    found.append(pool.apply(start_up, (str(path), keys[0], list(chosen))))
            row: dict[str, Any] = {"entries": count}
            row |= {name: statistics.median(one[name] for one in found) for name in found[0]}
            row["bytes_on_disk"] = (path / "data.mdb").stat().st_blocks * 512
            rows.append(row)
            print(json.dumps(row), flush=True)
            count *= 10
    return rows


def main() -> None:
    """Run what is asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--gc", type=int, default=0, help="blobs to collect, and to keep")
    parser.add_argument("--open", type=int, default=0, help="entries of the largest store")
    args = parser.parse_args()
    print(json.dumps({"cpus": os.cpu_count()}))
    if args.gc:
        print(json.dumps(gc(args.gc)))
    if args.open:
        opening(args.open)


if __name__ == "__main__":
    main()
