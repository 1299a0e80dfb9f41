"""Run a program of the gallery as ``python program.py`` would, and report what it computed and did.

The program's last word is a global ``result``. The report is JSON in the last line. With GALLERY_ATEN in the
environment ATen computes instead of C++ kernels, where the program chooses no mode.
"""

import functools
import json
import os
import sys
import time
from pathlib import Path

import torch

import firebrick
from support.programs import Watch, describe


def without_kernels(compile):
    """Return ``torch.compile`` that leaves operators to ATen."""

    @functools.wraps(compile)
    def compiled(*args, **options):
        if "mode" not in options:
            options["options"] = {"fallback_by_default": True} | options.get("options", {})
        return compile(*args, **options)

    return compiled


def main():
    """Run the program of this process's last argument, as its ``__main__``."""
    path, scope = Path(sys.argv.pop()).resolve(), sys.modules["__main__"].__dict__
    watch = Watch()
    sys.argv, sys.path[0:0] = [str(path)], [str(path.parent)]
    for name in scope.keys() - {"__name__", "__builtins__", "__spec__"}:
        del scope[name]
    scope |= {"__file__": str(path), "__spec__": None}
    if os.environ.get("GALLERY_ATEN"):
        torch.compile = without_kernels(torch.compile)
    began = time.perf_counter()
    exec(compile(path.read_text(), str(path), "exec", dont_inherit=True), scope)
    seconds = time.perf_counter() - began
    stats, compiler = firebrick.stats(), watch.compiler_modules()
    value = describe(scope["result"])
    firebrick.disable()  # as the exit of the process would; what still waits is counted now
    print(
        json.dumps(
            {
                "value": value,
                "stats": stats.as_dict(),
                "counts": watch.counts(),
                "compiler": compiler,
                "seconds": seconds,
                "processes": watch.processes,
            }
        ),
        flush=True,
    )
