"""Take each mend out and look whether some pair is served stale then: mutation test of what keeps stores sound.

    python tests/programs/fuzz/mutation.py [--only TEXT] [--draws 2] [--seed N] [--json FILE]

Prints a table: mend, mends that were taken out with it, and the first pair that found that they were gone. Where nothing
does, it says what of torch catches the same edits (`caught`); a mend of which neither is known is an error.
"""

import argparse
import dataclasses
import json
import os
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from edits.run import corpus, run
from fuzz.grammar import Pair, draws, edited
from fuzz.mends import MENDS
from fuzz.parts import VALUE, WAY
from fuzz.run import alone

LANES = ("lean",)  # where the full lane is asked as well after a miss


def trials(mends, number=1, chosen=1):
    """Return pairs and cases that are to find mends which were taken out.

    Args:
        mends: of `MENDS`.
        number: of pairs drawn for each edit of the grammar, beside the one that is alone in its program.
        chosen: seed.
    """
    matrix = {case.id: case for case in corpus()}
    found = []
    for mend in mends:
        for name in mend.finds:
            part, _, edit = name.partition(": ")
            if name in matrix:
                found.append(dataclasses.replace(matrix[name], without=(mend.name,)))
                continue
            made = VALUE.get(part) or WAY[part]
            pairs = [alone(made, edit), *draws(edited(made, edit), number, chosen)]
            found += [Pair(pair.program, pair.place, (mend.name,)) for pair in pairs]
    return found


def started(cases, root):
    """Yield what became of trials, with the kernels that their mends ask for."""
    for kernels in ("fallback", "cpp"):
        chosen = [case for case in cases if MENDS[case.without[0]].kernels == kernels]
        yield from run(chosen, LANES, [kernels], root=root, checks=False)


def found_by(outcomes):
    """Return for each mend the first outcome that was served stale without it, or none."""
    first = {}
    for outcome in outcomes:
        (mend,) = outcome.case.without
        if outcome.verdict == "WRONG":
            first.setdefault(mend, outcome)
    return first


def main():
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", default=[""], help="mends whose names contain one of these")
    parser.add_argument("--draws", type=int, default=1, help="pairs for each edit")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path, help="write the table to this file")
    options = parser.parse_args()
    mends = [mend for mend in MENDS.values() if any(text in mend.name for text in options.only)]
    with tempfile.TemporaryDirectory(prefix="mutation-") as folder:
        os.environ.setdefault("FIREBRICK_TESTING_TOOLCHAIN", str(Path(folder) / "toolchain"))
        cases = trials(mends, options.draws, options.seed)
        print(f"{len(mends)} mends, {len(cases)} trials", flush=True)
        outcomes = []
        for o in started(cases, Path(folder)):
            outcomes.append(o)
            said = f"{o.verdict:6} {o.how:7} {o.lane:5} {o.case.without[0]} | {o.case.id} | {o.detail[-300:]}"
            print(said.replace("\n", " "), flush=True)
    first = found_by(outcomes)
    rows = []
    for mend in mends:
        outcome = first.get(mend.name)
        found = outcome.case.id if outcome else f"caught by {mend.caught}" if mend.caught else "NOTHING"
        rows.append({"mend": mend.name, "with it": list(mend.also), "found by": found})
        print(f"| {mend.name} | {', '.join(mend.also)} | {found} |")
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n")
    sys.exit(any(row["found by"] == "NOTHING" for row in rows))


if __name__ == "__main__":
    main()
