"""Graphs that Inductor leaves uncompiled.

For a graph without calls, ``compile_fx`` returns the graph's own ``forward``. torch's bundled entries need an
``OutputCode`` and raise in the user's program if they get a method (``AOTAutogradCache.make_entry`` of
``torch/_functorch/_aot_autograd/autograd_cache.py``).
"""

from __future__ import annotations

import copy
import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import torch
from torch._functorch._aot_autograd.aot_autograd_result import SerializedGraphModule, serialize_graph_module
from torch._inductor.output_code import OutputCode

from firebrick.errors import NotStorable


@dataclasses.dataclass
class PlainGraph(OutputCode):
    """A graph that runs uncompiled.

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
        """Do nothing: the graph is already serialised."""

    def post_compile(self, example_inputs: Any, constants: Any, graph_kwargs: Any) -> None:
        """Do nothing."""

    def set_triton_bundle(self, triton_bundle: Any) -> None:
        """Do nothing: the graph has no kernels."""


def output_code(compiled: Any) -> Any:
    """Return a compiled graph in the form torch's entries accept.

    Raises:
        NotStorable: it is neither Inductor's nor a graph.
    """
    inner = compiled
    while hasattr(inner, "__wrapped__"):
        inner = inner.__wrapped__
    if compiled is None or isinstance(inner, OutputCode):
        return compiled
    module = getattr(inner, "__self__", None)
    if isinstance(module, torch.fx.GraphModule):
        plain = copy.deepcopy(module)
        plain.graph._tracer_cls = plain._tracer_cls = None  # the tracer; needed only to trace again
        return PlainGraph(serialize_graph_module(plain))
    raise NotStorable(f"a backend compiled a graph to {type(inner).__qualname__}")
