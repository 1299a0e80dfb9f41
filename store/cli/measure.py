"""Measure starts of a program: without Firebrick, from torch's own caches, and from a store."""

import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from firebrick.base.namedtuple import NamedTuple
from firebrick.cli.started import command_of
from firebrick.errors import UsageError

COLD: Final = "cold"
TORCH: Final = "torch's warm caches"
RECORDING: Final = "cold, recording"
FIREBRICK: Final = "Firebrick"
_CACHES: Final = ("TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR")
_OURS: Final = "FIREBRICK_"


class Measured(NamedTuple):
    """The starts in one way: the seconds of each, and whether its output equals the first start's."""

    way: str
    seconds: list[float]
    same: bool

    @property
    def median(self) -> float:
        """Return the median of the seconds."""
        return statistics.median(self.seconds)


def measure(
    program: Sequence[str], repeats: int, told: Callable[[str], None] = lambda text: None
) -> list[Measured]:
    """Start a program in four ways, each time in a separate process; seconds are of the whole process.

    Cold starts, and Firebrick's, have new empty caches of torch and Triton.

    Args:
        program: as for `started.command_of`.
        repeats: number of starts of each of the two warm ways.
        told: called with progress messages.

    Raises:
        UsageError: the program cannot be started, or fails.
    """
    with tempfile.TemporaryDirectory(prefix="firebrick-bench-") as root:
        folder, store = Path(root), Path(root, "store")

        def once(way: str, caches: str, settings: Mapping[str, str] | None) -> tuple[float, bytes]:
            told(way)
            return _once(program, way, folder / caches, settings)

        recording = {"FIREBRICK_CACHE_DIR": str(store)}
        serving = recording | {"FIREBRICK_RECORD": "0"}
        first, output = once(COLD, "torch", None)
        warm = [once(TORCH, "torch", None) for _ in range(repeats)]
        record = once(RECORDING, "recording", recording)
        served = [once(FIREBRICK, f"empty-{number}", serving) for number in range(repeats)]
    ways = ((COLD, [(first, output)]), (TORCH, warm), (RECORDING, [record]), (FIREBRICK, served))
    return [
        Measured(way, [seconds for seconds, _ in starts], all(said == output for _, said in starts))
        for way, starts in ways
    ]


def _once(
    program: Sequence[str], way: str, caches: Path, settings: Mapping[str, str] | None
) -> tuple[float, bytes]:
    environ = {name: value for name, value in os.environ.items() if not name.startswith(_OURS)}
    environ |= {name: str(caches / name.lower()) for name in _CACHES} | dict(settings or {})
    began = time.perf_counter()
    try:
        done = subprocess.run(command_of(program), env=environ, capture_output=True, check=False)
    except OSError as error:
        raise UsageError(f"{program[0]} cannot be started: {error.strerror}") from None
    seconds = time.perf_counter() - began
    if done.returncode:
        last = done.stderr.decode(errors="replace").strip().rpartition("\n")[2]
        raise UsageError(f"the program ended with code {done.returncode} ({way}): {last}")
    return seconds, done.stdout
