"""Save cases in one process, restore them in another, and compare all that they do, bit for bit.

A *case* is a `Program`: a target, the calls that are made to it, and calls that nothing stored fits. Cases
stand in modules of one folder and are made with `case`, `program` and `scenario`. `run` starts the two
processes and returns a `Verdict` for each case. The processes' own side is `_differential_child`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

from support.programs import Finished, start

_Function = TypeVar("_Function", bound=Callable[..., Any])
LANES = ("lean", "full", "recompiled", "skipped", "broken", "differs")
# what is another in every process
_VOLATILE = re.compile(r" at 0x[0-9a-f]+|_\d{6,}(_c\d+)?|_\d+\b|\b\d{4,}\b")


@dataclasses.dataclass(frozen=True, slots=True)
class Call:
    """One call of the target.

    Attributes:
        args: positional arguments; an object that two calls share is the same object in both.
        kwargs: arguments by name.
        inside: makes the context manager that the call stands in.
        before: is called first, to change what the target sees.
        backward: how often gradients of the outputs are taken; ``None`` for once where the program trains.
    """

    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    inside: Callable[[], contextlib.AbstractContextManager[Any]] = contextlib.nullcontext
    before: Callable[[], Any] | None = None
    backward: int | None = None


def call(*args: Any, **kwargs: Any) -> Call:
    """Return a plain call with these arguments."""
    return Call(args, kwargs)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """What a case runs.

    Attributes:
        target: function or module that is compiled.
        calls: made in both processes; the second one should find all of them in the store.
        misses: made after them; the first process makes them without Firebrick.
        train: take gradients after each call.
        options: of ``torch.compile``.
        how: ``wrap`` with ``torch.compile``, ``in_place`` with ``Module.compile``, or ``already`` where the
            builder has compiled what the target calls.
        state: returns objects beside arguments and target that are described after each call.
        graphs: whether torch compiles anything; a case where that is not so is broken.
        raises: name of the exception that every call ends with; any other end is a broken case.
    """

    target: Any
    calls: Sequence[Call]
    misses: Sequence[Call] = ()
    train: bool = False
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    how: Literal["wrap", "in_place", "already"] = "wrap"
    state: Callable[[], Any] | None = None
    graphs: bool = True
    raises: str | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Scenario:
    """A case that calls ``torch.compile`` itself; what it returns is described.

    Attributes:
        body: made and run in both processes.
    """

    body: Callable[[], Any]


class Skip(Exception):
    """Raised by a builder: the case cannot run here; the text is the reason."""


_cases: dict[str, dict[str, Callable[[], Program | Scenario]]] = {}


def register(module: str, name: str, build: Callable[[], Program | Scenario]) -> None:
    """Add a case under a module's name; two cases of one name are a `ValueError`."""
    cases = _cases.setdefault(module, {})
    if name in cases:
        raise ValueError(f"{module}.{name} is there already")
    cases[name] = build


def case(
    calls: Callable[[], Sequence[Call]],
    *,
    misses: Callable[[], Sequence[Call]] = list,
    **fields: Any,
) -> Callable[[_Function], _Function]:
    """Make the decorated function a case; it is the target and stays as it is.

    Args:
        calls: makes the calls.
        misses: makes the calls that nothing stored fits.
        fields: more fields of `Program`.
    """

    def decorate(function: _Function) -> _Function:
        def build() -> Program:
            return Program(target=function, calls=calls(), misses=misses(), **fields)

        register(function.__module__, function.__name__, build)
        return function

    return decorate


def program(build: _Function) -> _Function:
    """Make the decorated function a case; it returns the `Program`."""
    register(build.__module__, build.__name__, build)
    return build


def scenario(body: _Function) -> _Function:
    """Make the decorated function a case that runs by itself."""
    register(body.__module__, body.__name__, lambda: Scenario(body))
    return body


def cases_of(module: str) -> dict[str, Callable[[], Program | Scenario]]:
    """Return the cases of an imported module, name -> builder."""
    return _cases.get(module, {})


@dataclasses.dataclass(frozen=True, slots=True)
class Verdict:
    """What became of a case.

    Attributes:
        name: ``module.case``.
        lane: one of `LANES`.
        reason: why it is not lean; empty for lean.
        differences: places where the two processes are not equal.
        first: report of the saving process.
        second: report of the restoring process.
    """

    name: str
    lane: str
    reason: str = ""
    differences: tuple[str, ...] = ()
    first: Mapping[str, Any] = dataclasses.field(default_factory=dict, repr=False)
    second: Mapping[str, Any] = dataclasses.field(default_factory=dict, repr=False)


def differences(old: Any, new: Any, place: str = "") -> Iterator[str]:
    """Yield the places where two reports are not equal, with both values."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in [*old, *(key for key in new if key not in old)]:
            absent = "nothing"
            yield from differences(old.get(key, absent), new.get(key, absent), f"{place}.{key}".lstrip("."))
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for number, (left, right) in enumerate(zip(old, new, strict=True)):
            yield from differences(left, right, f"{place}[{number}]")
    elif old != new or type(old) is not type(new):
        yield f"{place}: {old!s:.160} -> {new!s:.160}"


def classify(name: str, first: Mapping[str, Any], second: Mapping[str, Any]) -> Verdict:
    """Return the verdict on a case from its two reports."""

    def verdict(lane: str, reason: str = "", found: Sequence[str] = ()) -> Verdict:
        return Verdict(name, lane, reason, tuple(found), first, second)

    if "skip" in first:
        return verdict("skipped", first["skip"])
    if "broken" in first:
        return verdict("broken", first["broken"])
    compiles = bool(first.get("work", {}).get("compile_fx"))
    if "error" not in first and compiles != first["graphs"]:
        return verdict("broken", "torch compiles a graph" if compiles else "torch compiles no graph")
    for report in (first, second):
        if "error" in report:
            return verdict("broken", report["error"].strip().rpartition("\n")[2])
    found = [*differences(first["steps"], second["steps"], "calls")]
    found += differences(first["misses"], second["misses"], "misses")
    if found:
        return verdict("differs", found[0], found)
    if _work(second) or (compiles and not second["stats"].get("hits")):
        return verdict("recompiled", _reason(first, second))
    if second["modules"]:
        return verdict("full", _not_lean(first, second))
    return verdict("lean", "" if compiles else "torch compiles no graph")


def _work(report: Mapping[str, Any]) -> dict[str, int]:
    """Return the compiler's work, without torch's counters: they count frames that are only looked at."""
    return {name: count for name, count in report["work"].items() if "." not in name}


def _reason(first: Mapping[str, Any], second: Mapping[str, Any]) -> str:
    """Return why nothing, or not all, was served."""
    for phase in (first, second):
        if phase.get("faults"):
            return "fault: " + _one_line(phase["faults"][0])
    for prefix, stats, kind in (
        ("not stored: ", first["stats"], "bypasses"),
        ("miss: ", second["stats"], "misses"),
    ):
        if stats.get(kind):
            return prefix + _one_line(next(iter(stats[kind])))
    if not _work(second):
        return "no compiled code was used"
    return "work is done: " + ", ".join(f"{name} {count}" for name, count in _work(second).items())


def _not_lean(first: Mapping[str, Any], second: Mapping[str, Any]) -> str:
    """Return why the compiler was loaded: the first refusal on record, or who imported it."""
    for stats in (first["stats"], second["stats"]):
        for kind, reasons in stats.items():
            if "lean" in kind and isinstance(reasons, dict) and reasons:
                return _one_line(next(iter(reasons)))
    return _one_line(second.get("importer", ""))


def _one_line(reason: str) -> str:
    for prefix in ("not lean: ", "not storable: "):
        reason = reason.removeprefix(prefix)
    return _VOLATILE.sub("", " ".join(reason.split()))[:160]


def run(
    folder: Path, names: Sequence[str], *, root: Path, caches: Path | None = None, timeout: float = 1200.0
) -> dict[str, Verdict]:
    """Run cases in two processes, one after the other, and return the verdicts by name.

    Args:
        folder: where the modules with the cases are.
        names: ``module.case``, run in this order.
        root: an empty folder for the store, the caches and the reports.
        caches: a folder with torch's caches of an earlier run, to compile faster; made if absent.
        timeout: seconds for each of the processes.
    """
    store, home = root / "store", caches or root / "home"
    first = _reports("first", folder, names, root / "first", home, store, timeout=timeout)
    kept = [name for name in names if name in first and not {"error", "skip", "broken"} & first[name].keys()]
    second = _reports(
        "second", folder, kept, root / "second", root / "home-second", store, warm=home, timeout=timeout
    )
    lost = {"error": "no report"}
    return {name: classify(name, first.get(name, lost), second.get(name, lost)) for name in names}


def _reports(
    phase: str, folder: Path, names: Sequence[str], reports: Path, home: Path, store: Path,
    *, warm: Path | None = None, timeout: float,
) -> dict[str, dict[str, Any]]:  # fmt: skip
    """Run one phase; where a case ends its process, the ones behind it run in another."""
    found: dict[str, dict[str, Any]] = {}
    left = list(names)
    while left:
        finished = _child(phase, folder, left, reports, home, store, warm, timeout)
        lines = reports.read_text().splitlines() if reports.exists() else []
        found |= {report.pop("case"): report for report in map(json.loads, lines)}
        left = [name for name in left if name not in found]
        if left:
            found[left.pop(0)] = {"error": f"exit {finished.returncode}: {finished.stderr[-2000:]}"}
    return found


def _child(
    phase: str, folder: Path, names: Sequence[str], reports: Path, home: Path, store: Path,
    warm: Path | None, timeout: float,
) -> Finished:  # fmt: skip
    request = {
        "phase": phase,
        "folder": str(folder.absolute()),
        "cases": list(names),
        "reports": str(reports),
        "variables": {"TORCHINDUCTOR_CACHE_DIR": str(warm / "cache-TORCHINDUCTOR")} if warm else {},
    }
    try:
        return start(
            ["-P", "-m", "support._differential_child", json.dumps(request)],
            home=home,
            store=store,
            env={"TORCHINDUCTOR_COMPILE_THREADS": "1"},
            timeout=timeout,
        )
    except subprocess.TimeoutExpired:
        return Finished(-9, "", f"no end after {timeout:.0f} s", {})


def list_cases(folder: Path, *, home: Path) -> list[str]:
    """Return the names of all cases of a folder, sorted; imports them in a process of its own.

    Raises:
        RuntimeError: where a module cannot be imported.
    """
    finished = start(
        ["-P", "-m", "support._differential_child", json.dumps({"folder": str(folder.absolute())})],
        home=home,
    )
    if finished.returncode:
        raise RuntimeError(finished.stderr)
    names: list[str] = finished.report["cases"]
    return names


if __name__ == "__main__":
    sys.exit("this module has no command: see benchmarks/differential.py")
