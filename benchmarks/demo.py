"""Start real models three times: cold, from torch's warm caches, and from a Firebrick store.

Every start is a process of its own with the same random weights. The third has no compiler on
its PATH and empty torch and Triton caches. Ends with an error where it compiled anything, or
where an output, gradient or buffer differs by one bit from those of the process that recorded.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import _cases
from _start import Lab, Start, StartFailed, has_cuda, machine, markdown

HEADER = (
    "model",
    "cold",
    "torch warm caches",
    "Firebrick (no compiler, empty caches)",
    "disk torch",
    "disk Firebrick",
    "equal bitwise",
)
DETAILS = (
    "model",
    "cold, forward",
    "torch, forward",
    "Firebrick, forward",
    "cold, recording",
    "import torch",
    "build",
    "traced",
    "compiled",
    "compiler modules loaded",
)


def row(starts: dict[str, Start]) -> tuple[str, ...]:
    cold, warm, loaded = starts["cold"], starts["torch_warm"], starts["firebrick"]
    return (
        _cases.CASES[cold.case].title,
        *(f"{start.backward_s:.2f} s" for start in (cold, warm, loaded)),
        str(cold.torch_disk),
        str(starts["record"].firebrick_disk),  # as recorded: a copy of its lock file is not sparse
        "no: " + ", ".join(loaded.differs) if loaded.differs else "yes",
    )


def details(starts: dict[str, Start]) -> tuple[str, ...]:
    loaded = starts["firebrick"]
    return (
        _cases.CASES[loaded.case].title,
        *(f"{starts[mode].forward_s:.2f} s" for mode in ("cold", "torch_warm", "firebrick")),
        f"{starts['record'].backward_s:.2f} s",
        f"{loaded.import_torch_s:.1f} s",
        f"{loaded.build_s:.1f} s",
        str(loaded.frames_traced),
        str(loaded.inductor_compiles),
        ", ".join(m for m in loaded.compiler_after if m not in loaded.compiler_before) or "none",
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--full", action="store_true", help="real sizes: minutes for each model")
    parser.add_argument("--cases", nargs="+", choices=_cases.CASES, default=_cases.DEMO)
    parser.add_argument("--device", choices=("cpu", "cuda"), help="default: cuda where present")
    options = parser.parse_args()
    device = options.device or ("cuda" if has_cuda() else "cpu")
    size = _cases.Size.FULL if options.full else _cases.Size.SMALL
    results: list[dict[str, Start]] = []
    with tempfile.TemporaryDirectory(prefix="firebrick-demo-") as root:
        lab = Lab(Path(root), size, device)
        for case in options.cases:
            starts: dict[str, Start] = {}
            for mode in ("cold", "torch_warm", "record", "firebrick"):
                print(f"{case}: {mode} ...", file=sys.stderr, flush=True)
                try:
                    starts[mode] = lab.start(case, mode)
                except StartFailed as error:
                    print(f"{case}, {mode} failed:\n{error}", file=sys.stderr)
                    if "record" in starts:
                        print("recording:", starts["record"].firebrick, file=sys.stderr)
                    return 1
            results.append(starts)
    facts = machine()
    print(f"{results[0]['cold'].device}, {facts['cores']} cores, {facts['processor']};", end=" ")
    print(", ".join(f"{name} {version}" for name, version in facts["versions"].items()))
    print("\nSeconds from the built model to the end of the first forward (and backward):\n")
    print(markdown(HEADER, map(row, results)))
    print("\nIn detail; the last columns are of the start from the store:\n")
    print(markdown(DETAILS, map(details, results)))
    bad = [starts["firebrick"] for starts in results]
    bad = [start for start in bad if start.differs or start.compiled]
    for start in bad:
        print(f"\n{start.case}: differs in {start.differs}, compiled: {start.compiled}")
        print(f"  Firebrick: {start.firebrick}")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
