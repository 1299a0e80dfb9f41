"""Measure what each level of durability costs: one publish of a bundle of 10 parts, 60 kB, new each time.

The levels take turns, publish by publish, on stores of their own in one folder. Where the disk has a cache,
or is a virtual one, a flush may cost less than on a bare disk; other work of the disk is included.

    python benchmarks/bench_durability.py [--folder DIR] [--publishes 500]
"""

from __future__ import annotations

import argparse
import contextlib
import random
import statistics
import tempfile
import time
from pathlib import Path

from firebrick.storage.durability import Durability
from firebrick.storage.format import Kind
from firebrick.storage.keys import recipe_key
from firebrick.storage.store import Blob, Store

LEVELS: tuple[Durability, ...] = ("each", "interval", "system")
PARTS, PART_BYTES = 10, 6000


def publish(store: Store, number: int) -> float:
    """Publish one bundle and return the seconds that it took."""
    rng = random.Random(number)
    parts = [Blob(Kind.TENSOR, rng.randbytes(PART_BYTES)) for _ in range(PARTS)]
    manifest = Blob(Kind.BUNDLE, b"%d" % number)
    components = {"number": str(number)}
    recipe, keys = recipe_key(components), [part.key for part in parts]
    start = time.perf_counter()
    new = store.publish(recipe, components, manifest, keys, parts)
    seconds = time.perf_counter() - start
    if not new:
        raise SystemExit("it was there already")
    return seconds


def main() -> None:
    """Print a table of milliseconds."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--folder", type=Path, help="where the stores are made; default that of temporary files"
    )
    parser.add_argument("--publishes", type=int, default=500, help="of each level")
    arguments = parser.parse_args()
    times: dict[str, list[float]] = {level: [] for level in LEVELS}
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=arguments.folder)))
        stores = {level: stack.enter_context(Store.open(folder / level, durable=level)) for level in LEVELS}
        for number in range(arguments.publishes):
            for level, store in stores.items():
                times[level].append(publish(store, number))
    print("| level | median ms | 90 % ms |\n|---|---|---|")
    for level, found in times.items():
        cuts = statistics.quantiles(found, n=10)
        print(f"| `{level}` | {1000 * statistics.median(found):.2f} | {1000 * cuts[-1]:.2f} |")


if __name__ == "__main__":
    main()
