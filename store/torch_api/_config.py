"""The compiler's configuration in torch 2.11 to 2.13, as texts that say what is computed.

Source followed: ``torch/utils/_config_module.py``.
"""

from __future__ import annotations

import functools
import hashlib
import inspect
import re
from collections.abc import Mapping
from typing import Any

import torch._dynamo.config as dynamo_config
import torch._functorch.config as functorch_config
import torch._inductor.config as inductor_config

# Configuration that does not change what is computed (folders, compilers' names, logs, limits), by
# prefix, beside what torch itself leaves out of its cache keys.
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
_CONFIGS = {
    "inductor": inductor_config,
    "dynamo": dynamo_config,
    "functorch": functorch_config,
}
_ADDRESS = re.compile(r" at 0x[0-9a-f]+")


def text_of(value: Any) -> str:
    """Return a value of an option or of the configuration as text that holds no address."""
    if value is None or type(value) in (bool, int, float, str):
        return repr(value)
    if callable(getattr(value, "uuid", None)):
        return f"uuid:{value.uuid()!r}"
    if callable(value) and hasattr(value, "__qualname__"):
        return f"{value.__module__}.{value.__qualname__}"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{k!r}: {text_of(v)}" for k, v in sorted(value.items())) + "}"
    if isinstance(value, set | frozenset):
        return "{" + ", ".join(sorted(map(text_of, value))) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(text_of, value)) + "]"
    return _ADDRESS.sub("", repr(value))


def _values(part: str) -> dict[str, Any]:
    """Return the values of one configuration that change what is computed."""
    config = _CONFIGS[part]
    ignored = ["_", *getattr(config, "_cache_config_ignore_prefix", ()), *_IGNORED_CONFIG[part]]
    # since torch 2.13 it keeps what it collected, for readers that promise not to change it
    fast = {"readonly_values": True} if "readonly_values" in _parameters(config) else {}
    values: dict[str, Any] = config._get_dict(ignored_prefixes=ignored, **fast)
    return values


@functools.cache
def _parameters(config: Any) -> frozenset[str]:
    return frozenset(inspect.signature(config._get_dict).parameters)


def configuration() -> dict[str, str]:
    """Return the compiler's configuration as it stands in this thread now, one text per part.

    A text is the digest of all values, followed by those that differ from their defaults.
    """
    parts = {}
    for part, config in _CONFIGS.items():
        texts = [(name, text_of(value)) for name, value in sorted(_values(part).items())]
        changed = [f"{n}={text}" for n, text in texts if text != text_of(config._config[n].default)]
        digest = hashlib.sha256(repr(texts).encode()).hexdigest()[:32]
        parts[f"config.{part}"] = "; ".join([digest, *changed])
    return parts


def compiler_config(backend: Any) -> dict[str, Any]:
    """Return Inductor's configuration with a backend's options, without importing its code generators.

    Stands for ``_TorchCompileInductorWrapper.get_compiler_config`` of ``torch/__init__.py``.
    """
    with inductor_config.patch(backend.config):
        copied: dict[str, Any] = inductor_config.get_config_copy()
    return copied
