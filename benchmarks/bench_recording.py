"""Measure what recording adds to a cold start: the share of it that is spent in Firebrick's own work.

    python benchmarks/bench_recording.py --cases mlp --repeats 3

Cold starts differ by a tenth from one to the next, so that pairs of them cannot tell one percent. Here
one recording start is sampled: every few milliseconds a second thread looks at what the first is doing.
A sample counts for Firebrick when a function of Firebrick is on the stack that does work of its own or has
torch do it; functions that only stand around torch's (`AROUND`, closures) do not, nor do imports of modules
that torch imports in a cold start without Firebrick, which is what each case starts with.
torch's own bookkeeping for packages (`torch/_dynamo/package.py`, `precompile_context.py`), which recording
turns on, counts for Firebrick. Not seen: threads and processes beside the first.
"""

from __future__ import annotations

import argparse
import collections
import json
import os
import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path
from types import FrameType
from typing import Any

import _cases
from _start import last_json, machine, markdown

INTERVAL_S = 0.002
TORCH_FOR_US = ("/torch/_dynamo/package.py", "/torch/_dynamo/precompile_context.py")
IMPORT = "import of "
AROUND = {"_watched", "compile", "__call__", "fall_back_to_compiler", "torch_compile"}


def owner(frame: FrameType | None, ours: str) -> str | None:
    """Name the function of Firebrick that a stack, innermost frame first, works for; None: torch's work."""
    innermost, imported, packages = frame, "", None
    while frame is not None:
        code = frame.f_code
        if code.co_name == "_find_and_load" and code.co_filename.startswith("<frozen importlib"):
            imported = frame.f_locals["name"]
        if code.co_filename.endswith(TORCH_FOR_US):  # to be imported is no work for us
            inner = packages or f"torch's packages: {code.co_name}"
            packages = None if code.co_name == "<module>" else inner
        if code.co_filename.startswith(ours):
            if packages:
                return packages
            around = "<locals>" in code.co_qualname or code.co_name in AROUND
            if imported and not imported.startswith("firebrick"):
                return IMPORT + imported
            if frame is innermost or not around:
                return f"{Path(code.co_filename).stem}.{code.co_qualname}"
        frame = frame.f_back
    return packages


def child(case: str, size: str, device: str, store: str) -> dict[str, Any]:
    """Start a case in this process, recording, under the eyes of a sampler; without a store: unseen."""

    import _models

    target, inputs = _models.build(case, _cases.Size(size), device)
    counts: collections.Counter[str] = collections.Counter()
    main, done = threading.get_ident(), threading.Event()
    if not store:
        run(case, target, inputs)
        return {"modules": sorted(sys.modules)}
    import firebrick

    ours = str(Path(firebrick.__file__).parent)

    def sample() -> None:
        while not done.wait(INTERVAL_S):
            counts["samples"] += 1
            if name := owner(sys._current_frames()[main], ours):
                counts[name] += 1

    sampler = threading.Thread(target=sample)
    begin = time.perf_counter()
    sampler.start()
    try:
        firebrick.enable(store)
        run(case, target, inputs)
    finally:
        done.set()
    seconds = time.perf_counter() - begin
    sampler.join()
    return {
        "case": case,
        "seconds": seconds,
        "samples": counts.pop("samples"),
        "stored": firebrick.stats().stored,
        "where": dict(counts.most_common()),
    }


def run(case: str, target: Any, inputs: dict[str, Any]) -> None:
    """Compile and run a case, with its backward where it has one."""
    import torch

    with torch.set_grad_enabled(_cases.CASES[case].train):
        output = torch.compile(target)(**inputs)
    if _cases.CASES[case].train:
        loss = output["loss"] if isinstance(output, dict) else output.square().mean()
        loss.backward()


def start(case: str, options: argparse.Namespace, *, record: bool = True) -> dict[str, Any]:
    """Run a child with caches of its own."""
    with tempfile.TemporaryDirectory(prefix="firebrick-bench-") as root:
        env = os.environ | {
            "TORCHINDUCTOR_CACHE_DIR": f"{root}/inductor",
            "TRITON_CACHE_DIR": f"{root}/triton",
            "TMPDIR": root,
        }
        spec = [case, options.size, options.device, f"{root}/store" if record else ""]
        return last_json([sys.executable, __file__, "--child", *spec], env)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", nargs="+", choices=_cases.CASES, default=("mlp",))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--size", type=_cases.Size, default=_cases.Size.SMALL)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--out", type=Path, help="JSON file with every start")
    parser.add_argument("--child", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(child(*options.child)))
        return 0
    runs = []
    for case in options.cases:
        without = {IMPORT + name for name in start(case, options, record=False)["modules"]}
        for _ in range(options.repeats):
            runs.append(start(case, options))
            where = {name: n for name, n in runs[-1]["where"].items() if name not in without}
            runs[-1] |= {"where": where, "share": sum(where.values()) / runs[-1]["samples"]}
    facts = machine()
    if options.out:
        options.out.write_text(json.dumps({"machine": facts, "starts": runs}, indent=1))
    print(json.dumps(facts))
    rows = []
    for case in options.cases:
        shares = [run["share"] for run in runs if run["case"] == case]
        seconds = [run["seconds"] for run in runs if run["case"] == case]
        row = f"{statistics.median(shares):.1%}", f"{min(shares):.1%} to {max(shares):.1%}"
        rows.append((_cases.CASES[case].title, f"{statistics.median(seconds):.1f} s", *row))
    print(markdown(("case", "recording start", "in Firebrick (median)", "range"), rows))
    for name, count in sorted(runs[0]["where"].items(), key=lambda item: -item[1])[:20]:
        print(f"  {count / runs[0]['samples']:.2%} {name}")
    return 0 if all(run["stored"] for run in runs) else 1


if __name__ == "__main__":
    sys.exit(main())
