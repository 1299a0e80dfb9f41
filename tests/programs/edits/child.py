"""Run cases of edits, each in a fork of one process, and say what each computed and whether it was served.

The process imports torch, and by default the compiler, compiles something, and forks for each case, so that what one
case does to torch is not seen by the next. Firebrick is enabled in the fork, on a store of the case's own.
"""

import contextlib
import importlib
import json
import os
import shutil
import signal
import sys
import time
import traceback
from pathlib import Path

import torch

import firebrick
from support.forks import fork, warm
from support.programs import describe

SECONDS = 200.0  # for one case
MODULE = "program"  # name of a case's module


def measure(module, compiled):
    """Return the value and the gradient of one call."""
    if hasattr(module, "call"):
        return module.call(compiled)
    x = torch.tensor([1.0, 2.0], requires_grad=True)
    result = compiled(x)
    if isinstance(result, torch.Tensor) and result.requires_grad:
        result.sum().backward()
    return [result, x.grad]


def run(eager):
    """Import the program of a case and run it, compiled."""
    torch.manual_seed(0)
    module = importlib.import_module(MODULE)
    torch.manual_seed(0)
    if hasattr(module, "program"):
        return describe(module.program())
    arguments = dict(getattr(module, "arguments", {}))
    if hasattr(module, "options"):
        arguments["options"] = module.options
    return describe(measure(module, module.f if eager else torch.compile(module.f, **arguments)))


def forget():
    """Empty torch's caches of graphs; the shared libraries stay."""
    for name in ("fxgraph", "aotautograd"):
        shutil.rmtree(Path(os.environ["TORCHINDUCTOR_CACHE_DIR"]) / name, ignore_errors=True)


def explained(explanation):
    """Return what an explanation says, as JSON can have it."""
    return {
        "outcome": explanation.outcome,
        "reason": explanation.reason,
        "changes": explanation.changes,
        "text": str(explanation),
    }


def forked(request, name):
    """Run one case in this process and return its report."""
    report = {"error": "", "stats": {}}
    stats, audits = firebrick.stats(), None
    forget()
    os.environ.update(request.get("env", {}).get(name, {}))
    try:
        if request["fallback"] and not request["eager"]:
            import torch._inductor.config

            torch._inductor.config.fallback_by_default = True
        if request["store"]:
            for mend in request.get("without", {}).get(name, ()):
                importlib.import_module("fuzz.mutants").take_out(mend)
            firebrick.enable(Path(request["store"]) / name)
            stats = firebrick.stats()
        sys.path.insert(0, str(Path(request["folder"]) / name))
        # a difference is told and not raised: then it is seen whether the numbers differ as well
        auditing = request["store"] and request["audit"]
        with firebrick.audit(raises=False) if auditing else contextlib.nullcontext() as audits:
            report = {"value": run(request["eager"])}
    except Exception:
        report = {"error": traceback.format_exc(limit=-6)}
    if request["store"]:
        report["explained"] = [explained(one) for one in firebrick.explain()]
        firebrick.disable()  # as the exit of the process would
    report["stats"] = {key: value for key, value in stats.as_dict().items() if value}
    report["diffs"] = [str(error) for error in audits.differed] if audits else []
    report["compiler"] = "torch._dynamo" in sys.modules
    return report


def in_fork(request, name):
    """Run one case in a fork; a crash becomes an error in its report."""
    path, log = (Path(request["reports"]) / f"{name}.{end}" for end in ("json", "log"))
    pid = fork(lambda: path.write_text(json.dumps(forked(request, name))), log)
    deadline = time.monotonic() + SECONDS
    while not (ended := os.waitpid(pid, os.WNOHANG))[0]:
        if time.monotonic() > deadline:
            os.kill(pid, signal.SIGKILL)
        time.sleep(0.005)
    text = log.read_text(errors="replace")
    if path.exists() and ended[1] == 0:
        return json.loads(path.read_text()) | {"log": text[-4000:]}
    return {"error": f"ended with {ended[1]}: {text[-3000:]}", "stats": {}}


def main(path):
    """Run what a file asks for and print the reports as JSON, in the last line."""
    request = json.loads(Path(path).read_text())
    if any(request.get("without", {}).values()):
        sys.path.append(str(Path(__file__).parents[1]))
        importlib.import_module("fuzz.mutants")
    if request["warm"]:
        warm(store=bool(request["store"]))
    if request["threads"]:
        torch.set_num_threads(request["threads"])
    print(json.dumps({name: in_fork(request, name) for name in request["names"]}), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
