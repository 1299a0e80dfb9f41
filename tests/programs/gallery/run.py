"""Record each program of the gallery, start it again with empty caches and no compiler on PATH, and compare.

    python tests/programs/gallery/run.py [--only TEXT ...] [--json FILE] [--write] [--folder FOLDER]

The second start must give the bits of the first and compile nothing: no trace, no lowering, no C++ compiler.
``--write`` makes docs/results/gallery.md; ``--folder`` keeps stores and caches, and goes on from there.
"""

import argparse
import ast
import dataclasses
import datetime
import json
import platform
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from support.programs import builders, start

HERE = Path(__file__).parent
TABLE = HERE.parents[2] / "docs" / "results" / "gallery.md"
NOT_PROGRAMS = ("child", "run")
# Where ATen computes in these, it does with operators that only Inductor registers.
NEED_KERNELS = (
    "compiled_optimizer", "control_flow", "mixture_of_experts", "optimizers", "variational", "whole_step",
)  # fmt: skip
WORK = (
    "traces", "symbolic", "compile_fx", "lowerings", "forward_graphs", "joint_graphs", "cpp_builds",
    "triton_compiles", "measurements",
)  # fmt: skip


def programs():
    """Return the files of the programs, in the order of their names."""
    return sorted(path for path in HERE.glob("*.py") if path.stem not in NOT_PROGRAMS)


@dataclasses.dataclass
class Outcome:
    """What became of a program.

    Attributes:
        name: of its file.
        title: first line of its docstring.
        first: report of the start that recorded.
        second: report of the start that was served.
        error: why one of them has none.
    """

    name: str
    title: str
    first: dict
    second: dict
    error: str = ""

    @property
    def same(self):
        """Whether both starts gave the same bits."""
        return not self.error and self.first["value"] == self.second["value"]

    @property
    def work(self):
        """What the second start compiled: what it did -> how often."""
        counts = self.second.get("counts", {})
        done = {name: counts[name] for name in WORK if counts.get(name)}
        started = [p for p in builders(self.second.get("processes", ())) if not p.startswith("os.fork")]
        return done | ({"processes": len(started)} if started else {})

    @property
    def reasons(self):
        """Why frames were not served without the compiler: reason -> how many."""
        first, second = self.first.get("stats", {}), self.second.get("stats", {})
        found = {
            f"{word}: {reason}": count
            for word, reasons in (
                ("full lane", first.get("not_lean", {})),
                ("not stored", first.get("bypasses", {})),
                ("miss", second.get("misses", {})),
                ("fault", first.get("faults", {}) | second.get("faults", {})),
            )
            for reason, count in reasons.items()
        }
        return found


def outcome(path, folder, *, aten=False):
    """Start a program twice, and return what became of it."""
    root = folder / path.stem
    options = {"store": root / "store", "timeout": 900.0}
    aten = aten and path.stem not in NEED_KERNELS
    kept, reports = root / "first.json", []
    for home, compilers in (("1", True), ("2", False)):
        if compilers and kept.exists():
            reports.append(json.loads(kept.read_text()))
            continue
        done = start(
            ["-P", "-c", "from gallery.child import main; main()", path],
            home=root / home,
            compilers=compilers,
            env={"PYTHONPATH": str(HERE.parent), "GALLERY_ATEN": "1" if aten else ""},
            **options,
        )
        reports.append(done.report)
        if not done.report:
            return Outcome(path.stem, title(path), *(*reports, {})[:2], error=done.stderr[-3000:])
        if compilers:
            kept.write_text(json.dumps(done.report))
    return Outcome(path.stem, title(path), *reports)


def title(path):
    """Return the first line of a program's docstring."""
    return (ast.get_docstring(ast.parse(path.read_text())) or "").partition("\n")[0]


def row(found):
    """Return a program's row of the table."""
    first, second = found.first.get("stats", {}), found.second.get("stats", {})
    hits, lean = second.get("hits", 0), second.get("lean", 0)
    compiled = ", ".join(f"{name} {count}" for name, count in found.work.items()) or "nothing"
    reasons = "; ".join(f"{text} ({count})" for text, count in found.reasons.items())
    seconds = [f"{report.get('seconds', 0):.1f}" for report in (found.first, found.second)]
    cells = [
        f"`{found.name}`", found.title, first.get("stored", 0), lean, hits - lean,
        sum(first.get("bypasses", {}).values()), compiled if not found.error else "failed",
        "yes" if found.same else "NO", *seconds, reasons.replace("|", "\\|").replace("\n", " "),
    ]  # fmt: skip
    return "| " + " | ".join(map(str, cells)) + " |"


def table(outcomes, *, aten=False):
    """Return the table as text."""
    import torch

    lean, hits, bypasses = (sum(map(count, outcomes)) for count in _COUNTS)
    served = sum(not o.error and o.same and not o.work for o in outcomes)
    place = f"{datetime.date.today()}, {platform.machine()}, Python {platform.python_version()}"
    return "\n".join(
        [
            "# The gallery: programs as users write them",
            "",
            "Made by `python tests/programs/gallery/run.py --write`. Each program of that folder runs as a",
            "script that records, then again with a new home, empty caches and no compiler on PATH.",
            "",
            f"{place}, torch {torch.__version__}, CPU; beside other work: seconds tell orders of magnitude.",
            f"{served} of {len(outcomes)} second starts compile nothing and give the same bits;",
            f"{lean} of {hits + bypasses} frames are served without the compiler.",
            *(
                ["", f"ATen computed, but in {', '.join(NEED_KERNELS)}."]
                if aten
                else ["", "C++ kernels computed."]
            ),
            "",
            f"| {' | '.join(_COLUMNS)} |",
            "|" + "---|" * len(_COLUMNS),
            *map(row, outcomes),
            "",
        ]
    )


_COLUMNS = (
    "program", "what it does", "stored", "lean", "full", "not stored", "second start compiles", "same bits",
    "first, s", "second, s", "reasons",
)  # fmt: skip
_COUNTS = (
    lambda o: o.second.get("stats", {}).get("lean", 0),
    lambda o: o.second.get("stats", {}).get("hits", 0),
    lambda o: sum(o.first.get("stats", {}).get("bypasses", {}).values()),
)


def main():
    """Run the gallery, or part of it."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", nargs="+", default=[""], help="parts of names of programs")
    parser.add_argument("--folder", type=Path, help="keep stores here, and go on from those that are there")
    parser.add_argument(
        "--aten", action="store_true", help="let ATen compute where it can, which takes less time"
    )
    parser.add_argument("--workers", type=int, default=2, help="programs at once")
    parser.add_argument("--write", action="store_true", help=f"write {TABLE.name}")
    options = parser.parse_args()
    chosen = [path for path in programs() if any(part in path.stem for part in options.only)]
    with tempfile.TemporaryDirectory() as scratch, ThreadPoolExecutor(options.workers) as pool:
        outcomes = []
        for found in pool.map(
            lambda path: outcome(path, options.folder or Path(scratch), aten=options.aten), chosen
        ):
            outcomes.append(found)
            print(row(found), found.error, flush=True)
    if options.write:
        TABLE.write_text(table(outcomes, aten=options.aten))
    return any(found.error or not found.same or found.work for found in outcomes)


if __name__ == "__main__":
    sys.exit(main())
