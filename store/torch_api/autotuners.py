"""Queries of torch's autotuners of Triton kernels. Importing this module imports torch's compiler.

Source followed: ``torch/_inductor/runtime/triton_heuristics.py`` and ``static_triton_launcher.py`` beside it,
``torch/_inductor/triton_bundler.py``.
"""

from __future__ import annotations

import copy
import functools
import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from torch._inductor.runtime import triton_heuristics as heuristics
from torch._inductor.runtime.cache_dir_utils import triton_cache_dir
from torch._inductor.runtime.hints import HeuristicType
from torch._inductor.runtime.runtime_utils import triton_config_to_hashable, triton_hash_to_path_key
from torch._inductor.runtime.static_triton_launcher import StaticallyLaunchedCudaKernel

from firebrick.codecs.triton import TritonKernel
from firebrick.errors import NotLean

_NOT_DESCENDED = (HeuristicType.TEMPLATE, HeuristicType.USER_AUTOTUNE, HeuristicType.FIXED)
_REDUCTIONS = (
    HeuristicType.REDUCTION,
    HeuristicType.PERSISTENT_REDUCTION,
    HeuristicType.SPLIT_SCAN,
)


class Facts(NamedTuple):
    """torch's facts about a kernel compiled in one configuration.

    Args:
        name: of the function in the binary.
        path_key: name of the kernel's directory in Triton's cache.
        configuration: its `configuration_name`.
        arguments: names of the arguments a wrapper passes.
        passed: names of the kernel's parameters, in order.
        letters: their types.
        scratch: number of null pointers after them.
        temporaries, grid: lines ``name = expression`` and three expressions, in Python.
        warps, shared: per block; bytes.
    """

    name: str
    path_key: str
    configuration: str
    arguments: list[str]
    passed: list[str]
    letters: str
    scratch: int
    temporaries: list[str]
    grid: tuple[str, str, str]
    warps: int
    shared: int


def configuration_name(config: Any) -> str:
    """Return the name of a configuration, the same in every process."""
    return repr(triton_config_to_hashable(config))


def autotuners_in(namespace: Mapping[str, Any]) -> dict[str, Any]:
    """Return the autotuners among the globals of a loaded wrapper."""
    return {
        name: value for name, value in namespace.items() if isinstance(value, heuristics.CachingAutotuner)
    }


def is_plain(tuner: Any) -> bool:
    """Tell whether an autotuner is of the class torch uses outside debugging."""
    return type(tuner) is heuristics.CachingAutotuner


def device_of(tuner: Any) -> tuple[str, int]:
    """Return type and index of a kernel's device.

    Raises:
        NotLean: it is for the device current at its launch (torch 2.14).
    """
    if (index := tuner.triton_meta["device"]) is None and tuner.triton_meta["device_type"] == "cuda":
        raise NotLean("a kernel for no device in particular")
    return tuner.triton_meta["device_type"], index or 0


def retunes(tuner: Any) -> bool:
    """Tell whether a combined kernel is tuned part by part at its first launch (torch 2.13)."""
    return bool(tuner.inductor_meta.get("combo_tuning_groups"))


def descends(tuner: Any) -> bool:
    """Tell whether the first launch searches beyond the compiled configurations."""
    kind = tuner.heuristic_type
    found = [getattr(result.config, "found_by_coordesc", False) for result in results_of(tuner)]
    return bool(
        tuner.inductor_meta.get("coordinate_descent_tuning", False)
        and kind not in _NOT_DESCENDED
        and not (tuner.deterministic_mode and kind in _REDUCTIONS)
        and not (len(found) == 1 and found[0])
    )


def results_of(tuner: Any) -> Iterator[Any]:
    """Yield the compiled configurations that the first launch chooses from."""
    results = {configuration_name(result.config): result for result in tuner.compile_results}
    if not tuner.launchers:  # an autotuner from torch's cache, not prepared yet
        yield from results.values()
    for launcher in tuner.launchers:
        yield results.get(configuration_name(launcher.config)) or result_of(tuner, launcher)


def result_of(tuner: Any, launcher: Any) -> Any:
    """Return the result behind the launcher of a configuration found by coordinate descent."""
    scope, config = launcher.__globals__, launcher.config
    static = getattr(launcher, "_is_static", False)
    kernel = scope["runner"].__self__ if static else scope["bin"]
    make = heuristics.StaticTritonCompileResult if static else heuristics.TritonCompileResult
    return make(kernel, config, tuner._create_compile_meta(config), tuner.inductor_meta)


def facts_of(result: Any) -> Facts:
    """Return the facts of a compiled configuration.

    Raises:
        NotLean: with the reason torch's static launcher cannot launch it.
    """
    kernel = result.kernel
    if isinstance(result, heuristics.TritonCompileResult):
        kernel = _statically_launched(kernel)
    elif type(kernel) is not StaticallyLaunchedCudaKernel:
        raise NotLean(f"launched as {type(kernel).__name__}")
    _, arguments, none = result._get_arg_lists(kernel.arg_names, kernel.declared_constexprs)
    names = enumerate(kernel.arg_names)
    grid = heuristics.GridExpr.from_meta(result.inductor_meta, result.config)
    return Facts(
        kernel.name,
        triton_hash_to_path_key(kernel.hash),
        configuration_name(result.config),
        list(arguments),
        [name for index, name in names if index not in kernel.full_constexprs and name not in none],
        kernel.arg_tys,
        int(kernel.has_global_scratch) + int(kernel.has_profile_scratch),
        list(grid.prefix),
        (str(grid.x_grid), str(grid.y_grid), str(grid.z_grid)),
        kernel.num_warps,
        kernel.shared,
    )


def _statically_launched(kernel: Any) -> Any:
    """Convert a kernel that torch launches otherwise for torch's static launcher.

    By default torch leaves user-defined kernels, and those with names too long for files in Triton's cache,
    to Triton's own launcher. The checks are those of ``can_statically_launch``.
    """
    if any(getattr(kernel.metadata, name, False) for name in ("launch_pdl", "launch_cooperative_grid")):
        raise NotLean("launch attributes")
    if half := {"fp16", "bf16"} & {value for value in kernel.src.signature.values() if type(value) is str}:
        raise NotLean(f"scalars of type {min(half)}")  # torch's launcher would widen them
    shadow = copy.copy(kernel)
    shadow._cubin_path = None
    try:
        return StaticallyLaunchedCudaKernel(shadow)
    except (NotImplementedError, RuntimeError, KeyError) as error:
        raise NotLean(f"{type(error).__name__} {error!s:.80}") from None


def bundled_kernels(graph: Any) -> dict[str, Callable[[], TritonKernel]]:
    """Return the kernels that torch bundled with a graph, by the name of their directory."""

    bundle = graph._triton_bundle
    found = bundle.kernel_artifacts if bundle is not None else ()
    return {one.kernel_hash: functools.partial(TritonKernel.from_bundled, one) for one in found}


def cached_kernel(path_key: str, device: int) -> TritonKernel:
    """Return a kernel from Triton's cache; raise OSError if it is missing."""
    return TritonKernel.from_directory(os.path.join(triton_cache_dir(device), path_key))
