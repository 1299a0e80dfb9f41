"""Measure put, get and open of the store against raw LMDB, SQLite and plain files.

Every case runs in a process of its own, on data from a seed, in a new directory; what is read back
is compared with what was written. A case is a size of entries (1 KiB to 16 MiB) and a number of
them (1 to 100 000).

- *put many*: all entries in one transaction, until it is on disk;
- *put one*: one more entry, on disk (median of a few);
- *open*: from the closed store to the first entry, in a process that has the modules loaded;
- *get*: entries in random order, each as bytes of its own;
- *view*: the same without a copy where there is such a thing, summing one byte per page.

Bias. For the store: it runs on the very LMDB that it is compared with, so it can only lose against
*lmdb*; what it adds is hashing on put, and checking header and digest on get. Against the store:
none of the others verifies what it reads, or names entries by their content (their keys are made
beforehand). For files: *put many* does not wait until each is on disk, but for one `sync` of their
folder's file system. Data does not compress. Reads come from the page cache.

    python benchmarks/bench_store.py [--full] [--json store.json]
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import multiprocessing
import os
import platform
import random
import sqlite3
import statistics
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lmdb

from firebrick.storage.format import Kind
from firebrick.storage.keys import ContentKey, content_key
from firebrick.storage.store import Blob, Store

SEED = 20260
SIZES = (1 << 10, 16 << 10, 256 << 10, 1 << 20, 16 << 20)
COUNTS = (1, 100, 10_000, 100_000)
QUICK_BYTES, FULL_BYTES = 40 << 20, 2 << 30  # limit of a case
MOST_GETS = 1000
ONES = 5

Items = list[tuple[ContentKey, bytes]]


class Contender(ABC):
    """Keep bytes by key in a directory."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @abstractmethod
    def put_many(self, items: Items) -> None:
        """Keep entries, all in one step where that is possible, and wait until they are on disk."""

    @abstractmethod
    def get(self, key: ContentKey) -> bytes:
        """Return an entry as bytes of its own."""

    def close(self) -> None:  # noqa: B027
        """Close it; by default there is nothing to do."""

    @contextmanager
    def views(self) -> Iterator[Callable[[ContentKey], bytes | memoryview]]:
        """Give a function that returns entries without a copy, where there is such a thing."""
        yield self.get


class Firebrick(Contender):
    """The store."""

    def __init__(self, path: Path) -> None:
        self.store = Store.open(path)

    def put_many(self, items: Items) -> None:
        self.store.put_many(Blob(Kind.TENSOR, data) for _, data in items)

    def get(self, key: ContentKey) -> bytes:
        data = self.store.get(key).data
        if not isinstance(data, bytes):
            raise TypeError("not owned")
        return data

    def close(self) -> None:
        self.store.close()

    @contextmanager
    def views(self) -> Iterator[Callable[[ContentKey], bytes | memoryview]]:
        with self.store.snapshot() as snapshot:
            yield lambda key: snapshot.get(key).data


class Lmdb(Contender):
    """LMDB as it is, with the options of the store."""

    def __init__(self, path: Path) -> None:
        self.env = lmdb.Environment(str(path), map_size=1 << 40, max_readers=4096)

    def put_many(self, items: Items) -> None:
        with self.env.begin(write=True) as txn:
            for key, data in items:
                txn.put(key, data)

    def get(self, key: ContentKey) -> bytes:
        with self.env.begin() as txn:
            return txn.get(key) or b""

    def close(self) -> None:
        self.env.close()

    @contextmanager
    def views(self) -> Iterator[Callable[[ContentKey], bytes | memoryview]]:
        with self.env.begin(buffers=True) as txn:
            yield lambda key: txn.get(key) or b""


class Sqlite(Contender):
    """SQLite with a write-ahead log and full synchronisation."""

    def __init__(self, path: Path) -> None:
        path.mkdir(exist_ok=True)
        self.db = sqlite3.connect(path / "db")
        self.db.execute("PRAGMA journal_mode=WAL")
        self.db.execute("PRAGMA synchronous=FULL")
        self.db.execute("CREATE TABLE IF NOT EXISTS blobs (key BLOB PRIMARY KEY, data BLOB)")

    def put_many(self, items: Items) -> None:
        with self.db:
            self.db.executemany("INSERT OR IGNORE INTO blobs VALUES (?, ?)", items)

    def get(self, key: ContentKey) -> bytes:
        (data,) = self.db.execute("SELECT data FROM blobs WHERE key = ?", (key,)).fetchone()
        return bytes(data)

    def close(self) -> None:
        self.db.close()


class Files(Contender):
    """A file per entry, in 256 folders, put in place by renaming."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        for i in range(256):
            (path / f"{i:02x}").mkdir(parents=True, exist_ok=True)

    def _file(self, key: ContentKey) -> str:
        name = key.hex()
        return f"{self.path}/{name[:2]}/{name[2:]}"

    def put_many(self, items: Items) -> None:
        for key, data in items:
            name = self._file(key)
            with open(name + ".new", "wb") as file:
                file.write(data)
                if len(items) == 1:
                    file.flush()
                    os.fsync(file.fileno())
            os.rename(name + ".new", name)
        if len(items) > 1:
            os.sync()

    def get(self, key: ContentKey) -> bytes:
        with open(self._file(key), "rb") as file:
            return file.read()


CONTENDERS: dict[str, Callable[[Path], Contender]] = {
    "firebrick": Firebrick,
    "lmdb": Lmdb,
    "sqlite": Sqlite,
    "files": Files,
}


def make(size: int, count: int, first: int = 0) -> Items:
    """Make entries from the seed: random bytes, each block shared but for 16 bytes of its own."""
    block = random.Random(SEED).randbytes(size)
    data = [i.to_bytes(16, "little") + block[16:] for i in range(first, first + count)]
    return [(content_key(Kind.TENSOR, item), item) for item in data]


def run(name: str, size: int, count: int) -> dict[str, Any]:
    """Measure one case in this process; times in seconds."""
    items, ones = make(size, count), make(size, ONES, first=count)
    rng = random.Random(SEED)
    chosen = rng.sample(items, min(count, MOST_GETS))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "store"
        contender = CONTENDERS[name](path)
        start = time.perf_counter()
        contender.put_many(items)
        put_many = time.perf_counter() - start
        put_one = []
        for item in ones:
            start = time.perf_counter()
            contender.put_many([item])
            put_one.append(time.perf_counter() - start)
        contender.close()

        start = time.perf_counter()
        contender = CONTENDERS[name](path)
        first = contender.get(chosen[0][0])
        opened = time.perf_counter() - start
        if first != chosen[0][1]:
            raise SystemExit(f"{name}: the first entry differs")

        start = time.perf_counter()
        got = [contender.get(key) for key, _ in chosen]
        get = time.perf_counter() - start
        if got != [data for _, data in chosen]:
            raise SystemExit(f"{name}: an entry differs")
        with contender.views() as look:
            start = time.perf_counter()
            touched = sum(sum(look(key)[::4096]) for key, _ in chosen)
            view = time.perf_counter() - start
        if touched != sum(sum(data[::4096]) for _, data in chosen):
            raise SystemExit(f"{name}: a view differs")
        contender.close()
        disk = sum(file.stat().st_blocks * 512 for file in path.rglob("*") if file.is_file())
    return {
        "contender": name,
        "size": size,
        "count": count,
        "put_many_s": put_many,
        "put_one_s": statistics.median(put_one),
        "open_s": opened,
        "get_s": get / len(chosen),
        "view_s": view / len(chosen),
        "bytes_on_disk": disk,
    }


def main() -> None:
    """Run all cases and print a table; times are per entry but for `open`."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--full", action="store_true", help="cases of up to 2 GiB (many minutes)")
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    arguments = parser.parse_args()
    limit = FULL_BYTES if arguments.full else QUICK_BYTES
    cases = [(size, count) for size in SIZES for count in COUNTS if size * count <= limit]
    context = multiprocessing.get_context("spawn")
    results = []
    print("    size   count contender  put many   put one      open       get      view  disk")
    for size, count in cases:
        for name in CONTENDERS:
            with context.Pool(1) as pool:
                result = pool.apply(run, (name, size, count))
            results.append(result)
            times = (
                result["put_many_s"] / count,
                *(result[f"{what}_s"] for what in ("put_one", "open", "get", "view")),
            )
            cells = " ".join(f"{1e6 * seconds:9.1f}" for seconds in times)
            ratio = result["bytes_on_disk"] / (size * (count + ONES))
            print(f"{size:8} {count:7} {name:9} {cells} {ratio:9.2f}", flush=True)
    packages = ("firebrick", "lmdb", "blake3", "zstandard")
    report = {
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        "lmdb_engine": ".".join(map(str, lmdb.version())),
        **{name: importlib.metadata.version(name) for name in packages},
        "machine": platform.machine(),
        "cpus": os.cpu_count(),
        "results": results,
    }
    if arguments.json:
        arguments.json.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
