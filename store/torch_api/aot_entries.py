"""torch's bundled AOTAutograd entries, for graphs that torch itself leaves out of its cache.

A graph whose operators do not describe everything they do (``cond``, a ``torch.autograd.Function``) has no
key by which another compilation could find it; our bundles are found by guards and sources, so any key will
do, as it does when torch compiles ahead of time. For graphs without calls see `_plain`. Follows
``torch/_functorch/_aot_autograd/autograd_cache.py``.
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import functools
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch._dynamo.precompile_context import PrecompileContext
from torch._functorch._aot_autograd import autograd_cache
from torch._functorch._aot_autograd.aot_autograd_result import (
    BundledAOTAutogradCacheArtifact,
    BundledOutputCodeLoadable,
)
from torch._guards import TracingContext
from torch._inductor.output_code import CompiledFxGraph

from firebrick.torch_api._plain import PlainGraph, output_code


def making_entries(
    original: Callable[..., Any], refuse: Callable[[BaseException], None]
) -> Callable[..., Any]:
    """Wrap ``AOTAutogradCache.make_entry``: ``None`` for graphs that cannot be an entry."""

    @functools.wraps(original)
    def make_entry(compiled_fw_func: Any, compiled_bw_func: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            codes = output_code(compiled_fw_func), output_code(compiled_bw_func)
        except Exception as error:
            refuse(error)
            return None
        return original(*codes, *args, **kwargs)

    return make_entry


def _without_launchers(bundle: Any) -> None:
    """Replace autotuners that their launchers make unpicklable by copies.

    They come from torch's graph cache, and have been launched since. The copies are made like those of
    ``TritonBundler.put_static_autotuner``, without traces of loading a kernel.
    """
    tuners = [] if bundle is None else bundle.static_autotuners
    for index, tuner in enumerate(tuners):
        if tuner.kernel.launchers:
            taken_off = tuner.kernel.prepare_for_pickle()
            kernel = copy.deepcopy(tuner.kernel)
            tuner.kernel.restore_after_unpickle(taken_off)
            kernel.prepare_for_caching()
            kernel._reload_kernel = None
            for result in kernel.compile_results:
                for name in ("C_impl", "n_regs", "n_spills"):
                    vars(result.kernel).pop(name, None)
            tuners[index] = dataclasses.replace(tuner, kernel=kernel)


_ONCE = "firebrick-"  # prefix of keys that no other compilation finds


@contextlib.contextmanager
def _without_fakes() -> Iterator[None]:
    context = TracingContext.try_get()
    before = context is not None and context.fakify_first_call
    if context is not None:
        context.fakify_first_call = False
    try:
        yield
    finally:
        if context is not None:
            context.fakify_first_call = before


def keying_entries(
    original: Callable[..., Any], refuse: Callable[[BaseException], None]
) -> Callable[..., Any]:
    """Wrap ``autograd_cache_key``: a graph without a key gets one for single use.

    Freezing, which has no entries, is excluded, and so are graphs torch would not cache at all. The parts of
    a split graph (``DDPOptimizer``) are first called with fake tensors while being compiled: a found entry
    could not do that, but these are never found.
    """

    @functools.wraps(original)
    def autograd_cache_key(*args: Any, **kwargs: Any) -> Any:
        try:
            return original(*args, **kwargs)
        except Exception:
            try:
                with _without_fakes():
                    autograd_cache.check_cacheable(torch.fx.GraphModule({}, torch.fx.Graph()))
            except Exception as error:
                refuse(error)
                raise
            return f"{_ONCE}{uuid.uuid4().hex}", []

    return autograd_cache_key


def saving_entries(original: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap ``AOTAutogradCache.save``: single-use entries stay out of torch's files.

    Bundled autotuners already launched, by a graph with the same kernel, are saved too.
    """

    @functools.wraps(original)
    def save(key: str, entry: Any, remote: bool) -> Any:
        if entry is None:
            return None
        parts = [part for part in (entry.compiled_fw, entry.compiled_bw) if part is not None]
        graphs = [part.result for part in parts if isinstance(part, BundledOutputCodeLoadable)]
        for graph in graphs:
            if isinstance(graph, CompiledFxGraph):
                _without_launchers(graph._triton_bundle)
        if not key.startswith(_ONCE) and not any(isinstance(graph, PlainGraph) for graph in graphs):
            return original(key, entry, remote)
        entry.pre_save()
        config = entry.sanitized_aot_config
        backend_id, config.precompile_backend_id = config.precompile_backend_id, None
        if backend_id is not None:
            PrecompileContext.record_artifact(BundledAOTAutogradCacheArtifact(backend_id, entry))
        return None

    return save
