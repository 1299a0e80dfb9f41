"""Churn a bounded store: writers publish many times its limit, readers read, and the disk is watched.

Prints one line of JSON and fails where the disk use passed the limit by more than a bundle, a reader or
writer met an error, or what is left is not sound.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import random
import tempfile
import time
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

from firebrick.errors import NotFoundError, StoreFull
from firebrick.storage.format import Kind
from firebrick.storage.keys import recipe_key
from firebrick.storage.store import Blob, Store

PARTS = 8


def bundle_of(rng: random.Random, size: int, number: str) -> tuple[dict[str, str], Blob, list[Blob]]:
    """Make a bundle of about `size` bytes, with parts of very different sizes and one that many share."""
    weights = [rng.random() ** 3 for _ in range(PARTS)]
    parts = [Blob(Kind.TENSOR, rng.randbytes(int(size * w / sum(weights)) + 1)) for w in weights]
    parts.append(Blob(Kind.TEXT, b"shared %d" % rng.randrange(20)))
    components = {"function.module": "churn", "function.name": number}
    return components, Blob(Kind.BUNDLE, number.encode()), parts


def write(path: str, limit: int, size: int, total: int, seed: int, out: Any) -> None:
    """Publish `total` bytes in bundles."""
    rng = random.Random(seed)
    written = not_stored = 0
    longest = 0.0
    with Store.open(path, durable=False, max_bytes=limit) as store:
        number = 0
        while written < total:
            components, manifest, parts = bundle_of(rng, size, f"{seed}-{number}")
            number += 1
            start = time.perf_counter()
            try:
                store.publish(
                    recipe_key(components), components, manifest, [part.key for part in parts], parts
                )
                store.note(manifest.key, {"seconds": rng.uniform(1, 100), "when": time.time()})
            except StoreFull:
                not_stored += 1
            longest = max(longest, time.perf_counter() - start)
            written += sum(len(part.data) for part in parts)
        evicted = store.evicted
    out.put({"bundles": number, "not_stored": not_stored, "evicted": evicted, "longest_s": longest})


def read(path: str, seed: int, done: Event, out: Any) -> None:
    """Read whole bundles, each in a snapshot, until told to stop."""
    rng = random.Random(seed)
    reads = torn = 0
    longest = 0.0
    with Store.open(path) as store:
        while not done.is_set():
            recipes = [*store.recipes()]
            for recipe in rng.sample(recipes, min(20, len(recipes))):
                start = time.perf_counter()
                with store.snapshot() as snapshot:
                    try:
                        for bundle in snapshot.bundles(recipe):
                            for part in snapshot.parts(bundle):
                                snapshot.get(part)
                            reads += 1
                    except NotFoundError:
                        torn += 1
                longest = max(longest, time.perf_counter() - start)
    out.put({"reads": reads, "torn": torn, "longest_s": longest})


def disk(path: Path) -> int:
    """Return the bytes of all files in a folder, as allocated."""
    total = 0
    for file in path.iterdir():
        try:
            total += file.stat().st_blocks * 512
        except FileNotFoundError:
            continue
    return total


def main() -> None:
    """Run the churn and print what was seen."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--max-bytes", type=int, default=64 << 20)
    parser.add_argument("--bundle", type=int, default=256 << 10, help="bytes of a bundle")
    parser.add_argument("--times", type=float, default=10.0, help="how many times the limit is written")
    parser.add_argument("--writers", type=int, default=4)
    parser.add_argument("--readers", type=int, default=8)
    args = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "store"
        Store.open(path, durable=False, max_bytes=args.max_bytes).close()
        done, wrote, was_read = context.Event(), context.Queue(), context.Queue()
        total = int(args.max_bytes * args.times / args.writers)
        writers = [
            context.Process(target=write, args=(str(path), args.max_bytes, args.bundle, total, i, wrote))
            for i in range(args.writers)
        ]
        readers = [
            context.Process(target=read, args=(str(path), 100 + i, done, was_read))
            for i in range(args.readers)
        ]
        start, most = time.perf_counter(), 0
        for process in writers + readers:
            process.start()
        while any(process.is_alive() for process in writers):
            most = max(most, disk(path))
            time.sleep(0.005)
        seconds = time.perf_counter() - start
        done.set()
        for process in writers + readers:
            process.join()
        failed = [process.exitcode for process in writers + readers if process.exitcode]
        results = [wrote.get() for _ in range(args.writers - len(failed))], []
        found = [was_read.get() for _ in readers] if not failed else []
        with Store.open(path) as store:
            clean, stat = store.check().clean, store.stat()
    report = {
        "max_bytes": args.max_bytes,
        "most_bytes_on_disk": most,
        "seconds": round(seconds, 1),
        "bundles": sum(result["bundles"] for result in results[0]),
        "not_stored": sum(result["not_stored"] for result in results[0]),
        "evicted": sum(result["evicted"] for result in results[0]),
        "longest_write_s": round(max(result["longest_s"] for result in results[0]), 3),
        "reads": sum(result["reads"] for result in found),
        "torn": sum(result["torn"] for result in found),
        "longest_read_s": round(max((result["longest_s"] for result in found), default=0.0), 3),
        "kept": stat.bundles,
        "bytes_stored": stat.bytes_stored,
        "sound": clean,
        "cpus": os.cpu_count(),
    }
    print(json.dumps(report))
    if failed or not clean or report["torn"] or most > args.max_bytes + args.bundle:
        raise SystemExit(f"failed: {failed}")


if __name__ == "__main__":
    main()
