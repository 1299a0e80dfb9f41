"""Run the differential suite and write docs/eligibility.md: which lane serves each case, and why.

    python benchmarks/differential.py [--only 'on_layers.*'] [--batch 20] [--write] [--json FILE]

Each batch is two processes with a store of their own. The exit status is 1 where a case differs or is broken.
"""

from __future__ import annotations

import argparse
import dataclasses
import fnmatch
import json
import platform
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from support.differential import LANES, Verdict, list_cases, run

ROOT = Path(__file__).parents[1]
CASES = ROOT / "tests" / "programs" / "differential"
TABLE = ROOT / "docs" / "eligibility.md"
MEANINGS = {
    "lean": "served without the compiler",
    "full": "served from the store, with the compiler imported and idle",
    "recompiled": "something is compiled again",
    "skipped": "cannot run here",
    "broken": "fails in the saving process",
    "differs": "the restored function does something else",
}


def document(verdicts: Iterable[Verdict]) -> str:
    """Return the text of docs/eligibility.md."""
    import torch

    found = sorted(verdicts, key=lambda verdict: verdict.name)
    counts = Counter(verdict.lane for verdict in found)
    lines = [
        "# What is served, and by which lane",
        "",
        "Made by `benchmarks/differential.py --write`. Each case of `tests/programs/differential` is saved",
        "in one process and restored in another. Values, gradients, written arguments and buffers, strides,",
        "aliasing, version counters, random states, modes and exceptions are equal bit for bit, and so is",
        "what a call does that nothing stored fits.",
        "",
        f"Python {platform.python_version()}, torch {torch.__version__}, {platform.machine()}; "
        f"{len(found)} cases.",
        "",
        "| lane | cases | meaning |",
        "|---|---|---|",
        *(f"| {lane} | {counts[lane]} | {MEANINGS[lane]} |" for lane in LANES if counts[lane]),
        "",
        "| case | lane | reason |",
        "|---|---|---|",
        *(f"| `{v.name}` | {v.lane} | {_cell(v.reason)} |" for v in found),
        "",
    ]
    return "\n".join(lines)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")


def _batches(names: Sequence[str], size: int) -> list[list[str]]:
    """Divide cases among pairs of processes.

    Each model of transformers has its own: it keeps tables of all models that were made, guards look at them,
    and the process that restores one case has not made those before it.
    """
    small = [name for name in names if not name.startswith("on_models.")]
    found = [small[first : first + size] for first in range(0, len(small), size)]
    return found + [[name] for name in names if name.startswith("on_models.")]


def run_all(names: Sequence[str], *, batch: int, caches: Path | None = None) -> list[Verdict]:
    """Run cases batch by batch, and say how it goes."""
    verdicts: list[Verdict] = []
    for some in _batches(names, batch):
        started = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="firebrick-differential-") as root:
            part = run(CASES, some, root=Path(root), caches=caches)
        for verdict in part.values():
            print(f"{verdict.lane:10} {verdict.name}  {verdict.reason[:100]}")
            for line in verdict.differences[:10]:
                print(f"           {line}")
        verdicts += part.values()
        print(f"-- {len(verdicts)} of {len(names)}, {time.monotonic() - started:.0f} s", flush=True)
    return verdicts


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the script; return its exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", action="append", help="patterns of names, as in a shell", default=[])
    parser.add_argument("--batch", type=int, default=20, help="cases for each pair of processes")
    parser.add_argument("--caches", type=Path, help="folder where torch's caches stay, to compile faster")
    parser.add_argument("--kept", type=Path, help="earlier verdicts (--json) of cases that are not run")
    parser.add_argument("--write", action="store_true", help="write docs/eligibility.md; needs all cases")
    parser.add_argument("--json", type=Path, help="write the verdicts with both reports")
    chosen = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as home:
        names = list_cases(CASES, home=Path(home))
    everything = set(names)
    if chosen.only:
        names = [name for name in names if any(fnmatch.fnmatch(name, only) for only in chosen.only)]
    kept = {row["name"]: Verdict(**row) for row in json.loads(chosen.kept.read_text())} if chosen.kept else {}
    if chosen.write and everything - {*names, *kept}:
        parser.error("--write needs all cases")
    ran = run_all(names, batch=chosen.batch, caches=chosen.caches)
    verdicts = [*ran, *(kept[name] for name in sorted(kept.keys() & everything - set(names)))]
    if chosen.json:
        chosen.json.write_text(json.dumps([dataclasses.asdict(verdict) for verdict in verdicts]))
    if chosen.write:
        TABLE.write_text(document(verdicts))
    counts = Counter(verdict.lane for verdict in verdicts)
    print(", ".join(f"{counts[lane]} {lane}" for lane in LANES))
    return int(bool(counts["differs"] or counts["broken"]))


if __name__ == "__main__":
    sys.exit(main())
