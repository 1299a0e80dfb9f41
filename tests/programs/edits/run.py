"""Try edits between two starts: what is served after an edit must be what torch.compile would make now.

    python tests/programs/edits/run.py --lane lean full --kernels fallback cpp [--only TEXT] [--json FILE]

Start 1 records the programs before the edit. Start 2 runs them after it, in each lane on a copy of the store,
and is compared bit for bit with torch.compile without Firebrick. A case whose numbers do not change by the
edit, in torch alone, tests nothing and counts as an error.
"""

import argparse
import collections
import dataclasses
import importlib
import json
import shutil
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from firebrick.testing.programs import start

CHILD = Path(__file__).with_name("child.py")
LANES = {"lean": {}, "full": {"FIREBRICK_LEAN": "0"}}
CORPORA = sorted(p.stem for p in Path(__file__).parent.glob("*.py") if p.stem not in ("case", "child", "run"))


@dataclasses.dataclass
class Outcome:
    """What became of a case in one lane: ``right``, ``wrong`` or ``error``, and how it was served."""

    case: object
    lane: str
    kernels: str
    verdict: str = ""
    how: str = ""
    detail: str = ""


def corpus():
    """Return all cases."""
    return [case for name in CORPORA for case in importlib.import_module(f"edits.{name}").CASES]


class Trial:
    """One batch of cases through all its starts, in a folder of its own."""

    def __init__(self, cases, root, kernels, lanes):
        self.cases, self.root, self.kernels, self.lanes = cases, root, kernels, lanes
        self.names = {case: f"case_{n}" for n, case in enumerate(cases)}
        for version in (1, 2):
            (root / f"v{version}").mkdir(parents=True)
            for case, name in self.names.items():
                (root / f"v{version}" / f"{name}.py").write_text(case.text(version))

    def start(self, version, home, store=None, **env):
        """Run all cases in one process; a crash is told for each."""
        variables = {"EDITS_FALLBACK": "1"} if self.kernels == "fallback" else {}
        variables |= {"PYTHONHASHSEED": "0"} | self.cases[0].env[version - 1] | env
        done = start(
            ["-P", CHILD, self.root / f"v{version}", *self.names.values()],
            home=self.root / home, store=store, env=variables,
        )  # fmt: skip
        if not done.report:
            return {name: {"error": done.stderr[-2000:], "stats": {}} for name in self.names.values()}
        return done.report

    def outcomes(self):
        """Yield what became of each case."""
        record = self.start(1, "record", self.root / "store")
        plain = self.start(2, "plain")
        before = self.start(1, "before")
        for lane in self.lanes:
            store = self.root / f"store-{lane}"
            shutil.copytree(self.root / "store", store)
            store.chmod(0o700)
            served = self.start(2, f"home-{lane}", store, **LANES[lane])
            for case, name in self.names.items():
                yield judge(case, lane, self.kernels, *(r[name] for r in (record, before, plain, served)))


def judge(case, lane, kernels, record, before, plain, served):
    """Compare one case."""
    stats = served["stats"]
    how = "lean" if stats.get("lean") else "full" if stats.get("hits") else "compiled"
    outcome = Outcome(case, lane, kernels, how=how)
    reasons = [*stats.get("misses", {}), *record["stats"].get("bypasses", {})]
    outcome.detail = "; ".join(reasons)
    for what, result in (("record", record), ("before", before), ("plain", plain)):
        if "error" in result:
            outcome.verdict, outcome.detail = "error", f"{what}: {result['error']}"
            return outcome
    if record["value"] != before["value"]:
        outcome.verdict, outcome.detail = "wrong", "the first start"
    elif before["value"] == plain["value"] and not case.same:
        outcome.verdict, outcome.detail = "error", "the edit changes nothing"
    else:
        outcome.verdict = "right" if served.get("value") == plain["value"] else "wrong"
        if "error" in served:
            outcome.detail = served["error"]
    return outcome


def batches(cases):
    """Return cases that may share a process, and alone those that may not."""
    shared = [case for case in cases if not case.own]
    return ([shared] if shared else []) + [[case] for case in cases if case.own]


def run(cases, lanes, kernels, workers=2):
    """Return the outcome of each case in each lane."""
    with tempfile.TemporaryDirectory(prefix="edits-") as folder, ThreadPoolExecutor(workers) as pool:
        trials = [
            Trial(batch, Path(folder) / f"{kind}-{number}", kind, lanes)
            for kind in kernels
            for number, batch in enumerate(batches(cases))
        ]
        return [o for found in pool.map(lambda trial: list(trial.outcomes()), trials) for o in found]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--lane", nargs="+", choices=LANES, default=list(LANES))
    parser.add_argument("--kernels", nargs="+", choices=("fallback", "cpp"), default=["fallback"])
    parser.add_argument("--only", default="", help="cases whose name contains this text")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    cases = [case for case in corpus() if options.only in case.id]
    outcomes = run(cases, options.lane, options.kernels)
    table = collections.defaultdict(collections.Counter)
    for o in outcomes:
        table[o.case.kind].update({o.verdict: 1, o.how: 1})
        if o.verdict != "right" or options.only:
            print(f"{o.verdict:6} {o.how:8} {o.lane:4} {o.kernels:8} {o.case.id} | {o.detail}")
    columns = ("right", "wrong", "error", "compiled", "lean", "full")
    print(f"{'kind':20}", *(f"{c:>9}" for c in columns))
    total = collections.Counter()
    for kind, counts in sorted(table.items()):
        total.update(counts)
        print(f"{kind:20}", *(f"{counts[c]:9}" for c in columns))
    print(f"{'all':20}", *(f"{total[c]:9}" for c in columns))
    if options.json:
        rows = [{**dataclasses.asdict(o), "case": o.case.id} for o in outcomes]
        options.json.write_text(json.dumps(rows, indent=1))
    sys.exit(total["wrong"] + total["error"] > 0)


if __name__ == "__main__":
    main()
