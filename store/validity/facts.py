"""Re-ask what the compiler folds into graphs without a guard: the process, the environment, packages."""

from __future__ import annotations

import functools
import importlib.metadata
import importlib.util
import os
import re
import sys
from collections.abc import Sequence
from typing import Any, Final

from firebrick.bundle.platform import CURRENT_GPU, PROCESS_FUNCTIONS, process_fact
from firebrick.validity.operator_kernels import meaning, overrides

HASH_SEED: Final = "hash seed"
ABSENT: Final = "absent"
OVERRIDES: Final = "what the program changed of torch's operators"
OPERATOR: Final = "operator"
PREPARED: Final = "prepared package"

# Functions of torch that Dynamo calls while tracing and whose answer depends on state, by the path they are
# called by. Not those whose state torch's guards compare.
FOLDS: Final = frozenset(
    {
        "torch.get_autocast_dtype", "torch.get_autocast_gpu_dtype", "torch._C._get_cublas_allow_tf32",
        "torch.is_autocast_cache_enabled", "torch._C._get_privateuse1_backend_name",
        "torch.autograd._is_checkpoint_valid", "torch.distributed.is_available", "sys.getrecursionlimit",
        "sys.get_int_max_str_digits", "torch.xpu.get_device_properties",
        "torch.backends.mps.is_available", "torch.backends.mps.is_built", "torch.mps.is_available",
        "torch.mtia.is_available",
    }
)  # fmt: skip
# Functions that depend only on their arguments, or on state that torch guards: its `GlobalStateGuard`, and
# the guards of `constant_fold_functions_need_guards`.
PURE: Final = frozenset(
    {
        "torch._assert", "torch.is_complex", "torch.is_floating_point", "torch.promote_types",
        "torch.nn.functional._Reduction.get_enum", "torch.get_default_dtype", "torch.is_autocast_enabled",
        "torch.is_autocast_cpu_enabled", "torch._C._is_any_autocast_enabled", "torch.nn._reduction.get_enum",
        "typing.cast", "os.fspath", "posix.fspath", "struct.pack", "struct.unpack", "_struct.pack",
        "_struct.unpack",
        "sys.intern", "torch.fx.node.map_arg", "torch.fx.node.map_aggregate", "traceback.extract_tb",
        "traceback.clear_frames", "torch._utils._get_device_index", "torch.accelerator.current_device_index",
        "torch.accelerator.current_accelerator", "torch.cuda.current_device", "torch.cuda.is_initialized",
        "torch.xpu.current_device", "torch.xpu.is_initialized",
        "torch.__future__.get_overwrite_module_params_on_conversion",
        "torch._C._functorch.get_dynamic_layer_stack_depth",
    }
)  # fmt: skip


def path_of(function: Any) -> str:
    """Return the path a function is called by: its module and qualified name."""
    module = getattr(function, "__module__", None) or getattr(
        getattr(function, "__self__", None), "__name__", ""
    )
    path = f"{module}.{getattr(function, '__qualname__', type(function).__qualname__)}"
    return _HOMES.sub("", path)


# The modules functions claim to be from, between the module and the name they are called by.
_HOMES: Final = re.compile(
    r"(?<=torch\.)(_C\.)?_VariableFunctions(Class)?\.|(?<=torch\.distributed\.)distributed_c10d\."
    r"|(?<=_C\._functorch\.)pybind11_detail_function_record\w*\."
)


def ask(name: str, arguments: Sequence[Any]) -> str:
    """Return the present value of a fact of the process.

    Args:
        name: `HASH_SEED`, `OVERRIDES`, `OPERATOR`, ``environment``, ``find_spec``, ``package version``,
            `PREPARED`, `CURRENT_GPU`, or the path of a function.
        arguments: the call's arguments: None, numbers, strings.

    Raises:
        KeyError: there is no such fact.
    """
    if name == HASH_SEED:
        return str(hash("firebrick"))
    if name == "environment":
        value = os.environ.get(arguments[0])
        return ABSENT if value is None else repr(value)
    if name == "find_spec":
        return _found(arguments[0])
    if name == OVERRIDES:
        return overrides()
    if name == OPERATOR:
        return meaning(arguments[0])
    if name == PREPARED:
        return _prepared(arguments[0])
    if name == "package version":
        try:
            return importlib.metadata.version(arguments[0])
        except importlib.metadata.PackageNotFoundError:
            return ABSENT
    if name == CURRENT_GPU or name in PROCESS_FUNCTIONS:
        return process_fact(name, arguments)
    if name not in FOLDS:
        raise KeyError(name)
    module, _, attribute = name.rpartition(".")
    found: Any = sys.modules.get(module)
    if found is None:
        import torch

        found = torch
        for part in module.split(".")[1:]:
            found = getattr(found, part)
    try:
        return repr(getattr(found, attribute)(*arguments))
    except Exception as error:  # no such device
        return f"none ({type(error).__name__})"


@functools.cache
def _prepared(package: str) -> str:
    """Call einops once, as torch does before tracing its code: einops caches its findings about tensors."""
    import torch

    sys.modules[package].rearrange(torch.empty(1), "i -> i")
    return "prepared"


def _found(name: str) -> str:
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError, AttributeError):
        return ABSENT
    return ABSENT if spec is None else "there"
