"""The counters of a run's processes: each leaves its own as JSON, in a directory chosen by the run.

`firebrick run` reads them together. A process that is killed leaves nothing.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from firebrick.reports.events import BYPASS, FULL, HIT, LEFT, MISS, STORED

if TYPE_CHECKING:
    from firebrick.reports.counters import Stats


def leave(folder: Path, stats: Stats) -> None:
    """Write the counters of this process into a folder; a fault of the disk is passed over."""
    events = stats.events.all()
    told = [event for event in events if event.outcome in (MISS, BYPASS) and event.lane == FULL]
    compiled = sum(event.seconds for event in events if event.outcome in (STORED, BYPASS))
    value = {
        "pid": os.getpid(),
        "argv": sys.argv[:1],
        "seconds_compiling": compiled,
        "recipes": sorted(
            {event.recipe for event in events if event.outcome in (HIT, LEFT) and event.recipe}
        ),
        "told": [{"function": e.function.place, "outcome": e.outcome, "reason": e.reason} for e in told],
        **stats.as_dict(),
    }
    path = folder / f"{time.time_ns():020d}-{os.getpid()}.json"
    with contextlib.suppress(OSError):
        part = path.with_suffix(".part")
        part.write_text(json.dumps(value))
        part.replace(path)


def collect(folder: Path) -> list[dict[str, Any]]:
    """Return the counters left by a run's processes, in the order of their ends."""
    return [json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))]


def total(tallies: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the sum of several processes' counters; counts by reason become one count."""
    sums: dict[str, Any] = {"processes": len(tallies)}
    for name in ("hits", "lean", "stored", "bytes_read", "bytes_written"):
        sums[name] = sum(int(tally[name]) for tally in tallies)
    for name in ("misses", "bypasses", "faults"):
        sums[name] = sum(sum(tally[name].values()) for tally in tallies)
    for name in ("seconds_saved", "seconds_compiling"):
        sums[name] = round(sum(float(tally[name]) for tally in tallies), 3)
    return sums
