"""Fuzz pairs of a program and an edit: what is served after the edit must be what torch.compile would make now.

    python tests/programs/fuzz/run.py --pairs 2000 --seed 1 --lane lean full [--json FILE]
    python tests/programs/fuzz/run.py --each [--only TEXT]

Programs come from `fuzz.grammar`. Starts and verdicts are those of ``edits/run.py``, with ATen's kernels. A pair that was
served stale is made smaller as long as it stays so, and printed before and after the edit. ``--each`` tries each edit
of each part once, alone in a program.
"""

import argparse
import collections
import difflib
import json
import os
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))
sys.path.insert(0, str(Path(__file__).parents[1]))

import hypothesis
import torch
from edits.run import LANES, run
from fuzz.grammar import CALLS, OPERATIONS, Chain, Layer, Pair, Program, pairs, smaller
from fuzz.parts import VALUE, WAY

BATCH = 150
COLUMNS = ("right", "WRONG", "error", "lean", "full", "miss", "bypass", "silent", "changed")


def outcomes_of(found, lanes, root, **options):
    """Return what became of pairs."""
    chosen = {"checks": False, "brief": True} | options
    return list(run(found, lanes, ["fallback"], root=root, **chosen))


def alone(part, edit=None):
    """Return the pair of an edit of a part that is alone in its program; without a name: of no edit."""
    numbers = (1.5, 2.5, 3.5)
    way = part in WAY.values()
    layers = (Layer(VALUE["literal"], (1.25, 2.25, 3.25)),) * way + (Layer(part, numbers),)
    calls = sorted(CALLS)[len(part.edits) % 2]
    program = Program((Chain(layers, OPERATIONS[0], 0),), "function", calls)
    return Pair(program, edit and (0, int(way), edit))


def each(only=("",)):
    """Return a pair for each edit of each part, alone in a program, and one without an edit for each part."""
    parts = (*VALUE.values(), *WAY.values())
    found = [(part, edit) for part in parts for edit in (None, *(edit.name for edit in part.edits))]
    return [
        alone(*one) for one in found if any(text in f"{one[0].name}: {one[1] or 'no edit'}" for text in only)
    ]


def shrunk(pair, lane, root):
    """Return the smallest pair that is still served stale in a lane."""
    tried = 0
    while True:
        for less in smaller(pair):
            tried += 1
            (outcome,) = outcomes_of([less], [lane], root / f"smaller-{tried}")
            if outcome.verdict == "WRONG":
                pair = less
                break
        else:
            return pair


def shown(pair):
    """Return a pair as text: before, after, and what differs."""
    texts = []
    for version in (1, 2):
        parts = {
            "program": pair.text(version),
            **pair.modules(version),
            "environment": f"{pair.env[version - 1]}\n",
        }
        texts.append("".join(f"# {name}\n{text}" for name, text in parts.items()).splitlines(keepends=True))
    return "".join([*texts[0], *difflib.unified_diff(*texts, "before", "after", n=0)])


def table(outcomes):
    """Return how many pairs came to what, with an edit and without one, in each lane."""
    counts = collections.defaultdict(collections.Counter)
    for o in outcomes:
        row = counts[f"{o.lane}, {'no edit' if o.case.place is None else 'edited'}"]
        row.update([o.verdict, o.how, *["changed"] * o.changed])
    lines = [f"{'':16}" + "".join(f"{c:>8}" for c in COLUMNS)]
    lines += [f"{name:16}" + "".join(f"{row[c]:8}" for c in COLUMNS) for name, row in sorted(counts.items())]
    return "\n".join(lines)


def main():
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=2000, help="how many with an edit, at least")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--lane", nargs="+", choices=LANES, default=LANES)
    parser.add_argument("--each", action="store_true", help="each edit of each part once")
    parser.add_argument(
        "--only", nargs="+", default=[""], help="with --each: parts and edits that contain one of these"
    )
    parser.add_argument("--workers", type=int, default=1, help="how many processes at once")
    parser.add_argument("--json", type=Path, help="write the outcomes to this file")
    options = parser.parse_args()
    found = each(options.only) if options.each else pairs(options.pairs, options.seed)
    print(
        f"{sum(p.place is not None for p in found)} pairs, {sum(p.place is None for p in found)} without an edit"
    )
    outcomes, began = [], time.time()
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        root = Path(folder)
        os.environ.setdefault("FIREBRICK_TESTING_TOOLCHAIN", str(root / "toolchain"))
        for start in range(0, len(found), BATCH):
            batch = root / str(start)
            for o in outcomes_of(found[start : start + BATCH], options.lane, batch, workers=options.workers):
                outcomes.append(o)
                if o.verdict != "right" or options.only != [""] or (options.each and not o.changed):
                    print(
                        f"{o.verdict:6} {o.how:7} {o.lane:5}{'' if o.changed else ' unchanged '}{o.case.name} | {o.detail[-300:]}",
                        flush=True,
                    )
                if o.verdict == "WRONG":
                    print(shown(shrunk(o.case, o.lane, batch)), flush=True)
                if o.verdict == "error":
                    print(shown(o.case), flush=True)
            print(f"{start + BATCH} after {time.time() - began:.0f} s\n{table(outcomes)}", flush=True)
            if options.json:
                versions = {
                    "torch": torch.__version__,
                    "python": sys.version.split()[0],
                    "hypothesis": hypothesis.__version__,
                }
                rows = [{**vars(o), "case": o.case.name, "program": repr(o.case.program)} for o in outcomes]
                report = {"versions": versions, "seed": options.seed, "outcomes": rows}
                options.json.write_text(json.dumps(report, indent=1) + "\n")
    sys.exit(any(o.verdict != "right" for o in outcomes))


if __name__ == "__main__":
    main()
