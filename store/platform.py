"""What this machine is, as far as it decides whether stored code may run here."""

from __future__ import annotations

import functools
import platform as _platform
import sys
from collections.abc import Callable, Iterable
from typing import Final

CURRENT_GPU: Final = "current GPU"  # name of a fact of the process

# Flags of /proc/cpuinfo (x86) and its "Features" (Arm) that stand for instructions which a compiler, or
# the vector classes of ATen, use of their own accord. Others (crypto, random numbers, cache control,
# bug work-arounds, virtualisation, power) do not change the code of a kernel.
_ISA_PREFIXES = (
    "sse", "ssse", "avx", "amx", "fma", "f16c", "bmi", "abm", "lzcnt", "popcnt", "movbe", "gfni", "cx16",
    "lahf_lm", "asimd", "sve", "fp", "atomics", "i8mm", "bf16", "fcma", "jscvt",
)  # fmt: skip


@functools.cache
def isa_flags() -> frozenset[str]:
    """Return the instruction-set flags of this CPU, empty where the system does not tell them.

    Follows ``torch/_inductor/cpu_vec_isa.py`` in the source of the flags, /proc/cpuinfo; unlike it,
    starts no process and compiles nothing.
    """
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as lines:
            for line in lines:
                name, _, text = line.partition(":")
                if name.strip().lower() in ("flags", "features"):
                    return frozenset(f for f in text.split() if f.startswith(_ISA_PREFIXES))
    except OSError:
        pass
    return frozenset()


def missing_isa(required: Iterable[str]) -> list[str]:
    """Return the required instruction-set flags that this CPU lacks, sorted."""
    return sorted(set(required) - isa_flags())


@functools.cache
def host_facts() -> dict[str, str]:
    """Return the facts that every recipe holds: Python, torch and the kind of machine.

    Imports torch. The facts of a GPU are not among them: a function that runs on the CPU does not
    depend on the GPU beside it. They are kept with the bundles that need them (`gpu_facts`).
    """
    import torch

    return {
        "python": f"{sys.implementation.cache_tag} {_platform.python_version()}",
        "torch": torch.__version__,
        "torch.git": str(torch.version.git_version),
        "torch.debug": str(torch.version.debug),
        "machine": f"{sys.platform} {_platform.machine()} {sys.byteorder}",
    }


def gpu_facts() -> dict[str, str]:
    """Return what a bundle with GPU code needs: model, architecture, toolkit and Triton's version.

    The index of the device is not among the facts: one bundle serves all devices of a kind.
    Follows ``SystemInfo`` of ``torch/_dynamo/package.py``. Empty without CUDA.
    """
    import torch

    if not torch.cuda.is_available():
        return {}
    properties = torch.cuda.get_device_properties(torch.cuda.current_device())
    return {
        "gpu": properties.name,
        "gpu.arch": getattr(properties, "gcnArchName", "") or f"sm_{properties.major}{properties.minor}",
        "gpu.toolkit": str(torch.version.cuda or torch.version.hip),
        "triton": _triton_version(),
    }


def process_fact(name: str) -> str:
    """Return a fact of this process that torch folds into graphs without a guard on it.

    Args:
        name: `CURRENT_GPU`, ``process group``, ``rank`` or ``world size``.

    Raises:
        KeyError: there is no such fact.
    """
    return _PROCESS_FACTS[name]()


def _current_gpu() -> str:
    import torch

    return str(torch.cuda.current_device()) if torch.cuda.is_available() else "none"


def _of_group(name: str) -> str:
    from torch import distributed

    if not (distributed.is_available() and distributed.is_initialized()):
        return "none"
    return str(getattr(distributed, name)())


_PROCESS_FACTS: dict[str, Callable[[], str]] = {
    CURRENT_GPU: _current_gpu,
    "process group": functools.partial(_of_group, "is_initialized"),
    "rank": functools.partial(_of_group, "get_rank"),
    "world size": functools.partial(_of_group, "get_world_size"),
}


@functools.cache
def _triton_version() -> str:
    from importlib import metadata

    for name in ("triton", "pytorch-triton", "pytorch-triton-rocm", "triton-rocm"):
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return "none"
