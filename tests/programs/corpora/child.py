"""Run groups of subjects, each group in a fork of one process, and write what each sample computed and how.

The process imports torch, the compiler and the databases once. Each fork writes a line before and after each
sample, so that a crash or a sample that never ends costs that sample alone: another fork goes on behind it.
"""

import json
import os
import shutil
import signal
import sys
import time
import traceback
import warnings
from collections import Counter
from pathlib import Path

import torch

import firebrick
from support.forks import fork, warm
from support.programs import Watch

sys.path.insert(0, str(Path(__file__).parents[1]))

from corpora.subject import close, described, seed, spread, subjects

SECONDS = 300.0  # for one sample, on a machine that does other work too
KNOWN = {}  # databases that were asked for


class Observer:
    """Tells what torch and Firebrick did since it was asked last."""

    def __init__(self, watch, stats):
        self._watch, self._stats, self._last = watch, stats, {}
        self._newest = None
        self.since()

    def since(self):
        """Return counts by kind and reasons."""
        counts = self._watch.counts()
        now = {"traces": counts["traces"], "compiled": counts["compile_fx"]}
        if self._stats is not None:
            now |= {name: value for name, value in self._stats.as_dict().items() if name != "functions"}
        before, self._last = self._last, now
        found = {"events": dict(Counter(self._events()))} if self._stats is not None else {}
        for name, value in now.items():
            if isinstance(value, dict):
                value = dict(Counter(value) - Counter(before.get(name, {})))
            else:
                value -= before.get(name, 0)
            if value:
                found[name] = value
        return found

    def _events(self):
        """Yield what happened, as outcome and code of its reason, newest first."""
        kept = self._stats.events.all()
        for event in reversed(kept):
            if event is self._newest:
                break
            yield f"{event.outcome} {event.code}"
        self._newest = kept[-1] if kept else None


def measured(sample, function):
    """Return what a sample computes, with the same random numbers each time."""
    seed(1)
    return sample.measure(function)


def run_subject(request, subject, dtype, skipped, write):
    """Run the samples of one subject in this process."""
    torch._dynamo.reset()

    def fresh():
        seed()
        samples = subject.samples(dtype)
        return {n: samples[n] for n in spread(len(samples), request["samples"])}

    first = fresh()
    plain = request["what"] == "plain"
    eager, again = (fresh(), fresh()) if plain else ({}, {})
    compiled = {}
    observer = Observer(request["watch"], firebrick.stats() if request["store"] else None)
    for number, sample in first.items():
        if [subject.name, number] in skipped:
            continue
        write({"begin": [subject.name, number]})
        report, started = {}, time.monotonic()
        try:
            function = sample.function
            if function not in compiled:
                compiled[function] = torch.compile(function, dynamic=False)
            value = measured(sample, compiled[function])
            report["value"] = described(value)
        except Exception:
            report["error"] = traceback.format_exc(limit=-4)[-1500:]
        if request["what"] == "record":
            firebrick.flush()
        report |= observer.since()
        if plain:
            report |= in_torch_alone(
                eager[number], again[number], compiled, report, value if "value" in report else None
            )
            observer.since()
        report["seconds"] = round(time.monotonic() - started, 3)
        write({"end": [subject.name, number], "report": report})


def in_torch_alone(eager, again, compiled, report, value):
    """Say how a sample behaves in eager mode, and when it is compiled and called once more."""
    try:
        expected = measured(eager, eager.function)
    except Exception as error:
        return {"eager": f"eager mode fails: {type(error).__name__}: {error}"[:300]}
    if "error" in report:
        return {}
    found = {}
    try:
        function = again.function
        if function not in compiled:
            compiled[function] = torch.compile(function, dynamic=False)
        if described(measured(again, compiled[function])) != report["value"]:
            found["random"] = True
    except Exception as error:
        found["random"] = f"{type(error).__name__}: {error}"[:300]
    try:
        close(expected, value)
    except Exception as error:
        found["eager"] = f"{type(error).__name__}: {error}"[:300]
    return found


def forked(request, group, skipped, lines):
    """Run a group in this process."""
    with open(lines, "a") as out:

        def write(line):
            out.write(json.dumps(line) + "\n")
            out.flush()

        import torch._dynamo.config
        import torch._inductor.config

        torch._dynamo.config.recompile_limit = torch._dynamo.config.accumulated_recompile_limit = 100_000
        torch._inductor.config.fallback_by_default = request["fallback"]
        torch._inductor.config.fallback_random = True  # the numbers of eager mode
        for name in ("fxgraph", "aotautograd"):
            shutil.rmtree(Path(os.environ["TORCHINDUCTOR_CACHE_DIR"]) / name, ignore_errors=True)
        if request["store"]:
            firebrick.enable(Path(request["store"]) / group["name"])
        for database, name, dtype in group["subjects"]:
            write({"subject": [database, name, dtype]})
            done = [key for subject, key in skipped if subject == [database, name, dtype]]
            try:
                run_subject(request, known(database)[name], vars(torch)[dtype], done, write)
            except Exception:
                write({"failed": traceback.format_exc(limit=-4)[-1500:]})
        if request["store"]:
            stats = firebrick.stats()
            firebrick.disable()
            write({"stats": {k: v for k, v in stats.as_dict().items() if v and k != "functions"}})


def known(database):
    """Return the subjects of a database, made once."""
    if database not in KNOWN:
        KNOWN[database] = subjects(database)
    return KNOWN[database]


def in_forks(request, group):
    """Run a group, with another fork behind each sample that ends one; return subjects, samples, reports."""
    folder = Path(request["reports"])
    lines, log = (folder / f"{group['name']}.{end}" for end in ("jsonl", "log"))
    reports, skipped, rounds = [], [], 0
    while True:
        lines.write_text("")
        status = in_fork(request, group, skipped, lines, log)
        found, unfinished = read(lines)
        reports += found
        skipped += [(subject, key) for subject, key, _ in found]
        if status == 0 or rounds > 50:
            return reports
        rounds += 1
        said = f"the process ended with {status}: {log.read_text(errors='replace')[-1500:]}"
        if unfinished is None:
            subject = next(
                (s for s in group["subjects"] if s not in [r[0] for r in reports]), group["subjects"][-1]
            )
            reports.append((subject, ["", -1], {"error": said}))
            return reports
        reports.append((*unfinished, {"error": said, "crash": True}))
        skipped.append(unfinished)


def read(lines):
    """Return the reports of a fork, and the sample that it was in when it ended."""
    found, subject, begun = [], None, None
    for text in lines.read_text().splitlines():
        line = json.loads(text)
        if "subject" in line:
            subject = line["subject"]
        elif "begin" in line:
            begun = subject, line["begin"]
        elif "end" in line:
            found.append((subject, line["end"], line["report"]))
            begun = None
        elif "failed" in line:
            found.append((subject, [subject[1], -1], {"error": line["failed"]}))
    return found, begun


def in_fork(request, group, skipped, lines, log):
    """Run what is left of a group in a fork; return its exit status."""
    pid = fork(lambda: forked(request, group, skipped, lines), log)
    size, moved = -1, time.monotonic()
    while not (ended := os.waitpid(pid, os.WNOHANG))[0]:
        time.sleep(0.02)
        if lines.stat().st_size != size:
            size, moved = lines.stat().st_size, time.monotonic()
        elif time.monotonic() - moved > SECONDS:
            os.kill(pid, signal.SIGKILL)
    return ended[1]


def main(path):
    """Run what a file asks for and print the reports as JSON, in the last line."""
    request = json.loads(Path(path).read_text())
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    warm(store=bool(request["store"]))
    request["watch"] = Watch()
    for group in request["groups"]:
        for database, _, _ in group["subjects"]:
            known(database)
    print(json.dumps({group["name"]: in_forks(request, group) for group in request["groups"]}), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
