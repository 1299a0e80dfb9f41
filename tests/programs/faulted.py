"""Start a program with a store under each fault: recording, served by either lane, and a verb.

    python tests/programs/faulted.py                     # all, half an hour on two busy cores
    python tests/programs/faulted.py --faults "a stopped opener" "no room" --acts lean cli

The store is recorded once. Each start gets a copy with one fault, and must end with code 0, print the
numbers that torch alone gives, and warn at most once; a verb must end without a signal or a traceback. One
line of JSON tells what came; failures are named. What needs a right that this user lacks counts as skipped.
"""

import argparse
import collections
import contextlib
import json
import os
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import lmdb
import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))

from firebrick.storage import format as fmt
from support.faults import HOLD_BYTE, HOLD_MUTEX, doing, fill, mounted, sparse_lock
from support.programs import start

PROGRAM = Path(__file__).with_name("modelled.py")
PAGE = 4096
ACTS = {"record": ("3.0",), "lean": (), "full": (), "cli": ()}
HOLD_WRITER = """
fd = os.open(argv[0] + "/data.mdb", os.O_RDONLY)
fcntl.flock(fd, fcntl.LOCK_EX)
print("ready", flush=True)
os.kill(os.getpid(), signal.SIGSTOP)
"""

Where = tuple[Path, dict[str, str]]  # of the store; more variables
Fault = Callable[[Path], contextlib.AbstractContextManager[Where]]
FAULTS: dict[str, Fault] = {}


def given(name: str, spoil: Callable[[Path], object] = lambda store: None, **variables: str) -> None:
    """Note a fault that changes the files of a store, or variables."""

    @contextlib.contextmanager
    def fault(store: Path) -> Iterator[Where]:
        spoil(store)
        yield store, variables

    FAULTS[name] = fault


def data(store: Path) -> Path:
    return store / fmt.DATA_FILE


def lock(store: Path) -> Path:
    return store / fmt.LOCK_FILE


def write(file: Path, at: int, new: bytes) -> None:
    with open(file, "r+b") as opened:
        opened.seek(at)
        opened.write(new)


def in_pages(kind: int, at: int, new: bytes) -> Callable[[Path], None]:
    """Return a change of all pages of a kind of LMDB's: 1 branches, 2 leaves, 4 values of several pages."""

    def spoil(store: Path) -> None:
        pages = bytearray(data(store).read_bytes())
        for page in range(2 * PAGE, len(pages), PAGE):
            if int.from_bytes(pages[page : page + 8], "little") == page // PAGE and pages[page + 10] == kind:
                pages[page + at : page + at + len(new)] = new
        data(store).write_bytes(pages)

    return spoil


def flips(count: int) -> Callable[[Path], None]:
    def spoil(store: Path) -> None:
        rng, used = random.Random(count), data(store).stat().st_blocks * 512
        for _ in range(count):
            write(data(store), rng.randrange(2 * PAGE, used), rng.randbytes(1))

    return spoil


def replaced(file: Path, make: Callable[[Path], object]) -> None:
    """Put something else in the place of a file or a folder."""
    away = file.with_name(f"{file.name}.away")
    file.rename(away)
    make(file)


def foreign(store: Path) -> None:
    shutil.rmtree(store)
    store.mkdir(mode=0o700)
    with lmdb.open(str(store)) as env, env.begin(write=True) as txn:
        txn.put(b"key", b"of somebody else")


def newer(store: Path) -> None:
    with lmdb.open(str(store), max_dbs=16, lib_version=0) as env:
        meta = env.open_db(b"meta")
        with env.begin(write=True) as txn:
            txn.put(fmt.META_FORMAT, txn.get(fmt.META_FORMAT, db=meta)[:-1] + b"9", db=meta)


def lacking(name: str) -> Callable[[Path], None]:
    def spoil(store: Path) -> None:
        with lmdb.open(str(store), max_dbs=16, lib_version=0) as env, env.begin(write=True) as txn:
            txn.drop(env.open_db(name.encode(), txn=txn), delete=False)

    return spoil


given("nothing")
given("no lock file", lambda store: lock(store).unlink())
given("an empty lock file", lambda store: lock(store).write_bytes(b""))
given("a lock file of noise", lambda store: lock(store).write_bytes(random.Random(1).randbytes(9000)))
given("a sparse lock file", sparse_lock)
given("a folder as lock file", lambda store: replaced(lock(store), Path.mkdir))
given("a link as lock file", lambda store: replaced(lock(store), lambda file: file.symlink_to("/dev/null")))
given("a pipe as lock file", lambda store: replaced(lock(store), os.mkfifo))
given("no data file", lambda store: data(store).unlink())
given("an empty data file", lambda store: data(store).write_bytes(b""))
given("noise as data file", lambda store: data(store).write_bytes(random.Random(2).randbytes(1 << 16)))
given("half of the data file", lambda store: os.truncate(data(store), data(store).stat().st_blocks * 256))
given("one page of the data file", lambda store: os.truncate(data(store), PAGE))
given("a folder as data file", lambda store: replaced(data(store), Path.mkdir))
given(
    "a link as data file", lambda store: replaced(data(store), lambda file: file.symlink_to("data.mdb.away"))
)
given("a pipe as data file", lambda store: replaced(data(store), os.mkfifo))
given("the first meta page gone", lambda store: write(data(store), 0, bytes(PAGE)))
given("the second meta page gone", lambda store: write(data(store), PAGE, bytes(PAGE)))
given("no meta pages", lambda store: write(data(store), 0, bytes(2 * PAGE)))
given("bounds of leaves", in_pages(2, 12, b"\xff\xff"))
given("pointers of leaves", in_pages(2, 16, b"\xf0\xff" * 3))
given("pointers of branches", in_pages(1, 16, b"\xf0\xff" * 3))
given("keys of branches", in_pages(1, PAGE - 46, bytes(46)))
given("flags of pages", in_pages(2, 10, b"\x10"))
given("values", in_pages(4, 300, b"\xff" * 8))
given("heads of values", in_pages(4, 16, b"\xff" * 8))
given("ten bytes", flips(10))
given("a hundred bytes", flips(100))
given("no blobs", lacking("blobs"))
given("no bundles", lacking("bundles"))
given("no recipes", lacking("recipes"))
given("no components", lacking("components"))
given("no registry", lacking("registry"))
given("no names and no clock", lambda store: (lacking("names")(store), lacking("clock")(store)))
given("a newer format", newer)
given("a file of another program", foreign)
given("a cut-off swap", lambda store: shutil.copy(data(store), store / fmt.SWAP_FILE))
given("a swap of noise", lambda store: (store / fmt.SWAP_FILE).write_bytes(b"noise" * 2000))
given(
    "leftovers",
    lambda store: [(store / name).write_bytes(b"x") for name in (fmt.COPY_FILE, "data.mdb.new-1")],
)
given("no folder", shutil.rmtree)
given("a file as folder", lambda store: replaced(store, lambda path: path.write_bytes(b"x")))
given("a link as folder", lambda store: replaced(store, lambda path: path.symlink_to("store.away")))
given("a folder open to all", lambda store: store.chmod(0o777))
given("a file open to all", lambda store: data(store).chmod(0o666))
given("a folder that cannot be made", FIREBRICK_CACHE_DIR="/proc/none/store")
given("a wrong setting", FIREBRICK_DURABLE="perhaps")
given("a small map", FIREBRICK_MAP_SIZE="65536")
given("a small limit", FIREBRICK_MAX_BYTES="2M")
given("a layer that is gone", FIREBRICK_LAYERS="/none/such.pack")
given("a layer of noise", FIREBRICK_LAYERS=f"{__file__}#none")
given("a key that is gone", FIREBRICK_SIGN="none")
given("signatures that are gone", FIREBRICK_SIGNATURES="require")
given("warnings as errors", PYTHONWARNINGS="error::UserWarning")


def stopped(name: str, code: str, *more: int) -> None:
    @contextlib.contextmanager
    def fault(store: Path) -> Iterator[Where]:
        with doing(code, store, *more):
            yield store, {}

    FAULTS[name] = fault


stopped("a stopped opener", HOLD_BYTE)
stopped("a stopped reader inside LMDB", HOLD_MUTEX, 8)
stopped("a stopped writer inside LMDB", HOLD_MUTEX, 64)
stopped("a stopped writer", HOLD_WRITER)


def mounts(name: str, size: str, spoil: Callable[[Path], object]) -> None:
    @contextlib.contextmanager
    def fault(store: Path) -> Iterator[Where]:
        with mounted(store.with_name("disk"), "-t", "tmpfs", "-o", f"size={size}", "none") as disk:
            shutil.copytree(store, disk / "store")
            (disk / "store").chmod(0o700)
            spoil(disk)
            yield disk / "store", {}

    FAULTS[name] = fault


mounts("no room", "16m", fill)
mounts("no room and no lock file", "16m", lambda disk: (lock(disk / "store").unlink(), fill(disk)))
mounts("a read-only disk", "16m", lambda disk: os.system(f"mount -o remount,ro '{disk}'"))


@contextlib.contextmanager
def odd(store: Path) -> Iterator[Where]:
    path = Path(os.fsdecode(os.fsencode(store) + b"\n\xff"))
    store.rename(path)
    yield path, {}


FAULTS["a name that is no text"] = odd


class Starts:
    """A store that was recorded once, and what the program prints without one."""

    def __init__(self, root: Path) -> None:
        self.root, self.store, self.home = root, root / "recorded", root / "home"
        self.printed = {more: self.run("record", {}, more)[1] for more in ((), ("3.0",))}
        status, _, said = self.run("record", {"FIREBRICK_CACHE_DIR": str(self.store)}, ())
        if status or "Warning" in said:
            raise SystemExit(said)

    def run(self, act: str, variables: dict[str, str], more: tuple[str, ...]) -> tuple[int, str, str]:
        """Start the program, or a verb; return status and what it printed."""
        command = ["-m", "firebrick.cli", "ls"] if act == "cli" else [PROGRAM, *more]
        env = {"FIREBRICK_SELF_TEST": "0", "FIREBRICK_LEAN": str(int(act != "full")), **variables}
        done = start(command, home=self.home, env=env, timeout=300)
        return done.returncode, done.stdout, done.stderr

    def under(self, fault: Fault, act: str) -> str:
        """Return what came of an act under a fault; failures begin with an exclamation mark."""
        folder = Path(tempfile.mkdtemp(dir=self.root))
        shutil.copytree(self.store, folder / "store")
        (folder / "store").chmod(0o700)
        try:
            with fault(folder / "store") as (path, more):
                variables = {"FIREBRICK_CACHE_DIR": os.fspath(path), **more}
                status, printed, said = self.run(act, variables, ACTS[act])
        except pytest.skip.Exception:
            return "skipped"
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        warned = said.count("FirebrickWarning:")
        if act == "cli":
            return f"!{status}: {said[-300:]}" if status < 0 or "Traceback" in said else f"code {status}"
        if status or printed != self.printed[ACTS[act]] or warned > 1 or "Traceback" in said:
            return f"!code {status}, {warned} warnings, {printed!r:.80}: {said[-300:]}"
        return f"{warned} warnings"


def main() -> None:
    """Go through the matrix."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--faults", nargs="*", choices=FAULTS, default=list(FAULTS))
    parser.add_argument("--acts", nargs="*", choices=ACTS, default=list(ACTS))
    arguments = parser.parse_args()
    began = time.monotonic()
    came: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)
    failures = []
    with tempfile.TemporaryDirectory(prefix="firebrick-faults-") as name:
        starts = Starts(Path(name))
        for fault in arguments.faults:
            for act in arguments.acts:
                result = starts.under(FAULTS[fault], act)
                print(f"{fault}, {act}: {result}", file=sys.stderr, flush=True)
                failures += [f"{fault}, {act}: {result[1:]}"] if result[0] == "!" else []
                came[act]["failure" if result[0] == "!" else result] += 1
    found = {"faults": len(arguments.faults), "came": {act: dict(counts) for act, counts in came.items()}}
    print(json.dumps({**found, "failures": failures, "seconds": round(time.monotonic() - began)}))
    raise SystemExit(bool(failures))


if __name__ == "__main__":
    main()
