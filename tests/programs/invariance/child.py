"""Run the program once or more, each time in a fork of a process that has imported torch and nothing else."""

import importlib
import json
import os
import sys
import traceback
from pathlib import Path

import torch

import firebrick
from support.programs import describe, is_compiler


def run(start):
    """Run the program as one start wants it, and return its report."""
    os.environ.update(start.get("env", {}))
    os.chdir(start.get("cwd", "."))
    sys.argv[1:] = start.get("arguments", [])
    sys.path[:0] = start["path"]
    before = {name for name in sys.modules if is_compiler(name)}
    firebrick.enable(start["store"], record=start["record"])
    stats = firebrick.stats()
    namespace = {"torch": torch, "folder": Path(start["path"][0])}
    exec(start.get("prepare", ""), namespace)
    driver = importlib.import_module(start.get("driver", "app.run"))
    value = describe(namespace.get("call", lambda main: main())(driver.main))
    compiler = sorted({name for name in sys.modules if is_compiler(name)} - before)
    firebrick.disable()
    return {"value": value, "stats": stats.as_dict(), "compiler": compiler[:3]}


def main(path):
    """Run what a file asks for and print the reports as JSON, in the last line."""
    request = json.loads(Path(path).read_text())
    reports = {}
    for name, start in request.items():
        report = Path(f"{path}.{name.replace(' ', '-').replace('/', '-')}.report")
        if (pid := os.fork()) == 0:
            status = 1
            try:
                report.write_text(json.dumps(run(start)))
                status = 0
            except BaseException:
                report.write_text(json.dumps({"error": traceback.format_exc()}))
            finally:
                os._exit(status)
        os.waitpid(pid, 0)
        text = report.read_text() if report.exists() else ""
        reports[name] = json.loads(text) if text else {"error": "the process crashed"}
    print(json.dumps(reports), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
