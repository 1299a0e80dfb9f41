"""The processes of the differential suite: save cases, or restore them and look who needs the compiler.

The saving process runs one case after the other and resets torch's compiler between them. The restoring
process forks for each case, before anything of the compiler is loaded: the case runs until something imports
the compiler, which ends the fork. Such cases run once more, in one process that has the compiler.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.abc
import json
import logging
import os
import random
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import firebrick
from support import differential
from support.programs import Watch, _difference, is_compiler, skip_code

_NEEDS_COMPILER = 3  # exit status of a fork that began to import the compiler
_SECONDS = 300.0  # for one case in a fork


class Tripwire(importlib.abc.MetaPathFinder):
    """Ends the process when a module of the compiler is about to be imported."""

    def __init__(self, report: Callable[[str], object]) -> None:
        self._report = report
        skip_code(Tripwire.find_spec)  # it may run inside a compiled region

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> None:
        """Look at a name; leave what is not the compiler's to the other finders."""
        if is_compiler(fullname):
            self._report(f"{fullname} imported by {_importer()}")
            os._exit(_NEEDS_COMPILER)


def _importer() -> str:
    """Return the function that imports a module just now, not the modules that are imported on the way."""
    for frame in reversed(traceback.extract_stack()):
        name = frame.filename
        if name == __file__ or name.startswith("<frozen") or frame.name == "<module>" or "importlib" in name:
            continue
        return f"{name.rpartition('site-packages/')[2].rpartition('/store/')[2]} {frame.name}"
    return "?"


class _Faults(logging.Handler):
    """Collects the errors that Firebrick passed over."""

    def __init__(self, faults: list[str]) -> None:
        super().__init__()
        self._texts = faults

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info is not None and (error := record.exc_info[1]) is not None:
            self._texts.append(f"{type(error).__name__}: {error}")


class Session:
    """Runs cases and writes a line of JSON for each.

    Args:
        request: what the parent asks for: folder, cases, reports, phase, variables.
    """

    def __init__(self, request: Mapping[str, Any]) -> None:
        self.request = request
        self.watch: Watch | None = None
        self._faults: list[str] = []
        logger = logging.getLogger("firebrick")
        logger.addHandler(_Faults(self._faults))
        logger.setLevel(logging.DEBUG)
        logger.propagate = False

    def write(self, name: str, report: Mapping[str, Any]) -> None:
        """Append the report of a case."""
        with open(self.request["reports"], "a", encoding="utf-8") as file:
            file.write(json.dumps({"case": name, **report}) + "\n")

    def run(self, name: str, armed: Callable[[], contextlib.AbstractContextManager[None]]) -> dict[str, Any]:
        """Build a case, make its calls, then the calls that nothing stored fits; return the report.

        Args:
            name: ``module.case``.
            armed: is entered around the calls.
        """
        from support._differential_steps import Steps

        self.watch = self.watch or Watch()
        _seed()
        module, short = _module(name), name.rpartition(".")[2]
        report: dict[str, Any] = {"misses": [], "graphs": True}
        self._faults.clear()
        try:
            steps = Steps(differential.cases_of(module)[short]())
            report["graphs"] = steps.graphs
            counts, stats = self.watch.counts(), firebrick.stats().as_dict()
            loaded = set(self.watch.compiler_modules())
            with armed():
                report["steps"] = steps.calls()
            report["work"] = _difference(self.watch.counts(), counts)
            report["modules"] = sorted(set(self.watch.compiler_modules()) - loaded)
            report["program_modules"] = sorted(loaded & {"torch._dynamo", "torch._inductor"})
            with self._unserved() if steps.has_misses else contextlib.nullcontext():
                report["stats"] = _difference(firebrick.stats().as_dict(), stats)
                if steps.has_misses:
                    report["misses"] = steps.misses()
            if steps.unexpected:
                report["broken"] = steps.unexpected
        except differential.Skip as reason:
            report = {"skip": str(reason)}
        except Exception:
            report["error"] = traceback.format_exc()
        report["faults"] = list(self._faults)
        return report

    @contextlib.contextmanager
    def _unserved(self) -> Iterator[None]:
        """Make calls that the store has nothing for: without Firebrick where cases are saved."""
        if self.request["phase"] == "second":
            os.environ.update(self.request["variables"])
            yield
            return
        folder = os.environ["FIREBRICK_CACHE_DIR"]
        counted = firebrick.stats()
        firebrick.disable()  # counts what still waits
        del counted
        try:
            yield
        finally:
            firebrick.enable(folder)

    def save(self) -> None:
        """Run all cases in this process."""
        for name in self.request["cases"]:
            importlib.import_module(_module(name))
            report = self.run(name, contextlib.nullcontext)
            self._close(report)
            self.write(name, report)

    def _close(self, report: dict[str, Any]) -> None:
        """Take torch back to its beginning; count what is not stored because it was not complete."""
        import torch

        torch._dynamo.reset()
        folder, before = os.environ["FIREBRICK_CACHE_DIR"], firebrick.stats()
        bypasses = dict(before.as_dict()["bypasses"])
        firebrick.disable()
        late = _difference(before.as_dict()["bypasses"], bypasses)
        if late and "stats" in report:
            report["stats"]["bypasses"] = {**late, **report["stats"].get("bypasses", {})}
        firebrick.enable(folder)

    def restore(self) -> None:
        """Fork for each case; then run those that need the compiler in one process that has it."""
        names: Sequence[str] = self.request["cases"]
        for module in dict.fromkeys(map(_module, names)):
            own = [name for name in names if _module(name) == module]
            # a module may import the compiler itself: that is its own affair
            _forked(lambda module=module, own=own: self._probe_module(module, own), len(own))  # type: ignore[misc]
        importers = {name: note.read_text() for name in names if (note := self._note(name)).exists()}
        left = list(importers)
        while left:
            done = Path(f"{self.request['reports']}.done")
            done.write_text("")
            status = _forked(lambda: self._with_compiler(left, importers, done), len(left))  # noqa: B023
            ran = done.read_text().split()
            left = [name for name in left if name not in ran]
            if left:
                error = f"the restoring process ended: {_status(status)}"
                self.write(left.pop(0), {"error": error})

    def _note(self, name: str) -> Path:
        return Path(f"{self.request['reports']}.{name}")

    def _probe_module(self, module: str, names: Sequence[str]) -> None:
        importlib.import_module(module)
        for name in names:
            status = _forked(lambda name=name: self._probe(name))  # type: ignore[misc]
            if status and status != _NEEDS_COMPILER:
                self.write(name, {"error": f"the restoring process ended: {_status(status)}"})

    def _probe(self, name: str) -> None:
        @contextlib.contextmanager
        def armed() -> Iterator[None]:
            wire = Tripwire(lambda text: self._note(name).write_text(text))
            sys.meta_path.insert(0, wire)
            try:
                yield
            finally:
                sys.meta_path.remove(wire)

        self.write(name, self.run(name, armed))

    def _with_compiler(self, names: Sequence[str], importers: Mapping[str, str], done: Path) -> None:
        variables = dict(os.environ)
        for module in map(_module, names):
            importlib.import_module(module)
        for name in names:
            os.environ.update(variables)
            report = self.run(name, contextlib.nullcontext)
            report["importer"] = importers[name]
            # what an earlier case imported counts for this one: it would have imported it
            report["modules"] = report.get("modules") or ["torch._dynamo"]
            self.write(name, report)
            with done.open("a") as file:
                file.write(f"{name}\n")
            if "torch._dynamo" in sys.modules:
                sys.modules["torch._dynamo"].reset()


def _seed() -> None:
    """Begin a case as if it were the first, whatever the one before left behind."""
    import torch

    torch.set_grad_enabled(True)
    torch.manual_seed(0)
    random.seed(0)


def _module(name: str) -> str:
    return name.rpartition(".")[0]


def _forked(body: Callable[[], None], cases: int = 1) -> int:
    """Run a function in a fork and return its exit status, negative for a signal.

    Args:
        body: what runs there.
        cases: how many cases it may run; the time that it has hangs on them.
    """
    child = os.fork()
    if not child:
        status = 1
        try:
            body()
            firebrick.disable()
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)
    deadline = time.monotonic() + _SECONDS * cases
    while True:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > deadline:
            os.kill(child, signal.SIGKILL)
            deadline += _SECONDS
        time.sleep(0.005)


def _status(status: int) -> str:
    return signal.Signals(-status).name if status < 0 else f"exit {status}"


def main(text: str) -> None:
    """Do what the parent asks for."""
    importlib.import_module("torch")  # joins Firebrick where the environment asks for it
    request = json.loads(text)
    folder = Path(request["folder"])
    sys.path.insert(0, str(folder))
    if "cases" not in request:
        modules = sorted(path.stem for path in folder.glob("*.py"))
        for module in modules:
            importlib.import_module(module)
        print(json.dumps({"cases": [f"{m}.{c}" for m in modules for c in differential.cases_of(m)]}))
        return
    warnings.filterwarnings("ignore", category=UserWarning, module="torch")
    session = Session(request)
    session.save() if request["phase"] == "first" else session.restore()
    firebrick.disable()


if __name__ == "__main__":
    main(sys.argv[1])
