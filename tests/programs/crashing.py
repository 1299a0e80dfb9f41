"""Kill writers at their steps, and replay what a crash of the system can leave.

    python tests/programs/crashing.py kills --count 20000
    python tests/programs/crashing.py replay --count 100000

It starts itself under tests/support/io_shim.c. Each prints one line of JSON; whatever is wrong is named
there with the seed and step that repeat it.
"""

import argparse
import collections
import functools
import hashlib
import itertools
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).parents[1]))

from firebrick.storage import lmdb_api
from firebrick.storage.directory import Place
from firebrick.storage.environment import Engine
from firebrick.storage.store import Store
from support import io_trace
from support.crash_states import Disk, Files
from support.io_trace import Event, How, Op, Shim
from support.store_ops import Operation, State, after, drawn, perform, wrong

MEMORY = "/dev/shm" if os.path.isdir("/dev/shm") else None
SMALL_MAP = 1 << 16  # grows often
META_PAGES = 2 * 4096  # a write there commits


# What can be taken out of the store, to see that it is missed.
BREAKS: dict[str, tuple[Any, str, Any]] = {
    "flush of the folder": (Place, "flush", lambda _: None),
    "flush of a commit": (Engine, "flush", lambda _: None),
    "new file in one piece": (lmdb_api, "write_new", lambda file, _: Path(file).touch(0o600)),
}


def opened(path: Path, seed: int, durable: bool = True) -> Store:
    """Open a store, every other one with the smallest map."""
    return Store.open(path, durable=durable, map_size=SMALL_MAP if seed % 2 else None)


class Kill(NamedTuple):
    """A writer that is to be killed: operations done before it, and its own."""

    seed: int
    before: list[Operation]
    last: Operation

    @classmethod
    def drawn(cls, seed: int) -> "Kill":
        """Draw one; its last operation is possible."""
        rng = random.Random(seed)
        *before, last = drawn(rng, rng.randrange(1, 6))
        return cls(seed, before, last)

    @property
    def states(self) -> list[State]:
        """What the store may hold afterwards."""
        state = functools.reduce(after, self.before, State())
        return [state, after(state, self.last)]

    def prepare(self, template: Path) -> None:
        """Make the store that it finds; none where nothing was done before."""
        if self.before:
            with opened(template, self.seed) as store:
                for operation in self.before:
                    perform(store, operation)

    def act(self, path: Path, shim: Shim, how: How, at: int, report: int = -1) -> None:
        """Do the last operation in this process, which is killed at a step."""
        shim.watch(path)
        shim.act(at, how)
        with opened(path, self.seed) as store:
            perform(store, self.last)
        if report >= 0:
            os.write(report, b"%d" % shim.steps)

    def judge(self, path: Path) -> str:
        """Say what is wrong with what is left; then the operation is done again and must succeed."""
        with opened(path, self.seed) as store:
            problem = wrong(store, self.states)
            perform(store, self.last)
            return problem or wrong(store, self.states[1:])


def kills(count: int, end: float, seed: int, shim: Shim, root: Path) -> dict[str, object]:
    """Kill processes at each of their steps until there were so many kills."""
    failures, verbs = list[str](), collections.Counter[str]()
    template, path = root / "template", root / "store"
    while verbs.total() < count and time.monotonic() < end and not failures:
        kill = Kill.drawn(seed)
        kill.prepare(template)
        prepare(template, path)
        receive, send = os.pipe()
        if io_trace.in_child(functools.partial(kill.act, path, shim, How.BEFORE, -1, send)):
            raise SystemExit(f"seed {seed}: {kill.last} fails by itself")
        steps = int(os.read(receive, 100))
        os.close(receive)
        os.close(send)
        for at, how in itertools.product(range(1, steps + 1), (How.BEFORE, How.HALF, How.AFTER)):
            prepare(template, path)
            status = io_trace.in_child(functools.partial(kill.act, path, shim, how, at))
            verbs[kill.last.verb] += status == -signal.SIGKILL
            if status not in (0, -signal.SIGKILL):
                failures.append(f"seed {seed}, {how.name} step {at} of {kill.last}: ended with {status}")
            if problem := kill.judge(path):
                failures.append(f"seed {seed}, {how.name} step {at} of {kill.last}: {problem}")
        shutil.rmtree(template, ignore_errors=True)
        seed += 1
    return {"kills": verbs.total(), "seeds up to": seed, "by verb": dict(verbs), "failures": failures[:5]}


def prepare(template: Path, path: Path) -> None:
    """Put a copy of a store in place, or nothing where there was none."""
    shutil.rmtree(path, ignore_errors=True)
    if template.exists():
        shutil.copytree(template, path)
        path.chmod(0o700)


def record(seed: int, shim: Shim, root: Path) -> tuple[list[Event], list[Operation], bool]:
    """Trace processes that work on a store in turn; return the events, what was done, and whether durably."""
    rng = random.Random(seed)
    operations, durable = drawn(rng, rng.randrange(1, 12)), seed % 3 != 2
    watched, log = root / "watched", root / "log"
    shutil.rmtree(watched, ignore_errors=True)
    watched.mkdir()
    fd = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND)

    def work(start: int, end: int) -> None:
        shim.watch(watched, fd)
        with opened(watched / "store", seed, durable) as store:
            for operation in operations[start:end]:
                perform(store, operation)
                shim.mark("done")

    at = 0
    while at < len(operations):
        end = at + rng.randrange(1, 6)
        if io_trace.in_child(functools.partial(work, at, end)):
            raise SystemExit(f"seed {seed}: the writer failed by itself")
        at = end
    os.close(fd)
    return io_trace.read_log(log), operations, durable


def replay(count: int, end: float, seed: int, shim: Shim, root: Path) -> dict[str, object]:
    """Rebuild states of the files at each step, until there were so many that differ."""
    seen, failures, tried = set[bytes](), list[str](), 0
    while len(seen) < count and time.monotonic() < end and not failures:
        events, operations, durable = record(seed, shim, root)
        states = [State()]
        for operation in operations:
            states.append(after(states[-1], operation))
        rng, disk, done, sure, committed = random.Random(seed), Disk(), 0, 0, False
        batch: list[tuple[str, Files, list[State]]] = []
        for number, event in enumerate(events):
            if event.op is Op.MARK:
                if committed and not durable:
                    sure = done  # what it did may be lost, until the next commit
                done, committed = done + 1, False
                sure = done if durable else sure
                continue
            committed |= (
                event.op is Op.WRITE and event.offset < META_PAGES and event.path.endswith("data.mdb")
            )
            disk.play(event)
            allowed = states[sure : done + 2]
            for files in disk.states(rng, 12):
                tried += 1
                mark = hashlib.blake2b(
                    repr((sorted(files.items(), key=str), allowed)).encode(), digest_size=12
                ).digest()
                if mark not in seen:
                    seen.add(mark)
                    batch.append(
                        (f"seed {seed}, after event {number} ({event.op.name} {event.path})", files, allowed)
                    )
        failures += judge(batch, root)
        seed += 1
    return {"states": len(seen), "tried": tried, "seeds up to": seed, "failures": failures[:5]}


def judge(batch: list[tuple[str, Files, list[State]]], root: Path) -> list[str]:
    """Open each state in a child, which a bad one may kill; return what is wrong."""
    log = root / "verdicts"
    log.write_text("")

    def each() -> None:
        with open(log, "a", buffering=1) as verdicts:
            for what, files, allowed in batch:
                verdicts.write(f"{what}: the process died\n")
                problem = judged(files, allowed, root / "rebuilt")
                verdicts.write(f"{what}: {problem}\n" if problem else "sound\n")

    io_trace.in_child(each, 600)
    lines = log.read_text().splitlines()
    failures = [line for line in lines[1::2] if line != "sound"]
    return failures + (lines[-1:] if len(lines) < 2 * len(batch) else [])


def judged(files: Files, allowed: list[State], root: Path) -> str:
    """Say what is wrong with a state of the files."""
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir()
    for name, data in sorted(files.items()):
        if name != "." and data is None:
            (root / name).mkdir(mode=0o700)
        elif data is not None:
            (root / name).write_bytes(data)
            (root / name).chmod(0o600)
    try:
        with Store.open(root / "store", durable=False) as store:
            problem = wrong(store, allowed)
            perform(store, Operation("publish", 7))
            return problem or ("" if store.check().clean else "not clean after the next write")
    except Exception as error:
        return f"{type(error).__name__}: {error}"


def main() -> None:
    """Run what is asked for; under the shim, which is compiled and loaded first where it is not."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("what", choices=["kills", "replay"])
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--seconds", type=float, default=1e9, help="stop after this time")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--without", choices=sorted(BREAKS), nargs="*", default=[])
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="firebrick-crash-", dir=MEMORY) as folder:
        root = Path(folder)
        if "io_shim" not in os.environ.get("LD_PRELOAD", ""):
            done = io_trace.run(io_trace.compiled(root), Path(__file__), *sys.argv[1:])
            print(done.stdout, done.stderr, sep="", end="")
            raise SystemExit(done.returncode)
        for name in arguments.without:
            setattr(*BREAKS[name])
        began = time.monotonic()
        action = {"kills": kills, "replay": replay}[arguments.what]
        found = action(arguments.count, began + arguments.seconds, arguments.seed, Shim(), root)
        print(json.dumps({**found, "seconds": round(time.monotonic() - began)}))
        raise SystemExit(bool(found["failures"]))


if __name__ == "__main__":
    main()
