"""Record samples of torch's own corpora in one process and restore them in another, and compare bit for bit.

    python tests/programs/corpora/run.py --database op_db module_db [--lane lean] [--samples N] [--json FILE]

The samples are those that torch ships for its own tests (`op_db`, `module_db`, `optim_db`, …). Values and
gradients of both starts, in each lane on a copy of the store, must be those of torch.compile alone.
"""

import argparse
import collections
import dataclasses
import json
import os
import random
import re
import shutil
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))
sys.path.insert(0, str(Path(__file__).parents[1]))

from corpora.subject import DATABASES, form, subjects

from support.programs import start

CHILD = Path(__file__).with_name("child.py")
LANES = ("lean", "full")
SUBJECTS_OF_A_GROUP = 6
GROUPS_OF_A_PROCESS = 10
UNINITIALISED = re.compile(r"(^|_)empty(_|$)")  # subjects whose numbers are whatever memory holds
SERVED = ("lean", "full")
LEFT = "left left-alone"  # outcome and code of an event
COLUMNS = ("lean", "full", "reused", "left", "recompiled", "bypass", "silent", "WRONG", "refused")
HASH_SEEDS = {"plain": "0", "record": "1"}  # texts hash otherwise in each start, as they do by default


@dataclasses.dataclass
class Outcome:
    """What became of a sample in one lane.

    Attributes:
        how: ``lean``: every compiled frame was served by this lane; ``full``: one or more by the other;
            ``reused``: by what an earlier sample brought; ``left``: torch compiles nothing there;
            ``recompiled`` though the first start stored something; ``bypass``: the first stored nothing;
            ``silent``: compiled and no counter says why; ``WRONG``; ``refused`` by torch itself, which
            fails or is not near eager mode.
        detail: reasons.
        random: torch alone computes something else when it is called again; types and strides are compared.
    """

    database: str
    subject: str
    dtype: str
    sample: int
    lane: str
    kernels: str
    how: str = ""
    detail: str = ""
    random: bool = False


def judge(where, *, plain, record, served):
    """Compare what the starts of one sample reported."""
    outcome = Outcome(*where)
    outcome.random = bool(plain.get("random")) or bool(UNINITIALISED.search(outcome.subject))
    if "error" in plain:
        outcome.how, outcome.detail = "refused", plain.get("eager") or first(plain["error"])
        return outcome

    def same(report):
        if "error" in report:
            return False
        if outcome.random:
            return form(report["value"]) == form(plain["value"])
        return report["value"] == plain["value"]

    for what, report in (("the first start", record), ("the second start", served)):
        if not same(report):
            outcome.how, outcome.detail = "WRONG", f"{what}: {report.get('error', 'another value')}"
            return outcome
    if "eager" in plain and not outcome.random:
        outcome.how, outcome.detail = "refused", plain["eager"]
        return outcome
    outcome.how = how(record, served)
    told = {
        "recompiled": lambda: served.get("misses", {}),
        "bypass": lambda: [*record.get("bypasses", {}), *record.get("faults", {})],
        "silent": lambda: [*said(record), *said(served)],
    }
    outcome.detail = "; ".join(told.get(outcome.how, list)())
    return outcome


def how(record, served):
    """Return how a sample came to its compiled functions."""
    hits, lean = served.get("hits", 0), served.get("lean", 0)
    if not served.get("compiled"):
        if hits:
            return "lean" if lean == hits else "full"
        return "left" if served.get("events") or served.get("traces") else "reused"
    if record.get("bypasses") or record.get("faults"):
        return "bypass"
    if LEFT in record.get("events", {}) and LEFT in served.get("events", {}) and not record.get("stored"):
        return "left"  # the backend was asked, and failed
    if served.get("misses") and (record.get("stored") or not record.get("compiled")):
        return "recompiled"
    return "silent"


def said(report):
    """Return the reasons of a report."""
    return [*report.get("bypasses", {}), *report.get("faults", {}), *report.get("misses", {})]


def last(text):
    """Return the last line of an error."""
    return text.rstrip().rpartition("\n")[2].strip()[:300]


def first(text):
    """Return the line of a traceback that has the error's class, or the last one."""
    lines = [
        line for line in text.splitlines() if re.match(r"[\w.]+(Error|Exception|Unsupported|Failed)\b", line)
    ]
    return (lines or [last(text)])[-1][:300]


class Trial:
    """Groups of subjects through all their starts, in a folder of their own."""

    def __init__(self, groups, root, kernels, lanes, samples, variables):
        self.groups, self.root, self.kernels, self.lanes = groups, root, kernels, lanes
        self.samples, self.variables = samples, variables
        root.mkdir(parents=True)

    def start(self, what, name, store=None, **env):
        """Run all groups in a process; return reports by subject and sample."""
        reports, stores = self.root / f"reports-{name}", store and self.root / store
        reports.mkdir()
        request = {
            "what": what,
            "groups": self.groups,
            "reports": str(reports),
            "store": stores and str(stores),
            "fallback": self.kernels == "fallback",
            "samples": self.samples,
        }
        (self.root / f"{name}.json").write_text(json.dumps(request))
        variables = {
            "FIREBRICK_SELF_TEST": "0",
            "CUDA_VISIBLE_DEVICES": "",
            "TORCHINDUCTOR_COMPILE_THREADS": "1",
        }
        variables["PYTHONHASHSEED"] = HASH_SEEDS.get(what, "2")
        done = start(
            ["-P", CHILD, self.root / f"{name}.json"],
            home=self.root / ("home" if self.kernels == "cpp" else f"home-{name}"),
            env=variables | self.variables | env,
            timeout=36_000.0,
        )
        if not done.report:
            raise RuntimeError(f"{name} ended with {done.returncode}: {done.stderr[-3000:]}")
        return {
            (*subject, key[1]): report for found in done.report.values() for subject, key, report in found
        }

    def outcomes(self):
        """Yield what became of each sample in each lane."""
        plain = self.start("plain", "plain")
        record = self.start("record", "record", "store")
        for lane in self.lanes:
            for folder in (self.root / "store").iterdir():
                copy = self.root / f"store-{lane}" / folder.name
                shutil.copytree(folder, copy)
                copy.chmod(0o700)
            more = {"FIREBRICK_LEAN": "0"} if lane == "full" else {}
            served = self.start("serve", lane, f"store-{lane}", **more)
            absent = {"error": "did not run"}
            for key, report in plain.items():
                yield judge(
                    (*key, lane, self.kernels),
                    plain=report,
                    record=record.get(key, absent),
                    served=served.get(key, absent),
                )


def run(chosen, lanes, kernels, *, root, samples=0, variables=None):
    """Yield the outcomes of subjects.

    Args:
        chosen: database, name and dtype of each subject.
        lanes: names in `LANES`.
        kernels: ``fallback``, ``cpp`` or both.
        root: an empty folder.
        samples: at most so many of each subject, spread over them; 0 stands for all.
        variables: of the environment, for all starts.
    """
    size = SUBJECTS_OF_A_GROUP
    groups = [
        {"name": f"group-{n // size}", "subjects": [list(subject) for subject in chosen[n : n + size]]}
        for n in range(0, len(chosen), size)
    ]
    for kind in kernels:
        for n in range(0, len(groups), GROUPS_OF_A_PROCESS):
            folder = Path(root) / f"{kind}-{n // GROUPS_OF_A_PROCESS}"
            part = groups[n : n + GROUPS_OF_A_PROCESS]
            yield from Trial(part, folder, kind, lanes, samples, variables or {}).outcomes()
            if not os.environ.get("CORPORA_KEEP"):
                shutil.rmtree(folder)


def choose(databases, dtypes, only=("",), number=0):
    """Return database, name and dtype of subjects.

    Args:
        databases: names of them.
        dtypes: names of torch's.
        only: parts of names.
        number: at most so many of each database and dtype, drawn with a fixed seed; 0 stands for all.
    """
    import torch

    chosen = []
    for database in databases:
        known = subjects(database)
        for dtype in dtypes:
            names = [
                n for n, s in known.items() if s.supports(vars(torch)[dtype]) and any(t in n for t in only)
            ]
            if number and number < len(names):
                names = sorted(random.Random(0).sample(names, number))
            chosen += [(database, name, dtype) for name in names]
    random.Random(0).shuffle(chosen)  # what a run that was ended has done is a fair sample
    return chosen


def table(outcomes):
    """Return counts and the most frequent reasons as text."""
    counts, reasons = (
        collections.defaultdict(collections.Counter),
        collections.defaultdict(collections.Counter),
    )
    for o in outcomes:
        row = f"{o.database} {o.dtype} {o.lane} {o.kernels}"
        counts[row][o.how] += 1
        counts[row]["samples"] += 1
        if o.how in ("recompiled", "bypass", "silent", "WRONG"):
            reasons[o.how][f"{o.lane}: {' '.join(o.detail.split())[-200:]}"] += 1
    lines = [f"{'':46}{'samples':>9}" + "".join(f"{c:>11}" for c in COLUMNS)]
    lines += [
        f"{row:46}{n['samples']:9}" + "".join(f"{n[c]:11}" for c in COLUMNS) for row, n in counts.items()
    ]
    for what, found in reasons.items():
        lines += [f"{number:6} {what}: {reason}" for reason, number in found.most_common(15)]
    return "\n".join(lines)


def main():
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--database", nargs="+", choices=DATABASES, default=DATABASES)
    parser.add_argument("--dtype", nargs="+", default=["float32"])
    parser.add_argument("--lane", nargs="+", choices=LANES, default=LANES)
    parser.add_argument("--kernels", nargs="+", choices=("fallback", "cpp"), default=["fallback"])
    parser.add_argument("--only", nargs="+", default=[""], help="subjects whose names contain one of these")
    parser.add_argument("--subjects", type=int, default=0, help="at most so many of each database and dtype")
    parser.add_argument("--samples", type=int, default=0, help="at most so many of each subject")
    parser.add_argument("--json", type=Path, help="write the outcomes to this file, and go on where it ends")
    options = parser.parse_args()
    outcomes = []
    if options.json and options.json.exists():
        outcomes = [Outcome(**row) for row in json.loads(options.json.read_text())]
    done = {(o.database, o.subject, o.dtype) for o in outcomes}
    chosen = choose(options.database, options.dtype, options.only, options.subjects)
    with tempfile.TemporaryDirectory(prefix="corpora-") as folder:
        os.environ.setdefault("FIREBRICK_TESTING_TOOLCHAIN", str(Path(folder) / "toolchain"))
        left = [subject for subject in chosen if subject not in done]
        for outcome in run(
            left, options.lane, options.kernels, root=Path(folder) / "run", samples=options.samples
        ):
            outcomes.append(outcome)
            if outcome.how in ("WRONG", "silent", "recompiled", "bypass"):
                where = f"{outcome.database} {outcome.subject} {outcome.dtype} {outcome.sample}"
                print(f"{outcome.how:10} {outcome.lane:4} {where} | {last(outcome.detail)}", flush=True)
            if options.json:
                options.json.write_text(json.dumps([vars(o) for o in outcomes], indent=0) + "\n")
    print(table(outcomes))
    sys.exit(any(o.how in ("WRONG", "silent") for o in outcomes))


if __name__ == "__main__":
    main()
