"""Graphs that Inductor leaves as they are, made fit for torch's bundled AOTAutograd entries.

For a graph that calls nothing, ``compile_fx`` returns the graph's own ``forward``. Torch's bundled entries
want an ``OutputCode`` and fail in the user's program when they get a method
(``AOTAutogradCache.make_entry`` of ``torch/_functorch/_aot_autograd/autograd_cache.py``).
"""

from __future__ import annotations

import copy
import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch._dynamo.precompile_context import PrecompileContext
from torch._functorch._aot_autograd.aot_autograd_result import (
    BundledAOTAutogradCacheArtifact,
    SerializedGraphModule,
    serialize_graph_module,
)
from torch._inductor.output_code import OutputCode

from firebrick.errors import NotStorable


@dataclasses.dataclass
class PlainGraph(OutputCode):
    """A graph that runs as it is.

    Attributes:
        graph: the graph in torch's serialised form.
    """

    graph: SerializedGraphModule

    def __post_init__(self) -> None:
        self._boxed_call = True

    @functools.cached_property
    def _module(self) -> torch.fx.GraphModule:
        return self.graph.deserialize()

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_module"}

    def __call__(self, inputs: Sequence[Any]) -> Any:
        """Run the graph on a list of inputs."""
        return self._module.forward(*inputs)

    def prepare_for_serialization(self) -> None:
        """Do nothing: it is serialised already."""

    def post_compile(self, example_inputs: Any, constants: Any, graph_kwargs: Any) -> None:
        """Do nothing."""

    def set_triton_bundle(self, triton_bundle: Any) -> None:
        """Do nothing: it has no kernels."""


def _output_code(compiled: Any) -> Any:
    inner = compiled
    while hasattr(inner, "__wrapped__"):
        inner = inner.__wrapped__
    if compiled is None or isinstance(inner, OutputCode):
        return compiled
    module = getattr(inner, "__self__", None)
    if isinstance(module, torch.fx.GraphModule):
        plain = copy.deepcopy(module)
        plain.graph._tracer_cls = plain._tracer_cls = None  # who traced it; only to trace again
        return PlainGraph(serialize_graph_module(plain))
    raise NotStorable(f"a backend compiled a graph to {type(inner).__qualname__}")


def making_entries(
    original: Callable[..., Any], refuse: Callable[[BaseException], None]
) -> Callable[..., Any]:
    """Wrap ``AOTAutogradCache.make_entry``: ``None`` for what can not be an entry."""

    @functools.wraps(original)
    def make_entry(compiled_fw_func: Any, compiled_bw_func: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            codes = _output_code(compiled_fw_func), _output_code(compiled_bw_func)
        except Exception as error:
            refuse(error)
            return None
        return original(*codes, *args, **kwargs)

    return make_entry


def _without_launchers(bundle: Any) -> None:
    """Put copies in the place of autotuners that can not be pickled because they have launchers.

    They come from torch's cache of graphs, and were launched since. The copies are made as
    ``TritonBundler.put_static_autotuner`` makes its own, without what loading a kernel leaves on it.
    """
    tuners = getattr(bundle, "static_autotuners", None) or []
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


def saving_entries(original: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap ``AOTAutogradCache.save``: entries with plain graphs stay out of torch's files.

    And bundled autotuners that were launched before, by a graph with the same kernel, are saved as well.
    """

    @functools.wraps(original)
    def save(key: str, entry: Any, remote: bool) -> Any:
        if entry is None:
            return None
        parts = [part for part in (entry.compiled_fw, entry.compiled_bw) if part is not None]
        graphs = [getattr(part, "result", None) for part in parts]
        for graph in graphs:
            _without_launchers(getattr(graph, "_triton_bundle", None))
        if not any(isinstance(graph, PlainGraph) for graph in graphs):
            return original(key, entry, remote)
        entry.pre_save()
        config = entry.sanitized_aot_config
        backend_id, config.precompile_backend_id = config.precompile_backend_id, None
        if backend_id is not None:
            PrecompileContext.record_artifact(BundledAOTAutogradCacheArtifact(backend_id, entry))
        return None

    return save
