"""Start a program with Firebrick on, wait for it, and collect its processes' counters."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Any, Final

from firebrick.base.namedtuple import NamedTuple
from firebrick.errors import UsageError
from firebrick.reports.tally import collect, total

PROGRAM_SETTINGS: Final = {"ignore_unknown_options": True, "allow_interspersed_args": False}
_FORWARDED: Final[tuple[int, ...]] = (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)


class Ended(NamedTuple):
    """The end of a program.

    Args:
        code: its exit code; 128 plus the number of the signal that ended it.
        counts: the sum of its processes' counters.
        told: misses and functions not stored: function, outcome, reason.
        recipes: keys of served recipes, in hexadecimal.
    """

    code: int
    counts: dict[str, Any]
    told: list[dict[str, str]]
    recipes: frozenset[str]

    @property
    def compiled(self) -> int:
        """Return the number of functions that were, or would have been, compiled."""
        return int(max(self.counts["misses"], self.counts["bypasses"] + self.counts["stored"]))


def command_of(program: Sequence[str]) -> list[str]:
    """Return the command to execute: Python with a file, ``-m`` or ``-c``, or a command such as torchrun.

    Raises:
        UsageError: it is neither a file nor a command.
    """
    if not program:
        raise UsageError(
            "no program is given: a Python file, -m module, -c code, or a command such as torchrun"
        )
    first = program[0]
    if first.startswith("-") or first.endswith((".py", ".pyc", ".pyz")) or Path(first).is_dir():
        return [sys.executable, *program]
    if (found := shutil.which(first)) is not None:
        return [found, *program[1:]]
    if Path(first).is_file():
        return [sys.executable, *program]
    raise UsageError(f"{first!r} is neither a file nor a command")


def start(program: Sequence[str], folder: Path, settings: Mapping[str, str] | None = None) -> Ended:
    """Run a program with the store in a directory; it shares input and output with this process.

    Signals sent to this process go to the program; a keyboard interrupt reaches both.

    Args:
        program: as for `command_of`.
        folder: of the store.
        settings: further environment variables.

    Raises:
        UsageError: it cannot be started.
    """
    command = command_of(program)
    with tempfile.TemporaryDirectory(prefix="firebrick-run-") as counters:
        chosen = {"FIREBRICK_CACHE_DIR": str(folder), "FIREBRICK_STATS_DIR": counters, **(settings or {})}
        code = _waited(command, os.environ | chosen)
        tallies = collect(Path(counters))
    told = [entry for tally in tallies for entry in tally["told"]]
    recipes = frozenset(recipe for tally in tallies for recipe in tally["recipes"])
    return Ended(code if code >= 0 else 128 - code, total(tallies), told, recipes)


def _waited(command: Sequence[str], environ: Mapping[str, str]) -> int:
    before: dict[int, Any] = {}
    child: subprocess.Popen[bytes] | None = None

    def forward(number: int, _: FrameType | None) -> None:
        if child is not None:
            child.send_signal(number)

    try:
        for number in _FORWARDED:
            before[number] = signal.signal(number, forward)
        before[signal.SIGINT] = signal.getsignal(signal.SIGINT)
        try:
            child = subprocess.Popen(command, env=environ)
        except OSError as error:
            raise UsageError(f"{command[0]} cannot be started: {error.strerror}") from None
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the program receives it too, and decides
        return child.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def summary(ended: Ended, folder: Path) -> list[str]:
    """Return a summary, in a few lines, of the store's use by a program."""
    from firebrick.cli.output import counted, size

    counts = ended.counts
    if not counts["processes"]:
        return ["no process of the program imported torch with Firebrick on, or lived to its end"]
    first = f"{counted(counts['hits'], 'hit')} ({counts['lean']} without the compiler), "
    first += f"{counted(counts['misses'], 'miss')}, {counts['stored']} stored"
    if counts["bypasses"]:
        first += f", {counts['bypasses']} not storable"
    lines = [f"{first}; {counts['seconds_saved']:.1f} s of compilation saved"]
    if counts["seconds_compiling"]:
        next_start = "; the next start finds them" if counts["stored"] else ""
        lines.append(f"compiling took {counts['seconds_compiling']:.1f} s{next_start}")
    if (counts["misses"] and counts["hits"]) or counts["bypasses"]:
        lines.append("`firebrick explain` says why functions were compiled")
    if counts["faults"]:
        lines.append(f"{counted(counts['faults'], 'fault')} of the store: see the warnings above")
    data = folder / "data.mdb"
    if data.exists():
        lines.append(f"store {folder}, {size(data.stat().st_blocks * 512)}")
    return lines
