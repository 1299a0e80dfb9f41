"""Measure how long a process takes to its first result, in every way that torch has and ours.

    python benchmarks/bench_start.py --cases mlp gpt2 --repeats 3 --out start.json

Prints medians as a table and writes every start as JSON. `--modes cold record` gives what
recording adds to a cold start, from pairs that run one after the other in changing order.
A warm mode finds exactly what its seed has left. Files are in the page cache: no mode reads a
cold disk. `mega_cache`, `precompile_copied` and those of Firebrick run at another path than their seed.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import statistics
import sys
import tempfile
from pathlib import Path

import _cases
from _start import MODES, Lab, Start, StartFailed, has_cuda, machine, markdown

DEFAULT = (
    "cold",
    "torch_warm",
    "mega_cache",
    "precompile",
    "precompile_copied",
    "firebrick",
    "firebrick_variable",
)


def cell(starts: list[Start]) -> str:
    """Give the median, with what makes it doubtful."""
    if not starts:
        return "failed"
    text = f"{statistics.median(start.backward_s for start in starts):.3f} s"
    if any(start.differs for start in starts):
        text += ", differs"
    if starts[0].mode != "cold" and MODES[starts[0].mode].seed and starts[0].compiled:
        text += f", traced {starts[0].frames_traced}, compiled {starts[0].inductor_compiles}"
    return text


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", nargs="+", choices=_cases.CASES, default=tuple(_cases.CASES))
    parser.add_argument("--modes", nargs="+", choices=MODES, default=DEFAULT)
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--size", type=_cases.Size, default=_cases.Size.SMALL)
    parser.add_argument("--device", choices=("cpu", "cuda"), help="default: cuda where present")
    parser.add_argument("--out", type=Path, help="JSON file with every start")
    options = parser.parse_args()
    device = options.device or ("cuda" if has_cuda() else "cpu")
    starts: dict[tuple[str, str], list[Start]] = {}
    failures: list[dict[str, str]] = []
    with tempfile.TemporaryDirectory(prefix="firebrick-bench-") as root:
        lab = Lab(Path(root), options.size, device)
        for case in options.cases:
            for repeat in range(options.repeats):
                for mode in options.modes if repeat % 2 == 0 else reversed(options.modes):
                    print(f"{case}: {mode}, {repeat + 1} ...", file=sys.stderr, flush=True)
                    done = starts.setdefault((case, mode), [])
                    try:
                        done.append(lab.start(case, mode))
                    except StartFailed as error:
                        failures.append({"case": case, "mode": mode, "error": str(error)})
                        print(error, file=sys.stderr)
    overhead = {
        case: {
            field: statistics.median(
                getattr(recorded, field) / getattr(cold, field) - 1
                for cold, recorded in zip(*pair, strict=False)
            )
            for field in ("backward_s", "process_s", "cpu_s")
        }
        for case in options.cases
        if all(pair := [starts.get((case, mode), []) for mode in ("cold", "record")])
    }
    facts = machine() | {"size": options.size, "device": device, "repeats": options.repeats}
    if options.out:
        every = [dataclasses.asdict(start) for done in starts.values() for start in done]
        for start in every:
            del start["digests"]
        result = {"machine": facts, "starts": every, "failures": failures}
        options.out.write_text(json.dumps(result | {"recording_adds": overhead}, indent=1))
    print(json.dumps(facts))
    rows = [
        (_cases.CASES[case].title, *(cell(starts[case, mode]) for mode in options.modes))
        for case in options.cases
    ]
    print(markdown(("seconds to first result", *(MODES[m].title for m in options.modes)), rows))
    for case, added in overhead.items():
        print(
            f"recording adds to {case}: {added['backward_s']:+.1%} to the first result, "
            f"{added['process_s']:+.1%} to the process, {added['cpu_s']:+.1%} to its processor time "
            f"(median of {options.repeats} pairs)"
        )
    return 1 if failures or any(start.differs for done in starts.values() for start in done) else 0


if __name__ == "__main__":
    sys.exit(main())
