"""Let many processes publish the same bundles at once, or read while a store is written, collected and grown.

    python tests/programs/racing.py publish --processes 64 --rounds 1000
    python tests/programs/racing.py collect --processes 16 --rounds 1000

Writers are killed at random and replaced. One line of JSON tells the counts and the longest single call;
whatever is torn, raises or waits past its bound is a failure.
"""

import argparse
import functools
import itertools
import json
import os
import random
import signal
import struct
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from firebrick.storage import format as fmt
from firebrick.storage.format import Kind
from firebrick.storage.keys import recipe_key
from firebrick.storage.store import Blob, Store
from support.store_ops import Operation, look, perform

SMALL_MAP = 1 << 16  # grows often
REPORT = struct.Struct("=idd")  # round, seconds of the call, when it ended
RECIPE = {"function.module": "m", "function.name": "f"}


def timed(send: int, number: int, action: Callable[[], object]) -> None:
    """Run an action and report it; the pipe takes a report in one piece."""
    start = time.monotonic()
    action()
    now = time.monotonic()
    os.write(send, REPORT.pack(number, now - start, now))


def publish_rounds(path: Path, seed: int, send: int, first: int, rounds: int) -> None:
    """Publish one bundle after the other under one recipe, as everybody else does."""
    with Store.open(path, map_size=SMALL_MAP, durable="system") as store:
        for number in range(first, rounds):
            parts = [Blob(Kind.TENSOR, b"%d" % number * 400), Blob(Kind.TENSOR, b"shared" * 100)]
            manifest = Blob(Kind.BUNDLE, b"%d" % number)
            keys = [part.key for part in parts]
            action = functools.partial(store.publish, recipe_key(RECIPE), RECIPE, manifest, keys, parts)
            timed(send, number, action)


def churn(path: Path, seed: int, send: int, first: int, rounds: int) -> None:
    """Publish and drop at random for ever."""
    rng = random.Random(seed)
    with Store.open(path, map_size=SMALL_MAP, durable="system") as store:
        while True:
            verb = rng.choice(("publish", "publish", "drop", "name"))
            timed(send, -1, functools.partial(perform, store, Operation(verb, rng.randrange(8))))


def read(path: Path, seed: int, send: int, first: int, rounds: int) -> None:
    """Read every byte for ever, in a snapshot at a time."""
    with Store.open(path, map_size=SMALL_MAP) as store:
        while True:
            timed(send, -2, lambda: look(store))


def collect(path: Path, seed: int, send: int, first: int, rounds: int) -> None:
    """Collect so many times."""
    with Store.open(path, durable="system") as store:
        for number in range(first, rounds):
            timed(send, number, lambda: store.gc(grace=0))


def start(body: Callable[..., None], *arguments: object) -> int:
    """Fork a process that runs a body, and return its id."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forks with threads
        pid = os.fork()
    if not pid:
        status = 1
        try:
            body(*arguments)
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    return pid


class Race:
    """Hold the processes of a race, and what they reported."""

    def __init__(self, path: Path, rounds: int, seed: int) -> None:
        self.path, self.rounds, self.rng = path, rounds, random.Random(seed)
        self.receive, self.send = os.pipe()
        os.set_blocking(self.receive, False)
        self.running: dict[int, Callable[..., None]] = {}
        self.reached, self.calls, self.kills, self.longest = 0, 0, 0, 0.0
        self.failures: list[str] = []
        self._seeds = itertools.count(seed)

    def start(self, body: Callable[..., None], first: int = 0) -> None:
        """Add a process."""
        pid = start(body, self.path, next(self._seeds), self.send, first, self.rounds)
        self.running[pid] = body

    def take(self) -> None:
        """Take reports in, and notice who ended."""
        try:
            data = os.read(self.receive, REPORT.size * 2048)
        except BlockingIOError:
            data = b""
        for number, seconds, _ in REPORT.iter_unpack(data):
            self.calls += 1
            self.reached = max(self.reached, number)
            self.longest = max(self.longest, seconds)
        for pid in list(self.running):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                del self.running[pid]
                if status:
                    self.failures.append(f"a process ended with {os.waitstatus_to_exitcode(status)}")

    def kill(self, *, instead: bool = True) -> None:
        """Kill somebody who may be killed; another one goes on."""
        some = [pid for pid, body in self.running.items() if body is not collect or not instead]
        if some:
            pid = self.rng.choice(some)
            body = self.running.pop(pid)
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            self.kills += instead
            if instead:
                self.start(body, self.reached)


def main() -> None:
    """Race."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("what", choices=["publish", "collect"])
    parser.add_argument("--processes", type=int, default=8, help="that publish, or read")
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=1e9, help="stop after this time")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="firebrick-race-") as folder:
        race = Race(Path(folder) / "store", arguments.rounds, arguments.seed)
        bodies: list[Callable[..., None]] = [publish_rounds] * arguments.processes
        if arguments.what == "collect":
            bodies = [churn, churn, collect, *[read] * arguments.processes]
        for body in bodies:
            race.start(body)
        last = publish_rounds if arguments.what == "publish" else collect
        end = began + arguments.seconds
        while last in race.running.values() and not race.failures and time.monotonic() < end:
            time.sleep(race.rng.uniform(0, 0.1))
            race.take()
            race.kill()
        while race.running:
            race.kill(instead=False)
        race.take()
        with Store.open(race.path, durable=False) as store:
            race.failures += [str(problem) for problem in store.check().problems]
            if arguments.what == "publish":
                missing = race.reached + 1 - len(store.bundles(recipe_key(RECIPE)))
                race.failures += [f"{missing} bundles are missing"] if missing > 0 else []
        if race.longest > fmt.LOCK_TIMEOUT_S:
            race.failures.append(f"a call took {race.longest:.1f} s")
        found = {"rounds": race.reached + 1, "calls": race.calls, "kills": race.kills}
        seconds = round(time.monotonic() - began)
        found |= {"longest call s": round(race.longest, 2), "failures": race.failures[:5], "seconds": seconds}
        print(json.dumps(found))
    raise SystemExit(bool(race.failures))


if __name__ == "__main__":
    main()
