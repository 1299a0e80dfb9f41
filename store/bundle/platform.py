"""The facts of this machine that decide whether stored code may run on it."""

from __future__ import annotations

import functools
import platform as _platform
import sys
from collections.abc import Iterable, Sequence
from typing import Any, Final

CURRENT_GPU: Final = "current GPU"  # name of a fact of the process
NO_FACT: Final = "none"  # followed by the reason there is none

# Flags of /proc/cpuinfo (x86) and its "Features" (Arm) for instructions that a compiler or ATen's vector
# classes use without being asked. Others (crypto, random numbers, cache control, bug workarounds,
# virtualisation, power) do not change a kernel's code.
_ISA_PREFIXES = (
    "sse", "ssse", "avx", "amx", "fma", "f16c", "bmi", "abm", "lzcnt", "popcnt", "movbe", "gfni", "cx16",
    "lahf_lm", "asimd", "sve", "fp", "atomics", "i8mm", "bf16", "fcma", "jscvt",
)  # fmt: skip


@functools.cache
def isa_flags() -> frozenset[str]:
    """Return the instruction-set flags of this CPU; empty if the system does not report them.

    Reads /proc/cpuinfo as ``torch/_inductor/cpu_vec_isa.py`` does, but starts no process and compiles
    nothing.
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
    """Return the facts in every recipe: Python, torch and the kind of machine.

    Imports torch. GPU facts are not among them, since a function on the CPU does not depend on the GPU; the
    bundles that need them keep them (`gpu_facts`).
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
    """Return the requirements of a bundle with GPU code: model, architecture, toolkit and Triton's version.

    The device index is not a fact: one bundle serves all devices of a kind. Follows ``SystemInfo`` of
    ``torch/_dynamo/package.py``. Empty without CUDA.
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


def process_fact(name: str, arguments: Sequence[Any] = ()) -> str:
    """Return a torch function's answer about this process, which Dynamo folds into graphs without a guard.

    Args:
        name: of the function, one of `PROCESS_FUNCTIONS`, or `CURRENT_GPU`.
        arguments: the call's arguments: None, numbers, strings, lists of numbers.

    Raises:
        KeyError: there is no such fact.
    """
    import torch

    if name == CURRENT_GPU:
        return str(torch.cuda.current_device()) if torch.cuda.is_available() else "none"
    if name not in PROCESS_FUNCTIONS:
        raise KeyError(name)
    try:
        function: Any = torch
        for part in name.split(".")[1:]:
            function = getattr(function, part)
        value = function(*arguments)
    except Exception as error:  # no process group, no such device
        return f"{NO_FACT} ({type(error).__name__})"
    if name != _OF_GPU:
        return repr(value)
    fields = (field for field in dir(value) if field[0] != "_" and not field.startswith(_OF_ONE_GPU))
    return " ".join(f"{field}={getattr(value, field)}" for field in fields)


_OF_GPU: Final = "torch.cuda.get_device_properties"
_OF_ONE_GPU: Final = ("uuid", "pci_")  # properties of one GPU rather than its kind
_C10D: Final = "torch.distributed.distributed_c10d"
# Those of `constant_fold_functions` (torch/_dynamo/variables/torch.py) without a guard that may differ
# between processes, and those of `is_constant_pg_functions` (distributed.py beside it).
PROCESS_FUNCTIONS: Final = frozenset(
    (
        *(
            "torch.distributed.is_initialized",
            "torch.distributed.get_rank",
            "torch.distributed.get_world_size",
        ),
        *(f"{_C10D}._get_group_size_by_name", f"{_C10D}._get_group_tag", f"{_C10D}._rank_not_in_group"),
        *(f"{_C10D}.get_process_group_ranks", f"{_C10D}._resolve_group_name_by_ranks_and_tag"),
        *("torch.cuda.is_available", "torch.accelerator.is_available", "torch.xpu.is_available", _OF_GPU),
    )
)


@functools.cache
def _triton_version() -> str:
    from importlib import metadata

    for name in ("triton", "pytorch-triton", "pytorch-triton-rocm", "triton-rocm"):
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return "none"
