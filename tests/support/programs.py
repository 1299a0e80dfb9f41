"""Run programs in processes of their own, and see what work the compiler did there.

A *program* is a Python file with functions that take no argument and return tensors, numbers, texts
or containers of them: its cases. The parent calls `run_cases`; this module, run as a script, is the
child: it watches the compiler and the operating system, runs the cases one after the other, and
prints a report as JSON in its last line.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import importlib
import importlib.abc
import importlib.machinery
import json
import os
import re
import subprocess
import sys
import traceback
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType
from typing import Any

import firebrick
from support._toolchain import keep, take

_HEURISTICS = "torch._inductor.runtime.triton_heuristics"
# What a second start must not do, by the functions of torch that do it, deep enough that no hook of
# Firebrick stands in for them. Torch's metrics are no witness: its caches add recorded differences.
_WORK = {
    "traces": "torch._dynamo.convert_frame:trace_frame",
    "symbolic": "torch._dynamo.symbolic_convert:InstructionTranslator.run",
    "compile_fx": "torch._inductor.compile_fx:compile_fx",
    "lowerings": "torch._inductor.graph:GraphLowering.run",
    "forward_graphs": "torch._functorch._aot_autograd.graph_compile:aot_dispatch_base_graph",
    "joint_graphs": "torch._functorch._aot_autograd.graph_compile:aot_dispatch_autograd_graph",
    "cpp_builds": "torch._inductor.cpp_builder:CppBuilder.build",
    "triton_compiles": f"{_HEURISTICS}:CachingAutotuner._precompile_config",
    "measurements": f"{_HEURISTICS}:CachingAutotuner.bench",
}
_COUNTERS = (
    ("frames", "total"),
    ("frames", "ok"),
    ("stats", "unique_graphs"),
    ("stats", "calls_captured"),
    ("inductor", "fxgraph_cache_miss"),
    ("inductor", "fxgraph_cache_bypass"),
    ("aot_autograd", "total"),
    ("aot_autograd", "autograd_cache_miss"),
    ("aot_autograd", "autograd_cache_bypass"),
)
_PROCESS_EVENTS = frozenset(
    {
        "subprocess.Popen",
        "os.posix_spawn",
        "os.spawn",
        "os.exec",
        "os.fork",
        "os.forkpty",
        "os.system",
    }
)
COMPILER = ("torch._dynamo", "torch._inductor", "torch._functorch", "sympy", "triton")
_KEPT_VARIABLES = ("LANG", "LC_ALL", "LD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES", "CUDA_HOME")
_KEPT_PREFIXES = ("NCCL_", "NVSHMEM_", "TORCH_SYMM_MEM_")  # what a host with several GPUs can bear


@dataclasses.dataclass(frozen=True, slots=True)
class Finished:
    """A program that has ended.

    Attributes:
        returncode: exit status; negative for a signal.
        stdout: what it printed.
        stderr: what it logged.
        report: the JSON of its last line, ``{}`` where that is none.
    """

    returncode: int
    stdout: str
    stderr: str
    report: dict[str, Any]

    def case(self, name: str) -> dict[str, Any]:
        """Return the report of one case; raises with its traceback where it failed."""
        if self.returncode or name not in self.report.get("cases", {}):
            raise RuntimeError(f"{name} did not run ({self.returncode}): {self.stderr}")
        case: dict[str, Any] = self.report["cases"][name]
        if "error" in case:
            raise RuntimeError(f"{name} failed: {case['error']}\n{self.stderr}")
        return case


def start(
    arguments: Sequence[str | Path],
    *,
    home: Path,
    store: Path | None = None,
    compilers: bool = True,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    timeout: float = 600.0,
) -> Finished:
    """Run Python with arguments in a process that shares nothing with this one but the disk.

    Args:
        arguments: of the interpreter.
        home: folder, made if absent, for the process's HOME, TMPDIR and the caches of Inductor and
            Triton. A new one gives empty caches; one used before gives warm ones. What torch finds out about
            the C++ compiler is no cache in this sense: it is in a new one from the start, where the variable
            FIREBRICK_TESTING_TOOLCHAIN of this process names a folder to keep it in.
        store: folder of the store, given as ``FIREBRICK_CACHE_DIR``; ``None`` leaves Firebrick off. Bundles
            are not tested by a process of their own unless ``env`` says so.
        compilers: keep PATH; otherwise PATH names one empty folder.
        cwd: working directory; ``home`` by default.
        env: variables that are set on top.
        timeout: seconds after which the process is killed and `subprocess.TimeoutExpired` raised.
    """
    # Names that no module has: the working directory may be on the path of modules.
    folders = {"HOME": home, "TMPDIR": home / "tmp-files"}
    folders |= {f"{n}_CACHE_DIR": home / f"cache-{n}" for n in ("TORCHINDUCTOR", "TRITON")}
    empty = home / "no-programs"
    toolchain = os.environ.get("FIREBRICK_TESTING_TOOLCHAIN") if compilers else None
    if toolchain and not folders["TORCHINDUCTOR_CACHE_DIR"].exists():
        take(Path(toolchain), home)
    for folder in (*folders.values(), empty):
        folder.mkdir(parents=True, exist_ok=True)
    variables = {
        name: value
        for name, value in os.environ.items()
        if name in _KEPT_VARIABLES or name.startswith(_KEPT_PREFIXES)
    }
    variables |= {name: str(folder) for name, folder in folders.items()}
    variables["PATH"] = os.environ.get("PATH", os.defpath) if compilers else str(empty)
    if store is not None:
        variables |= {"FIREBRICK_CACHE_DIR": str(store), "FIREBRICK_SELF_TEST": "0"}
    variables |= env or {}
    path = [variables.get("PYTHONPATH", ""), str(Path(__file__).parents[1])]
    variables["PYTHONPATH"] = os.pathsep.join(filter(None, path))
    done = subprocess.run(
        [sys.executable, *map(str, arguments)],
        env=variables,
        cwd=cwd or home,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    if toolchain and done.returncode == 0:
        keep(Path(toolchain), home)
    return Finished(done.returncode, done.stdout, done.stderr, _last_json(done.stdout))


def run_cases(program: Path, cases: Sequence[str], **options: Any) -> Finished:
    """Run cases of a program, in this order, in one process.

    Args:
        program: a Python file. It is imported under its own name, with its folder on the path.
        cases: names of functions in it.
        options: as for `start`.
    """
    return start(["-P", "-m", "support.programs", program.absolute(), *cases], **options)


def run_ranks(program: Path, name: str, *, home: Path, env: Mapping[str, str], **options: Any) -> list[Any]:
    """Run one case in two processes at once, which find each other; return its reports.

    Only the first process records, so that it can be told what has been stored.

    Args:
        program: as for `run_cases`. Its variables are RANK, 0 or 1, and RENDEZVOUS, a file.
        name: of the case.
        home: folder under which each process gets its own, and for RENDEZVOUS.
        env: as for `start`.
        options: as for `start`.
    """
    home.mkdir(parents=True, exist_ok=True)

    def rank(number: str) -> Any:
        variables = {**env, "RENDEZVOUS": str(home / "rendezvous"), "RANK": number}
        if number != "0":
            variables["FIREBRICK_RECORD"] = "0"
        return run_cases(program, [name], home=home / number, env=variables, **options).case(name)

    with ThreadPoolExecutor() as pool:
        return list(pool.map(rank, "01"))


def _last_json(text: str) -> dict[str, Any]:
    try:
        report = json.loads(text.rstrip().rpartition("\n")[2])
    except ValueError:
        return {}
    return report if isinstance(report, dict) else {}


def describe(value: Any) -> Any:
    """Return a value as JSON that is equal if and only if the value is, bit for bit.

    A tensor becomes its type, shape, strides, the digest of its bytes and, to compare with a
    tolerance, its elements; a text stays what it is, and any other value becomes its ``repr``.
    """
    if type(value).__module__.partition(".")[0] == "torch" and hasattr(value, "stride"):
        import torch

        plain = value.detach().cpu().contiguous()
        elements = plain.flatten()
        return {
            "tensor": hashlib.sha256(elements.view(torch.uint8).numpy().tobytes()).hexdigest(),
            "type": f"{value.dtype} {tuple(value.shape)} {value.stride()} {value.requires_grad}",
            "elements": elements.double().tolist(),
        }
    if isinstance(value, Mapping):
        return {str(key): describe(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [describe(item) for item in value]
    return value if isinstance(value, str) else repr(value)


class Watch(importlib.abc.MetaPathFinder):
    """Count what the compiler does, and the processes that are started.

    Imports nothing: what it watches is wrapped when the program imports it. Wrappers stay for the life of
    the process; counting is not exact when several threads compile at once, but zero stays zero.
    """

    def __init__(self) -> None:
        self.work: Counter[str] = Counter()
        self.processes: list[str] = []
        self._places: dict[str, list[tuple[str, str]]] = {}
        for name, place in _WORK.items():
            module, _, qualname = place.partition(":")
            self._places.setdefault(module, []).append((name, qualname))
        sys.addaudithook(self._on_event)
        for function in (Watch._on_event, Watch.find_spec):
            skip_code(function)  # they may run inside a compiled region
        self._before = frozenset(sys.modules)
        sys.meta_path.insert(0, self)
        for module in self._places.keys() & sys.modules.keys():
            self._wrap_all(sys.modules[module])

    def _on_event(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event in _PROCESS_EVENTS:
            self.processes.append(f"{event} {arguments[:2]}")

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """Find a watched module as the other finders do, and wrap its functions once it is imported."""
        if fullname not in self._places:
            return None
        others = (finder for finder in sys.meta_path if finder is not self)
        found = (finder.find_spec(fullname, path, target) for finder in others)
        spec = next((spec for spec in found if spec is not None), None)
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def exec_module(module: ModuleType) -> None:
                execute(module)
                self._wrap_all(module)

            spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec

    def _wrap_all(self, module: ModuleType) -> None:
        for name, qualname in self._places.pop(module.__name__, ()):
            self._wrap(name, module, qualname)

    def _wrap(self, name: str, owner: Any, qualname: str) -> None:
        *path, attribute = qualname.split(".")
        for part in path:
            owner = getattr(owner, part)
        inner: Callable[..., Any] = getattr(owner, attribute)

        @functools.wraps(inner)
        def counted(*args: Any, **kwargs: Any) -> Any:
            self.work[name] += 1
            return inner(*args, **kwargs)

        counted.firebrick_transparent = counted.__code__  # type: ignore[attr-defined]
        setattr(owner, attribute, counted)

    def counts(self) -> dict[str, int]:
        """Return the work that was done so far, and torch's own counters."""
        counts = {name: self.work[name] for name in _WORK}
        dynamo = sys.modules.get("torch._dynamo.utils")
        counters: Mapping[str, Mapping[str, int]] = getattr(dynamo, "counters", {})
        own = {f"{a}.{b}": int(counters.get(a, {}).get(b, 0)) for a, b in _COUNTERS}
        return counts | own | {"processes": len(self.processes)}

    def compiler_modules(self) -> list[str]:
        """Return the modules of the compiler that were imported since the watch began."""
        return sorted(name for name in set(sys.modules) - self._before if is_compiler(name))


def skip_code(function: Callable[..., Any]) -> None:
    """Keep torch from compiling a function, as ``skip_code`` of ``torch/_dynamo/eval_frame.py`` does."""
    from torch._C._dynamo import eval_frame

    skip, default = eval_frame._FrameAction.SKIP, eval_frame._FrameAction.DEFAULT
    eval_frame.set_code_exec_strategy(function.__code__, eval_frame._FrameExecStrategy(skip, default))


def is_compiler(module: str) -> bool:
    """Say whether a module belongs to what a start without the compiler must not import."""
    return module.startswith(tuple(f"{root}." for root in COMPILER)) or module in COMPILER


def builders(processes: Sequence[str]) -> list[str]:
    """Return the processes of a report but for those with which Triton and CUDA find out where they run."""
    return [process for process in processes if not re.search(r"--version|ldconfig|'file'", process)]


def _difference(new: Any, old: Any) -> Any:
    if isinstance(new, dict):
        parts = {key: _difference(new[key], (old or {}).get(key)) for key in new}
        return {key: part for key, part in parts.items() if part}
    if isinstance(new, int | float):
        return new - (old or 0)
    return new


def _run_case(case: Callable[[], Any], watch: Watch) -> dict[str, Any]:
    import torch

    counts, stats = watch.counts(), firebrick.stats().as_dict()
    torch.manual_seed(0)
    try:
        result = {"value": describe(case())}
    except Exception:
        result = {"error": traceback.format_exc()}
    result["work"] = _difference(watch.counts(), counts)
    result["stats"] = _difference(firebrick.stats().as_dict(), stats)
    result["modules"] = watch.compiler_modules()
    return result


def main(arguments: Sequence[str]) -> None:
    """Run the cases of a program and print the report: the body of the child process."""
    program, *names = arguments
    watch = Watch()
    sys.path.insert(0, str(Path(program).parent))
    module = importlib.import_module(Path(program).stem)
    cases = {name: _run_case(getattr(module, name), watch) for name in names}
    stats = firebrick.stats()
    firebrick.disable()  # as the exit of the process would; what still waits is counted now
    report = {
        "cases": cases,
        "stats": stats.as_dict(),
        "counts": watch.counts(),
        "processes": watch.processes,
        "modules": sorted(sys.modules),
    }
    print(json.dumps(report), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
