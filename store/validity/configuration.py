"""The configuration of torch's compiler, as far as it is visible without importing the compiler.

A recipe holds the compiler's whole configuration. A process that does not load the compiler cannot know it,
but knows everything that determines it: the arguments of ``torch.compile``, the environment, the build of
torch, and the program's own changes, for which it must have imported the configuration. The digest of these
facts leads to the configuration that a recording process saw under the same facts.

Source followed: ``torch/utils/_config_module.py``, and the ``config.py`` of the compiler's three parts.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping
from contextvars import ContextVar
from types import BuiltinFunctionType, ModuleType
from typing import Any

from firebrick.base.digest import hex_digest
from firebrick.base.shipped import shipped_file
from firebrick.bundle.platform import host_facts
from firebrick.storage.msgpack import pack
from firebrick.torch_api import imported, native
from firebrick.torch_api.minors import has
from firebrick.validity.compiler_code import named_digest
from firebrick.validity.registrations import registrations

AMBIENT, OPTIONS = ".ambient", "options"  # context and section of the registry: key -> options of recipes
ARGUMENTS = "_firebrick_arguments"  # attribute of a backend: the texts of the arguments of torch.compile

# Configuration that does not change results (folders, compilers' names, logs, limits), by prefix, in addition
# to what torch itself omits from its cache keys.
_IGNORED_CONFIG: Mapping[str, tuple[str, ...]] = {
    "inductor": (
        "cpp.cxx", "cuda.cuda_cxx", "cutlass.cuda_cxx", "rocm.rocm_home", "rocm.ck_dir",
        "xpu.oneapi_root", "halide.", "aot_inductor.", "debug", "profile", "verbose_progress",
        "bundled_autotune_remote_cache", "bundle_triton_into_fx_graph_cache", "quiesce_async",
        "autotune_local_cache", "write_are_deterministic_algorithms_enabled", "benchmark_harness",
    ),
    "dynamo": (
        "caching_precompile", "strict_precompile", "recompile_limit", "accumulated_recompile_limit",
        "cache_size_limit", "accumulated_cache_size_limit", "fail_on_recompile_limit_hit",
        "constant_functions", "skipfiles_inline_module_allowlist", "debug_dir_root", "log_", "repro_",
        "replay_", "verbose", "report_guard_failures", "base_dir", "reorderable_logging_functions",
        "record_compile_time", "record_pre_graph", "record_runtime_overhead", "run_gc_after_compile",
        "graph_break_", "suppress_errors", "cprofile", "dynamo_profiler", "print_",
    ),
    "functorch": ("enable_autograd_cache", "bundled_autograd_cache", "strict_autograd_cache",
                  "enable_remote_autograd_cache", "autograd_cache_", "debug_"),
}  # fmt: skip
_READONLY = "torch.utils._config_module:ConfigModule._get_dict.readonly_values"
_ADDRESS = r" at 0x[0-9a-f]+"

# Variables that the configuration reads on import, by prefix or name, except those about paths, logs and
# processes.
_VARIABLES = (
    "TORCHINDUCTOR", "TORCH_INDUCTOR", "TORCHDYNAMO", "TORCH_DYNAMO", "TORCHCOMPILE", "TORCH_COMPILE",
    "TORCHFAKE_TENSOR", "TORCH_FAKE_TENSOR", "TORCHSTRICT", "TORCH_STRICT", "TORCHCACHING", "TORCH_CACHING",
    "INDUCTOR_", "AOT_", "AOTINDUCTOR_", "CUTE", "CUTLASS_", "ENABLE_", "PARTITIONER_", "PT2_", "UNSAFE_",
    "FAKE_", "TRITON_", "LOG_AUTOTUNE",
)  # fmt: skip
# Variables that the compiler reads while compiling and that are not part of its configuration.
_READ_LATER = (
    "ATEN_CPU_CAPABILITY", "TENSORIFY_PYTHON_SCALARS", "TORCH_CUDAGRAPH_GC", "PYTORCH_SINK_WAITS_LIMIT",
    "PYTORCH_REORDER_COLLECTIVES_LIMIT", "PYTORCH_JIT", "TVM_SCHEDULER", "FX_PATCH_GETITEM",
    "PYTORCH_ROCM_ARCH", "_SPLITTER_MERGE_OVERLAPPING_FUSIONS", "TORCHINDUCTOR_CHUNKER_NUM_CHUNKS",
    "TORCHINDUCTOR_DISABLED_PASSES", "TORCHINDUCTOR_VEC_ISA_OK", "CUBLAS_WORKSPACE_CONFIG",
    "TORCH_COMPILE_USE_LAZY_GRAPH_MODULE", "TRITON_INTERPRET",
)  # fmt: skip
# Settings that torch omits from its keys because it handles them elsewhere, but that count here.
_HANDLED_ELSEWHERE = (
    "post_grad_custom_p", "joint_custom_p", "pre_grad_custom_pass", "_fuse_ddp_communication_passes",
    "_pre_fusion_custom_pass", "_post_fusion_custom_pass", "pre_grad_pass_timing",
)  # fmt: skip
_PLACES = (
    r"TORCHINDUCTOR_(CACHE_DIR|COMPILE_THREADS|WORKER_|CK_DIR|CUTLASS_DIR|FILE_LOCK|PROFILE_OUTPUT|PROVENANCE)"
    r"|TORCH_COMPILE_(DEBUG|CPROFILE|DYNAMO_PROFILER|REPLAY|GRAPH_FORMAT)|TRITON_(CACHE_DIR|HOME|DUMP_DIR)"
    r"|TRITON_(PTXAS|CUOBJDUMP|NVDISASM)\w*_PATH"  # torch sets the first if its wheel has an assembler
    r"|TORCHDYNAMO_(VERBOSE|REPRO)|TORCH_CACHING_PRECOMPILE|PT2_COMPILE_ID|TRITON_LIBCUDA_PATH"
)


def text_of(value: Any) -> str:
    """Return a value of an option or of the configuration as text without addresses."""
    if value is None or type(value) in (bool, int, float, str):
        return repr(value)
    if callable(getattr(value, "uuid", None)) and (uuid := value.uuid()) is not None:
        return f"uuid:{uuid!r}"
    if callable(value):
        return _text_of_function(value)
    if isinstance(value, dict):
        return "{" + ", ".join(sorted(f"{k!r}: {text_of(v)}" for k, v in value.items())) + "}"
    if isinstance(value, set | frozenset):
        return "{" + ", ".join(sorted(map(text_of, value))) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(text_of, value)) + "]"
    return re.sub(_ADDRESS, "", repr(value))


def _text_of_function(value: Any) -> str:
    """Return the path of a function or callable object, with its digest if it is user code."""
    code = getattr(value, "__code__", None)
    if isinstance(value, type | BuiltinFunctionType) or (code is not None and shipped_file(code.co_filename)):
        return f"{value.__module__}.{value.__qualname__}"
    return named_digest(value)


def compiler_environment() -> str:
    """Return the variables that the compiler reads while compiling, as text; empty for none."""
    return "; ".join(f"{name}={os.environ[name]}" for name in _READ_LATER if os.environ.get(name))


def _ignored(part: str, config: Any) -> tuple[str, ...]:
    left_out = config._cache_config_ignore_prefix if part == "inductor" else ()
    kept = [name for name in left_out if not name.startswith(_HANDLED_ELSEWHERE)]
    return ("_", *kept, *_IGNORED_CONFIG[part])


def config_values(part: str, config: Any) -> dict[str, Any]:
    """Return the values of one part of the configuration that change results."""
    ignored = list(_ignored(part, config))
    # since torch 2.13 the dictionary is cached for readers that promise not to change it
    fast = {"readonly_values": True} if has(_READONLY) else {}
    values: dict[str, Any] = config._get_dict(ignored_prefixes=ignored, **fast)
    return values


def _configuration(configs: Mapping[str, Any]) -> dict[str, str]:
    """Return the compiler's current configuration in this thread, one text per part.

    A text is the digest of all values, followed by those that differ from their defaults.
    """
    parts = {}
    for part, config in configs.items():
        texts = [(name, text_of(value)) for name, value in sorted(config_values(part, config).items())]
        changed = [f"{n}={text}" for n, text in texts if text != text_of(config._config[n].default)]
        digest = hashlib.sha256(repr(texts).encode()).hexdigest()[:32]
        parts[f"config.{part}"] = "; ".join([digest, *changed])
    return parts


def recipe_options(dynamic: Any, fullgraph: bool, options: Any, configs: Mapping[str, Any]) -> dict[str, str]:
    """Return the arguments of ``torch.compile`` and the compiler's configuration, as recipes hold them.

    Args:
        dynamic, fullgraph, options: arguments of ``torch.compile``.
        configs: the compiler's configuration modules, by part.
    """
    return {
        "backend": "inductor",
        "dynamic": repr(dynamic),
        "fullgraph": repr(fullgraph),
        "inductor": text_of(options),
        "environment": compiler_environment(),
        "registrations": registrations(),
        **_configuration(configs),
    }


def _changed(part: str, config: ModuleType) -> dict[str, str]:
    """Return the values that differ from those of a new process.

    Only values that were set, or were read and may have been changed in place, have an override; looking at
    those alone takes a hundredth of the time of `config_values`.
    """
    UNSET = native.unset()
    ignored, changed = _ignored(part, config), {}
    for name, entry in config._config.items():
        override = entry.user_override
        value = override.get() if isinstance(override, ContextVar) else override  # the first since torch 2.12
        forced = entry.env_value_force is not UNSET or entry.alias is not None
        if value is UNSET or forced or name.startswith(ignored):
            continue
        fresh = entry.default if entry.env_value_default is UNSET else entry.env_value_default
        if (text := text_of(value)) != text_of(fresh):
            changed[name] = text
    return changed


# Set by ``dynamic=`` of ``torch.compile`` while a frame is compiled (``make_set_enable_dynamic``).
_SET_BY_DYNAMIC: Mapping[str, tuple[str, ...]] = {
    "True": ("assume_static_by_default",),
    "False": ("assume_static_by_default", "automatic_dynamic_shapes"),
}


def ambient_key(arguments: Mapping[str, str]) -> str:
    """Return the digest (hex) of everything that determines the compiler's configuration in this process.

    Args:
        arguments: of ``torch.compile``, name -> text.
    """
    overrides = {
        part: _changed(part, config)
        for part in _IGNORED_CONFIG
        if (config := imported(f"torch._{part}.config")) is not None
    }
    for name in _SET_BY_DYNAMIC.get(arguments.get("dynamic", ""), ()):
        overrides.get("dynamo", {}).pop(name, None)
    overrides = {part: changed for part, changed in overrides.items() if changed}
    variables = {
        name: value
        for name, value in os.environ.items()
        if value and (name.startswith(_VARIABLES) or name == "CI") and not re.match(_PLACES, name)
    }
    later = [compiler_environment(), registrations()]
    return hex_digest(pack([dict(arguments), overrides, variables, later, host_facts()]))
