"""Start one case in a process of its own and measure it; demo.py and bench_start.py use it.

A *mode* says what the process finds when it starts. Its working folder holds `torch` (the cache
directory of torch and Triton), `tmp` (where torch keeps precompiled C++ headers), `artifacts` (the
mega-cache) and `firebrick` (the store); what a mode finds there is a copy of what its seed mode has
left, and nothing else.
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import hashlib
import importlib.metadata
import json
import os
import platform
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import _cases

COMPILER = ("torch._dynamo", "torch._inductor.compile_fx", "torch._functorch", "sympy", "triton")
SAME_MACHINE = ("torch", "tmp")
TIME_LIMIT_S = 3600


@dataclasses.dataclass(frozen=True, slots=True)
class Mode:
    """What a process finds when it starts, and what is switched on in it."""

    title: str
    seed: str | None = None
    finds: tuple[str, ...] = ()
    site: str = "home"  # the folder it runs in; "away" is another path than the seed's
    attach: bool = False  # Firebrick
    variable: bool = False  # ... by FIREBRICK_CACHE_DIR, with no change to the program
    compiler: bool = True  # a C++ compiler on PATH
    save: bool = False  # torch.compiler.save_cache_artifacts at the end
    env: tuple[tuple[str, str], ...] = ()


_PRECOMPILE = (("TORCH_CACHING_PRECOMPILE", "1"),)
MODES: dict[str, Mode] = {
    "cold": Mode("cold"),
    "record": Mode("cold, Firebrick recording", attach=True),
    "torch_warm": Mode("torch warm caches", seed="cold", finds=SAME_MACHINE),
    "mega_cache_save": Mode("cold, saving the mega-cache", save=True),
    "mega_cache": Mode("mega-cache", seed="mega_cache_save", finds=("artifacts",), site="away"),
    "precompile_save": Mode("cold, `caching_precompile`", save=True, env=_PRECOMPILE),
    "precompile": Mode(
        "`caching_precompile`, warm", seed="precompile_save", finds=SAME_MACHINE, env=_PRECOMPILE
    ),
    "precompile_copied": Mode(
        "`caching_precompile`, entry alone",
        seed="precompile_save",
        finds=("torch/dynamo",),
        site="away",
        env=_PRECOMPILE,
    ),
    "firebrick": Mode(
        "Firebrick",
        seed="record",
        finds=("firebrick",),
        site="away",
        attach=True,
        compiler=False,
    ),
}
MODES["firebrick_variable"] = dataclasses.replace(
    MODES["firebrick"], title="Firebrick by `FIREBRICK_CACHE_DIR`", variable=True
)


@dataclasses.dataclass(frozen=True, slots=True)
class Disk:
    """What a folder holds: allocated bytes and number of files."""

    bytes: int
    files: int

    @classmethod
    def of(cls, folder: Path) -> Disk:
        sizes = [path.stat().st_blocks * 512 for path in folder.rglob("*") if path.is_file()]
        return cls(sum(sizes), len(sizes))

    def __str__(self) -> str:
        return f"{self.bytes / 1e6:.1f} MB, {self.files} file{'s' * (self.files != 1)}"


@dataclasses.dataclass(frozen=True, slots=True)
class Start:
    """One measured start; seconds count from the end of the model's construction."""

    case: str
    mode: str
    import_torch_s: float
    build_s: float
    forward_s: float
    backward_s: float  # forward and backward together; equal to forward_s without training
    process_s: float  # the whole process, its exit included
    cpu_s: float  # processor time of the process and of those it started
    frames_traced: int
    inductor_compiles: int
    compiler_before: list[str]  # compiler modules that building the model had loaded already
    compiler_after: list[str]
    digests: dict[str, str]
    firebrick: dict[str, Any] | None
    device: str
    torch_disk: Disk
    firebrick_disk: Disk
    differs: list[str]  # tensors that are not those of the seed's process, bit for bit

    @property
    def compiled(self) -> bool:
        return bool(self.frames_traced or self.inductor_compiles)


class StartFailed(Exception):
    """A measured process has failed; the text is the end of what it printed."""


class Lab:
    """Runs starts below `root`; keeps what each seed mode has left, one per case."""

    def __init__(self, root: Path, size: _cases.Size, device: str) -> None:
        self.root, self.size, self.device = root, size, device
        self._seeds: dict[tuple[str, str], Start] = {}

    def start(self, case: str, mode_name: str) -> Start:
        """Run one start, after its seed where that has not run yet. Raises StartFailed."""
        mode = MODES[mode_name]
        here, kept = self.root / case / mode.site, self.root / case / "kept"
        seed = self._seeds.get((case, mode.seed or "")) or (
            self.start(case, mode.seed) if mode.seed else None
        )
        shutil.rmtree(here, ignore_errors=True)
        for part in ("torch", "tmp", "artifacts", "firebrick"):
            (here / part).mkdir(parents=True, mode=0o700)
        for part in mode.finds:
            source = kept / str(mode.seed) / part
            if source.exists():
                shutil.copytree(source, here / part, dirs_exist_ok=True)
        measured = self._child(case, mode, here)
        reference = seed.digests if seed else measured["digests"]
        differs = sorted(
            name
            for name in reference.keys() | measured["digests"].keys()
            if reference.get(name) != measured["digests"].get(name)
        )
        start = Start(
            case=case,
            mode=mode_name,
            torch_disk=Disk.of(here / "torch"),
            firebrick_disk=Disk.of(here / "firebrick"),
            differs=differs,
            **measured,
        )
        if mode.seed is None and (case, mode_name) not in self._seeds:
            self._seeds[case, mode_name] = start
            kept.mkdir(exist_ok=True)
            here.rename(kept / mode_name)
        return start

    def _child(self, case: str, mode: Mode, here: Path) -> dict[str, Any]:
        spec = {
            "case": case,
            "size": self.size,
            "device": self.device,
            "firebrick": str(here / "firebrick") if mode.attach else None,
            "variable": mode.variable,
            "artifacts": str(here / "artifacts" / "mega"),
            "save": mode.save,
        }
        command = [sys.executable, __file__, "--child", json.dumps(spec)]
        before, begin = _children_cpu_s(), time.perf_counter()
        try:
            done = subprocess.run(
                command,
                env=_environment(mode, here),
                cwd=here,
                capture_output=True,
                text=True,
                timeout=TIME_LIMIT_S,
            )
        except subprocess.TimeoutExpired as error:
            raise StartFailed(f"no end after {error.timeout} s") from error
        if done.returncode:
            raise StartFailed((done.stderr or done.stdout)[-4000:])
        measured: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        process_s = time.perf_counter() - begin
        return measured | {"process_s": process_s, "cpu_s": _children_cpu_s() - before}


def _children_cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _environment(mode: Mode, here: Path) -> dict[str, str]:
    """Give the environment of a measured process: nothing of torch's or Firebrick's comes in."""
    foreign = ("TORCH", "TRITON", "INDUCTOR", "FIREBRICK", "PYTHONPATH")
    env = {key: value for key, value in os.environ.items() if not key.startswith(foreign)}
    env |= {
        "TORCHINDUCTOR_CACHE_DIR": str(here / "torch"),
        "TRITON_CACHE_DIR": str(here / "torch" / "triton"),
        "TMPDIR": str(here / "tmp"),
        "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
        "HF_HUB_OFFLINE": "1",
        **dict(mode.env),
    }
    if mode.variable:
        env["FIREBRICK_CACHE_DIR"] = str(here / "firebrick")
    if not mode.compiler:
        empty = here / "no-programs"
        empty.mkdir()
        env["PATH"] = str(empty)
        for name in ("CC", "CXX", "CUDA_HOME", "CUDA_PATH"):
            env.pop(name, None)
    return env


def _tensors(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Yield every tensor in an output, with its path."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _tensors(f"{name}.{key}", item)
    elif isinstance(value, (tuple, list)):
        for index, item in enumerate(value):
            yield from _tensors(f"{name}.{index}", item)
    elif value is not None:
        yield name, value


def _digest(tensor: Any) -> str:
    """Digest a tensor's type, shape, strides and bits."""
    import torch

    facts = f"{tensor.dtype}{tuple(tensor.shape)}{tensor.stride()}".encode()
    raw = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
    return hashlib.sha256(facts + raw.tobytes()).hexdigest()[:32]


def _child(spec: dict[str, Any]) -> dict[str, Any]:
    """Build the case, start it and measure; everything that is not of the start comes after."""
    begin = time.perf_counter()
    import torch

    import_torch_s = time.perf_counter() - begin
    torch.set_deterministic_debug_mode("warn")  # atomics would differ from run to run
    cuda = spec["device"] == "cuda"
    begin = time.perf_counter()
    import _models

    target, inputs = _models.build(spec["case"], _cases.Size(spec["size"]), spec["device"])
    if cuda:
        torch.cuda.synchronize()
    build_s = time.perf_counter() - begin
    train = _cases.CASES[spec["case"]].train
    before = [name for name in COMPILER if name in sys.modules]
    artifacts = Path(spec["artifacts"])
    torch.manual_seed(_models.SEED)

    begin = time.perf_counter()
    try:
        if spec["firebrick"] and not spec["variable"]:
            import firebrick

            firebrick.enable(spec["firebrick"])
            compiled = firebrick.compile(target)
        else:
            if artifacts.exists():
                torch.compiler.load_cache_artifacts(artifacts.read_bytes())
            compiled = torch.compile(target)
        with torch.set_grad_enabled(train):
            output = compiled(**inputs)
        if cuda:
            torch.cuda.synchronize()
        forward_s = time.perf_counter() - begin
        if train:
            loss = output["loss"] if isinstance(output, dict) else output.square().mean()
            loss.backward()
            if cuda:
                torch.cuda.synchronize()
        backward_s = time.perf_counter() - begin
    except Exception as error:
        if spec["firebrick"]:
            import firebrick

            error.add_note(f"Firebrick: {firebrick.stats().as_dict()}")
        raise

    if spec["firebrick"]:
        import firebrick
    after = [name for name in COMPILER if name in sys.modules]
    dynamo = sys.modules.get("torch._dynamo.utils")
    counters: dict[str, Any] = dynamo.counters if dynamo else {}
    inductor = counters.get("inductor", {})
    tensors = dict(_tensors("output", output))
    if isinstance(target, torch.nn.Module):
        tensors |= {f"buffer.{name}": buffer for name, buffer in target.named_buffers()}
        grads = {name: parameter.grad for name, parameter in target.named_parameters()}
        tensors |= {f"grad.{name}": grad for name, grad in grads.items() if grad is not None}
    if spec["save"] and (saved := torch.compiler.save_cache_artifacts()):
        artifacts.write_bytes(saved[0])
    return {
        "import_torch_s": import_torch_s,
        "build_s": build_s,
        "forward_s": forward_s,
        "backward_s": backward_s,
        "frames_traced": counters.get("frames", {}).get("total", 0),
        "inductor_compiles": inductor.get("fxgraph_cache_miss", 0) + inductor.get("fxgraph_cache_bypass", 0),
        "compiler_before": before,
        "compiler_after": after,
        "digests": {name: _digest(tensor) for name, tensor in tensors.items()},
        "firebrick": firebrick.stats().as_dict() if spec["firebrick"] else None,
        "device": torch.cuda.get_device_name() if cuda else "cpu",
    }


def last_json(command: Iterable[str], env: Mapping[str, str]) -> dict[str, Any]:
    """Run a process and return the JSON of its last line; RuntimeError with its log where it failed."""
    done = subprocess.run(list(command), env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def machine() -> dict[str, Any]:
    """Say what ran: versions, cores and the processor's name."""
    versions = {"python": platform.python_version()}
    for name in ("torch", "triton", "transformers", "firebrick"):
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    processor = platform.processor()
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [line for line in info.read_text().splitlines() if line.startswith("model name")]
        processor = names[0].partition(":")[2].strip() if names else processor
    return {
        "versions": versions,
        "cores": len(os.sched_getaffinity(0)),
        "processor": processor,
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
    }


def has_cuda() -> bool:
    """Say whether torch sees a GPU, asked in another process: ours stays small and quick."""
    probe = "import sys, torch; sys.exit(not torch.cuda.is_available())"
    return subprocess.run([sys.executable, "-c", probe], check=False).returncode == 0


def markdown(header: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Give a table that can be pasted into the documents."""
    lines = [f"| {' | '.join(row)} |" for row in (tuple(header), *rows)]
    lines.insert(1, "|" + "---|" * (lines[0].count(" | ") + 1))
    return "\n".join(lines)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Measure one start; started by the benchmarks.")
    parser.add_argument("--child", type=json.loads, required=True)
    print(json.dumps(_child(parser.parse_args().child)))
