"""Try edits between two starts: what is served after an edit must be what torch.compile would make now.

    python tests/programs/edits/run.py --lane lean full --kernels fallback cpp [--only TEXT] [--json FILE] [--log]

Start 1 records the programs before the edit. Start 2 runs them after it, in each lane on a copy of the store, and
is compared bit for bit with torch.compile without Firebrick. A case whose numbers do not change by the edit, in
torch alone, tests nothing and counts as an error. With ``--audit`` each hit is traced afresh as well, also in starts of the program
before the edit, with another hash seed; a second table says what that came to. A difference where the numbers are right
is a false alarm, or an edit that they do not show. ``--only`` takes a part of the name, or more than one; with
``--log`` what such cases log is printed.
"""

import argparse
import collections
import dataclasses
import importlib
import json
import math
import os
import shutil
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))
sys.path.insert(0, str(Path(__file__).parents[1]))

from edits.said import named

from support.programs import start

CHILD = Path(__file__).with_name("child.py")
MODULE = "program"  # the name under which the child imports a case
LANES = ("lean", "full")
EAGER = ("eager", "eager before")
AGAIN = {f"{lane} again": lane for lane in LANES}  # starts of the unedited program, which are audited
ANOTHER_SEED = {"PYTHONHASHSEED": "1"}
VARIABLES = {"full": {"FIREBRICK_LEAN": "0"}, "lean again": ANOTHER_SEED}
VARIABLES["full again"] = VARIABLES["full"] | ANOTHER_SEED
VARIABLES |= {name: {"TORCH_COMPILE_DISABLE": "1"} for name in EAGER}
NO_CORPUS = ("case", "child", "run", "said")
AT_ONCE = 150  # cases of one process that forks
AT_START = ("PYTHONHASHSEED", "ATEN_CPU_CAPABILITY")  # variables that are read once, when a process starts
AUDITS = ("audited", "differed", "not audited")  # how a case came out of an audit; a hit left out counts most
COLUMNS = ("right", "WRONG", "error", "lean", "full", "miss", "bypass", "silent")


@dataclasses.dataclass(eq=False)
class Outcome:
    """What became of a case in one lane.

    Attributes:
        verdict: ``right``; ``WRONG`` where what was served is not what torch makes; ``error`` where the case itself
            is not sound.
        how: it was served ``lean`` or by the ``full`` lane, or compiled after a ``miss``, or compiled because
            the first start had a ``bypass``, or compiled for no reason that is told: ``silent``.
        detail: reasons of misses and bypasses, or the error.
        note: where torch alone differs from eager mode.
        changes: what the explanations of its misses say is another: what, stored, here.
        audit: one of `AUDITS`; empty where there was none, or no hit.
        told: differences that an audit found, and reasons for which it was not done.
        changed: the edit changes what is computed.
    """

    case: object
    lane: str
    kernels: str
    verdict: str = ""
    how: str = ""
    detail: str = ""
    note: str = ""
    changes: list = dataclasses.field(default_factory=list)
    audit: str = ""
    told: tuple = ()
    changed: bool = False


def corpus():
    """Return all cases."""
    names = sorted(p.stem for p in Path(__file__).parent.glob("*.py") if p.stem not in NO_CORPUS)
    return [case for name in names for case in importlib.import_module(f"edits.{name}").CASES]


class Trial:
    """Cases through all their starts, in a folder of their own.

    Cases that are alike before the edit share the first start.

    Args:
        cases: all alike in the variables that only count `AT_START`.
        root: a folder to make.
        kernels: ``cpp``, or ``fallback`` for ATen's.
        lanes: names in `LANES`.
        warm: import the compiler before the cases start.
        checks: look at the cases themselves too: the first start without Firebrick, and eager mode.
        audit: trace again what is served.
        workers: starts at once; with C++ kernels it is one, because they share a cache.
        brief: start what missed in the lean lane in no other: there a miss was asked of the full lane as well.
    """

    def __init__(
        self, cases, root, kernels, lanes, *, warm=True, checks=True, audit=False, workers=1, brief=False
    ):
        self.cases, self.root, self.kernels, self.lanes = cases, root, kernels, lanes
        self.warm, self.checks, self.audit, self.workers, self.brief = warm, checks, audit, workers, brief
        self.names = {case: f"case_{n}" for n, case in enumerate(cases)}
        alike = {}
        self.first = {name: alike.setdefault(origin(case), name) for case, name in self.names.items()}
        for version in (1, 2):
            for case, name in self.names.items():
                folder = root / f"v{version}" / name
                folder.mkdir(parents=True)
                for module, text in {MODULE: case.text(version), **case.modules(version)}.items():
                    (folder / f"{module}.py").write_text(text)

    def start(self, version, name, store=None, *, eager=False, names=None, **env):
        """Run cases, all of them by default; a crash of the whole process is told for each."""
        if version == 1:
            names = list(dict.fromkeys(self.first.values()))
        names = list(self.names.values()) if names is None else names
        reports, stores = self.root / f"reports-{name}", store and self.root / store
        reports.mkdir()
        request = {
            "folder": str(self.root / f"v{version}"),
            "names": names,
            "reports": str(reports),
            "store": stores and str(stores),
            "audit": self.audit and name in (*LANES, *AGAIN),
            "eager": eager,
            "fallback": self.kernels == "fallback",
            "warm": self.warm and not eager,
            "threads": 1,
            "env": {name: case.env[version - 1] for case, name in self.names.items()},
            "without": {name: case.without for case, name in self.names.items()},
        }
        (self.root / f"{name}.json").write_text(json.dumps(request))
        variables = {"PYTHONHASHSEED": "0", "FIREBRICK_SELF_TEST": "0", "FIREBRICK_DURABLE": "0"}
        variables |= {"CUDA_VISIBLE_DEVICES": ""} | env
        variables |= {n: v for n, v in self.cases[0].env[version - 1].items() if n in AT_START}
        done = start(
            ["-P", CHILD, self.root / f"{name}.json"],
            home=self.root
            / ("home" if self.kernels == "cpp" else f"home-{name}"),  # libraries are compiled once
            env=variables | {"TORCHINDUCTOR_COMPILE_THREADS": "1"},
            timeout=7200.0,
        )
        report = done.report
        if not report:
            report = {name: {"error": done.stderr[-2000:], "stats": {}} for name in names}
        return {name: report[first] for name, first in self.first.items()} if version == 1 else report

    def outcomes(self):
        """Yield what became of each case."""
        if not self.lanes:
            found = self._starts({"eager": (2,), "eager before": (1,)})
            for case, name in self.names.items():
                new, old = found["eager"][name], found["eager before"][name]
                yield judge(case, "eager", self.kernels, new, record=old, plain=new)
            return
        first = {"plain": (2,), "record": (1, "store")}
        if self.checks:
            first |= {"before": (1,), "eager": (2,)}
        found = self._starts(first)
        again = [name for name, lane in AGAIN.items() if self.audit and lane in self.lanes]
        for lane in (*self.lanes, *again):
            for name, original in self.first.items():
                if (store := self.root / "store" / original).exists():
                    copy = self.root / f"store-{lane}" / name
                    shutil.copytree(store, copy)
                    copy.chmod(0o700)
        for lane, reports in self._starts({lane: (1, f"store-{lane}") for lane in again}).items():
            for case, name in self.names.items():
                yield unedited(case, lane, self.kernels, reports[name], found["record"][name])
        if self.brief:
            served, names = {}, list(self.names.values())
            for lane in self.lanes:
                served[lane] = self.start(2, lane, f"store-{lane}", names=names, **VARIABLES.get(lane, {}))
                names = [name for name in names if not served[lane][name]["stats"].get("misses")]
        else:
            served = self._starts({lane: (2, f"store-{lane}") for lane in self.lanes})
        for lane, reports in served.items():
            for case, name in self.names.items():
                if name in reports:
                    others = {what: report[name] for what, report in found.items()}
                    yield judge(case, lane, self.kernels, reports[name], **others)

    def _starts(self, wanted):
        with ThreadPoolExecutor(1 if self.kernels == "cpp" else self.workers) as pool:
            runs = {
                name: pool.submit(
                    self.start, version, name, *store, eager=name in EAGER, **VARIABLES.get(name, {})
                )
                for name, (version, *store) in wanted.items()
            }
            return {name: run.result() for name, run in runs.items()}


def origin(case):
    """Return what decides the first start of a case."""
    return case.text(1), repr(case.modules(1)), repr(case.env[0]), case.without


def judge(case, lane, kernels, served, *, record, plain, before=None, eager=None):
    """Compare what the starts of one case reported."""
    outcome = Outcome(case, lane, kernels)
    stats, recorded = served["stats"], record["stats"]
    bypasses = [*recorded.get("bypasses", {}), *(f"{n} faults" for n in recorded.get("faults", {}))]
    outcome.how = how_served(served, record)
    outcome.audit, outcome.told = audited(served)
    missed = [one for one in served.get("explained", ()) if one["outcome"] == "miss"]
    outcome.changes = [change for one in missed for change in one["changes"] or [[one["reason"], None, None]]]
    outcome.detail = "; ".join([*stats.get("misses", {}), *bypasses, *stats.get("faults", {})])
    for what, result in (("record", record), ("plain", plain), ("before", before), ("eager", eager)):
        if result and "error" in result:
            outcome.verdict, outcome.detail = "error", f"{what}: {result['error']}"
            return outcome
    outcome.changed = record["value"] != plain["value"]
    if before and record["value"] != before["value"]:
        outcome.verdict, outcome.detail = "WRONG", "the first start"
    elif not outcome.changed and not case.same:
        outcome.verdict, outcome.detail = "error", "the edit changes nothing"
    else:
        outcome.verdict = "right" if served.get("value") == plain["value"] else "WRONG"
        outcome.detail = served.get("error", outcome.detail)
    if eager and not close(plain["value"], eager["value"]):
        outcome.note = "torch alone differs from eager mode"
    return outcome


def unedited(case, lane, kernels, served, record):
    """Compare a second start of the program before the edit with the first."""
    outcome = Outcome(case, lane, kernels, how=how_served(served, record))
    outcome.audit, outcome.told = audited(served)
    outcome.detail = served.get("error", record.get("error", ""))
    compiled = not served["stats"].get("hits")  # under another hash seed, and maybe in another order
    right = compiled or served.get("value") == record.get("value")
    outcome.verdict = "error" if "error" in record else "right" if right else "WRONG"
    return outcome


def how_served(served, record):
    """Return how the frames of a start were served, or why not."""
    stats, recorded = served["stats"], record["stats"]
    if stats.get("misses") and recorded.get("stored"):
        return "miss"
    if stats.get("hits"):
        return "lean" if stats.get("lean") == stats["hits"] else "full"
    return "bypass" if recorded.get("bypasses") or recorded.get("faults") else "silent"


def audited(served):
    """Return how a start came out of an audit, and what was told."""
    stats = served["stats"]
    told = (*served.get("diffs", ()), *stats.get("not_audited", {}))
    if stats.get("differed"):
        return "differed", told
    if stats.get("not_audited"):
        return "not audited", told
    return "audited" if stats.get("audited") else "", told


def close(one, other):
    """Say whether two descriptions are of the same values up to rounding."""
    if isinstance(one, dict) and "elements" in one and isinstance(other, dict):
        pairs = zip(one["elements"], other.get("elements", []), strict=False)
        return len(one["elements"]) == len(other.get("elements", [])) and all(
            math.isclose(a, b, rel_tol=1e-3, abs_tol=1e-5) or (a != a and b != b) for a, b in pairs
        )
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(close, one, other))
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(close(one[key], other[key]) for key in one)
    return one == other


def sample(cases, number):
    """Return at most so many cases of each kind, spread over it."""
    kinds = collections.defaultdict(list)
    for case in cases:
        kinds[case.kind].append(case)
    return [
        group[n * len(group) // min(number, len(group))]
        for group in kinds.values()
        for n in range(min(number, len(group)))
    ]


def run(cases, lanes, kernels, *, root, **options):
    """Yield the outcome of each case in each lane.

    Args:
        cases: any.
        lanes: names in `LANES`.
        kernels: ``fallback``, ``cpp`` or both.
        root: an empty folder.
        options: as for `Trial`.
    """
    groups = collections.defaultdict(list)
    for case in cases:
        groups[json.dumps([[side.get(name) for name in AT_START] for side in case.env])].append(case)
    parts = [group[n : n + AT_ONCE] for group in groups.values() for n in range(0, len(group), AT_ONCE)]
    for kind in kernels:
        for number, part in enumerate(parts):
            yield from Trial(part, Path(root) / f"{kind}-{number}", kind, lanes, **options).outcomes()


def explained(outcomes):
    """Return for each miss whether its explanation names first what was edited."""
    return {o: named(o.case, o.changes) for o in outcomes if o.how == "miss" and o.verdict == "right"}


def table(outcomes):
    """Return the counts of each kind as text."""
    counts = collections.defaultdict(collections.Counter)
    for outcome in outcomes:
        counts[outcome.case.kind].update([outcome.verdict, outcome.how])
        counts["all"].update([outcome.verdict, outcome.how])
    lines = [f"{'kind':28}" + "".join(f"{c:>8}" for c in COLUMNS)]
    for kind in [*sorted(set(counts) - {"all"}), "all"]:
        lines.append(f"{kind:28}" + "".join(f"{counts[kind][c]:8}" for c in COLUMNS))
    return "\n".join(lines)


def table_of_audits(outcomes):
    """Return what audits came to in each lane, as text; WRONG counts what is wrong and was audited as right."""
    counts = collections.defaultdict(collections.Counter)
    for outcome in outcomes:
        counts[outcome.lane][outcome.audit] += 1
        counts[outcome.lane]["WRONG"] += outcome.verdict == "WRONG" and outcome.audit == "audited"
    columns = (*AUDITS, "WRONG")
    lines = [f"{'audits':28}" + "".join(f"{c:>13}" for c in columns)]
    return "\n".join(
        lines + [f"{lane:28}" + "".join(f"{counts[lane][c]:13}" for c in columns) for lane in counts]
    )


def main():
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--lane", nargs="+", choices=(*LANES, "eager"), default=LANES)
    parser.add_argument("--kernels", nargs="+", choices=("fallback", "cpp"), default=["fallback"])
    parser.add_argument("--only", nargs="+", default=[""], help="cases whose names contain one of these")
    parser.add_argument("--sample", type=int, help="at most so many cases of each kind")
    parser.add_argument("--json", type=Path, help="write the outcomes to this file")
    parser.add_argument("--log", action="store_true", help="print what cases log")
    parser.add_argument("--workers", type=int, default=1, help="how many processes at once")
    parser.add_argument("--cold", action="store_true", help="let each case import the compiler itself")
    parser.add_argument("--quick", action="store_true", help="do not look whether the cases are sound")
    parser.add_argument("--audit", action="store_true", help="trace again what is served, and compare")
    parser.add_argument("--brief", action="store_true", help="start what missed in the lean lane in no other")
    parser.add_argument("--keep", type=Path, help="folder to keep programs, stores and reports in")
    options = parser.parse_args()
    cases = [case for case in corpus() if any(text in case.id for text in options.only)]
    if options.sample:
        cases = sample(cases, options.sample)
    lanes = [] if options.lane == ["eager"] else options.lane
    outcomes = []
    with tempfile.TemporaryDirectory(prefix="edits-") as folder:
        root = options.keep or Path(folder)
        os.environ.setdefault("FIREBRICK_TESTING_TOOLCHAIN", str(Path(folder) / "toolchain"))
        chosen = {"warm": not options.cold, "checks": not options.quick, "workers": options.workers}
        chosen |= {"audit": options.audit, "brief": options.brief}
        for o in run(cases, lanes, options.kernels, root=root, **chosen):
            outcomes.append(o)
            if o.verdict != "right" or o.note or options.only != [""]:
                last = o.detail.rstrip().rpartition("\n")[2] if options.only == [""] else o.detail
                said = f"{o.verdict:6} {o.how:7} {o.lane:4} {o.kernels:8} {o.case.id} | {last} {o.note}"
                print(said.rstrip(" |"), flush=True)
            if o.told:
                print(
                    f"{o.audit} {o.lane} {o.case.id}\n  " + "\n".join(o.told).replace("\n", "\n  "),
                    flush=True,
                )
            if options.json:
                rows = [{**vars(o), "case": o.case.id} for o in outcomes]
                options.json.write_text(json.dumps(rows, indent=1) + "\n")
        if options.log:
            for path in sorted(root.glob("*/reports-*/*.log")):
                print(f"--- {path.relative_to(root)}\n{path.read_text()}")
    print(table([o for o in outcomes if o.lane not in AGAIN]))
    if options.audit:
        print(table_of_audits(outcomes))
    told = explained(o for o in outcomes if o.lane not in AGAIN)
    print(f"explanations of misses that name what was edited first: {sum(told.values())} of {len(told)}")
    print(
        "".join(
            f"  not so: {outcome.lane} {outcome.case.id}: {outcome.changes[:1]}\n"
            for outcome in told
            if not told[outcome]
        )
    )
    sys.exit(any(o.verdict != "right" or o.audit == "differed" for o in outcomes))


if __name__ == "__main__":
    main()
