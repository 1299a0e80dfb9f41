"""End real recordings at random moments, in every way a process can end, and look at what is left.

    python tests/programs/recording_killed.py --count 500

Each recording is a fork of a process that has torch and the compiler loaded. It compiles a small function and
stores it, and is ended at a drawn moment: by SIGKILL, SIGTERM, SIGINT, ``os._exit``, or a fork in the middle
whose child ends first. The store must then check clean, nothing that was started (such as a self-test) may
live on, and the next recordings must give the right numbers.
"""

import argparse
import collections
import contextlib
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import torch

import firebrick
from firebrick.storage.store import Store
from support.forks import fork, warm

ENDS = ("SIGKILL", "SIGTERM", "SIGINT", "_exit", "fork")
LONGEST_S = 60.0


def step(x: torch.Tensor) -> torch.Tensor:
    """What is compiled."""
    return (x * 3 + 1).relu().sum()


def record(path: Path, *, forks: bool = False) -> None:
    """Compile, run, compare and store."""
    firebrick.enable(path)
    if forks:
        threading.Timer(random.random(), forked).start()
    x = torch.arange(6.0, requires_grad=True)
    result = torch.compile(step)(x)
    result.backward()
    if result.item() != step(x.detach()).item() or x.grad is None or x.grad.tolist() != [3.0] * 6:
        raise AssertionError(f"wrong numbers: {result}, {x.grad}")
    firebrick.flush()
    firebrick.disable()


def forked() -> None:
    """Fork while the recording goes on; the child ends at once, and runs no handlers."""
    if os.fork() == 0:
        os._exit(0)


def ended(session: int) -> bool:
    """Wait until no process of a session is left; False if one stays."""
    deadline = time.monotonic() + LONGEST_S
    while time.monotonic() < deadline:
        alive = 0
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                with contextlib.suppress(OSError):
                    fields = (entry / "stat").read_text().rpartition(")")[2].split()
                    alive += int(fields[3]) == session and fields[0] != "Z"
        if not alive:
            return True
        time.sleep(0.1)
    return False


def trial(how: str, seconds: float, path: Path, log: Path) -> str:
    """End one recording; say what is wrong."""

    def body() -> None:
        os.setsid()
        if how == "_exit":
            threading.Timer(seconds, os._exit, [0]).start()
        record(path, forks=how == "fork")

    pid = fork(body, log)
    if how.startswith("SIG"):
        time.sleep(seconds)
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, getattr(signal, how))
    os.waitpid(pid, 0)
    if not ended(pid):
        return "something that it started lives on"
    if path.exists():
        with Store.open(path) as store:
            if problems := store.check().problems:
                return f"not clean: {problems[0]}"
    for _ in range(2):  # the first may have to record again
        again = fork(lambda: record(path), log)
        if status := os.waitpid(again, 0)[1]:
            return f"the next recording ended with {status}: {log.read_text()[-500:]}"
    with Store.open(path) as store:
        if problems := store.check().problems:
            return f"not clean in the end: {problems[0]}"
        return "" if store.stat().bundles else "nothing is stored in the end"


def main() -> None:
    """End recordings until there were enough."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--count", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=1e9, help="stop after this time")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    began, failures, ways = time.monotonic(), list[str](), collections.Counter[str]()
    warm(store=True)
    with tempfile.TemporaryDirectory(prefix="firebrick-killed-") as folder:
        path, log = Path(folder) / "store", Path(folder) / "log"
        start = time.monotonic()
        os.waitpid(fork(lambda: record(path), log), 0)
        whole = time.monotonic() - start
        for seed in range(arguments.seed, arguments.seed + arguments.count):
            if failures or time.monotonic() > began + arguments.seconds:
                break
            rng = random.Random(seed)
            how = rng.choice(ENDS)
            if rng.random() < 0.7:
                shutil.rmtree(path, ignore_errors=True)
            if problem := trial(how, rng.uniform(0, whole), path, log):
                failures.append(f"seed {seed}, {how}: {problem}")
            ways[how] += 1
    found = {"recordings": ways.total(), "by end": dict(ways), "a whole one s": round(whole, 1)}
    print(json.dumps({**found, "failures": failures, "seconds": round(time.monotonic() - began)}))
    raise SystemExit(bool(failures))


if __name__ == "__main__":
    main()
