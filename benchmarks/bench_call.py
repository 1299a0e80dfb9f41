"""Measure what a call costs after the start: a function that torch compiled, against one from the store.

    python benchmarks/bench_call.py --cases sin_cos mlp --repeats 5

For each case one process records; then processes that torch compiles in (from its own warm caches, without
Firebrick) and processes that the store serves take turns. Each makes many calls in batches; the quickest
batch of the quickest process stands for the mode, since processes of one kind differ by tens of percent
on some machines. Small inputs and one thread, so that the time of a call is that of guards, wrappers and
dispatch and not that of the kernels. With `--graphs` everything is compiled for CUDA graphs
(`mode="reduce-overhead"`).
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import _cases
from _start import last_json, machine, markdown

MODES = {"torch": {}, "lean": {"FIREBRICK_LEAN": "1"}, "full": {"FIREBRICK_LEAN": "0"}}
BATCHES, BATCH_S = 40, 0.05


def child(case: str, size: str, device: str, mode: str) -> dict[str, Any]:
    """Time the calls of a case in this process, in microseconds: forward alone, and with a backward."""
    import torch

    import _models

    torch.set_num_threads(1)
    target, inputs = _models.build(case, _cases.Size(size), device)
    compiled = torch.compile(target, mode=mode)
    parameters = list(target.parameters()) if isinstance(target, torch.nn.Module) else []

    def forward() -> None:
        with torch.no_grad():
            compiled(**inputs)

    def training() -> None:
        for parameter in parameters:
            parameter.grad = None
        output = compiled(**inputs)
        (output["loss"] if isinstance(output, dict) else output.sum()).backward()

    found = {"forward": _quickest(forward, device)}
    if _cases.CASES[case].train:
        found["training"] = _quickest(training, device)
    firebrick = sys.modules.get("firebrick")
    return {"us": found, "firebrick": firebrick and firebrick.stats().as_dict()}


def _quickest(call: Any, device: str) -> float:
    import torch

    settle = torch.cuda.synchronize if device == "cuda" else lambda: None
    for _ in range(20):
        call()
    settle()
    begin = time.perf_counter()
    call()
    settle()
    calls = max(1, int(BATCH_S / (time.perf_counter() - begin)))
    batches = []
    for _ in range(BATCHES):
        begin = time.perf_counter()
        for _ in range(calls):
            call()
        settle()
        batches.append((time.perf_counter() - begin) / calls)
    return min(batches) * 1e6


def start(case: str, mode: str, home: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Run a child in a mode."""
    foreign = ("TORCH", "TRITON", "FIREBRICK")
    env = {key: value for key, value in os.environ.items() if not key.startswith(foreign)} | MODES[mode]
    here = home / ("torch" if mode == "torch" else "firebrick")
    env |= {"TORCHINDUCTOR_CACHE_DIR": f"{here}/inductor", "TRITON_CACHE_DIR": f"{here}/triton"}
    if mode != "torch":
        env["FIREBRICK_CACHE_DIR"] = str(home / "store")
    compile_mode = "reduce-overhead" if options.graphs else "default"
    command = [sys.executable, __file__, "--child", case, options.size, options.device, compile_mode]
    return {"case": case, "mode": mode, **last_json(command, env)}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", nargs="+", choices=_cases.CASES, default=("sin_cos", "mlp"))
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--size", type=_cases.Size, default=_cases.Size.SMALL)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--modes", nargs="+", choices=MODES, default=tuple(MODES))
    parser.add_argument("--graphs", action="store_true", help="compile for CUDA graphs")
    parser.add_argument("--out", type=Path, help="JSON file with every process")
    parser.add_argument("--child", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(child(*options.child)))
        return 0
    runs, served = [], True
    for case in options.cases:
        with tempfile.TemporaryDirectory(prefix="firebrick-bench-") as home:
            for mode in ("torch", "lean"):
                start(case, mode, Path(home), options)  # fills torch's caches and the store
            for _ in range(options.repeats):
                for mode in options.modes:
                    run = start(case, mode, Path(home), options)
                    served &= mode == "torch" or run["firebrick"]["hits"] > 0
                    served &= mode != "lean" or run["firebrick"]["lean"] > 0
                    runs.append(run)
    facts = machine()
    if options.out:
        options.out.write_text(json.dumps({"machine": facts, "processes": runs}, indent=1))
    print(json.dumps(facts))
    rows = []
    for case in options.cases:
        for what in next(run["us"] for run in runs if run["case"] == case):
            us = {
                mode: min(run["us"][what] for run in runs if (run["case"], run["mode"]) == (case, mode))
                for mode in options.modes
            }
            base = us.get("torch", float("nan"))
            cells = (f"{value:.2f} ({value / base:.3f})" for value in us.values())
            rows.append((f"{_cases.CASES[case].title}: {what}", *cells))
    print(markdown(("µs per call (ratio to torch)", *options.modes), rows))
    if not served:
        print("a process was not served by the lane that it was to measure", file=sys.stderr)
    return 0 if served else 1


if __name__ == "__main__":
    sys.exit(main())
