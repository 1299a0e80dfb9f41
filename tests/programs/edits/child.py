"""Run cases of edits in one process, and print what each computed and whether it was served."""

import importlib
import json
import os
import sys
import traceback
from pathlib import Path

import torch

import firebrick
from firebrick.testing.programs import _difference as difference
from firebrick.testing.programs import describe


def measure(module, compiled):
    """Return the value and the gradient of one call."""
    torch.manual_seed(0)
    if hasattr(module, "call"):
        return describe(module.call(compiled))
    x = torch.tensor([1.0, 2.0], requires_grad=True)
    result = compiled(x)
    if isinstance(result, torch.Tensor) and result.requires_grad:
        result.sum().backward()
    return describe([result, x.grad])


def run(name):
    """Import one case and run it, compiled."""
    module = importlib.import_module(name)
    arguments = dict(getattr(module, "arguments", {}))
    if hasattr(module, "options"):
        arguments["options"] = module.options
    before = firebrick.stats().as_dict()
    try:
        eager = os.environ.get("EDITS_EAGER")
        compiled = module.f if eager else torch.compile(module.f, **arguments)
        report = {"value": measure(module, compiled)}
    except Exception:
        report = {"error": traceback.format_exc(limit=-3)}
    firebrick.flush()
    report["stats"] = difference(firebrick.stats().as_dict(), before)
    getattr(module, "undo", lambda: None)()
    if "torch._dynamo" in sys.modules:
        torch._dynamo.reset()
    return report


def main(folder, *names):
    if os.environ.get("EDITS_FALLBACK"):
        import torch._inductor.config as config

        config.fallback_by_default = True
    sys.path.insert(0, str(Path(folder)))
    print(json.dumps({name: run(name) for name in names}), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
