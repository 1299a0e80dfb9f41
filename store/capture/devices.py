"""Decide whether code that torch compiled for one GPU may run on another of the same kind.

It may if every device in the trace follows from the input tensors: then a function for ``cuda:1`` is the one
for ``cuda:0`` with another index. But a program can also name a device (``"cuda:0"``), read a device's index,
or use the current device, and Dynamo folds all of these into constants.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from typing import Any

import torch
from torch.fx import GraphModule, Node

from firebrick.torch_api.operators import has_python_gradient

_INDEXED = re.compile(r"cuda:\d+")
_OPERATOR = re.compile(r"torch\._ops\.(\w+)\.(\w+)")
_PLACING = ("to", "cuda")  # methods whose first argument is a device, possibly as a number
_OF_DEVICES = re.compile(r"torch\.(cuda|accelerator)\.|torch\._C\._(cuda|accelerator)|torch\._ops\.streams\b")
# Functions that treat all devices alike; others may be Python that AOTAutograd runs and that looks at
# devices.
_OF_TORCH = re.compile(
    r"(_operator|operator|builtins|math)\.|torch\.(?!_ops\.|_dynamo\.)"
    r"|torch\._ops\.(aten|prims|inductor|profiler|rngprims|_c10d_functional\w*|mkldnn|mkl|onednn|_?quantized\w*)\."
)


# Functions other than torch's and Python's own, and the stand-ins for `torch._dynamo.allow_in_graph`.
_TRACED_LATER = re.compile(
    r"(?!torch\.|_operator\.|operator\.|builtins\.|math\.)|torch\._dynamo\.variables\."
)


class TracedDevices:
    """The devices Dynamo met while tracing one frame. Used under torch's compile lock.

    Attributes:
        pinned: why the graph is tied to its device; empty if it is not.
        current: whether the graph uses the current device.
        inputs: the sources of the graph's input tensors on a GPU.
        operators: the user operators the graph calls, ``namespace.name``.
        opaque: user Python that is traced unseen by Dynamo; empty for none.
    """

    def __init__(self) -> None:
        self.pinned = ""
        self.current = False
        self.inputs: set[str] = set()
        self.operators: set[str] = set()
        self.opaque = ""
        self._quiet = 0
        self._of_tensors: list[torch.device] = []  # by identity: an equal one may be the program's own

    def pin(self, reason: str) -> None:
        """Record why the graph is tied to its device; the first reason stands."""
        self.pinned = self.pinned or reason

    def read(self, device: torch.device) -> None:
        """Record that tracing read a tensor's device and may have branched on its index."""
        if device.index is not None and not self._quiet:
            self.pin("the program looks at the device of a tensor")

    @contextlib.contextmanager
    def quietly(self) -> Iterator[None]:
        """Ignore device reads inside this block."""
        self._quiet += 1
        try:
            yield
        finally:
            self._quiet -= 1

    def of_tensor(self, device: torch.device) -> None:
        """Record that this very object, not an equal one, is the device of a tensor."""
        self._of_tensors.append(device)

    def name_own(self, value: Any) -> None:
        """Record devices in a constant that do not belong to tensors."""
        for leaf in leaves_of(value):
            own = isinstance(leaf, torch.device) and not any(leaf is known for known in self._of_tensors)
            if own and leaf.index is not None:
                self.pin(f"the program names the device {leaf}")

    def traced_later(self, what: str) -> None:
        """Record user Python that AOTAutograd traces and no recipe covers; the first one stands."""
        self.opaque = self.opaque or what

    def graph(self, module: GraphModule, source_of: dict[Node, str]) -> None:
        """Inspect a graph of Dynamo and its subgraphs.

        Args:
            module: the graph.
            source_of: graph input -> where Dynamo found the tensor.
        """
        for node in module.graph.nodes:
            if node.op == "placeholder":
                value = node.meta.get("example_value")
                if isinstance(value, torch.Tensor) and value.device.type == "cuda" and node in source_of:
                    self.inputs.add(source_of[node])
            elif node.op != "output":
                self._node(module, node)
        for inner in module.children():
            if isinstance(inner, GraphModule):
                self.graph(inner, {})

    def _node(self, module: GraphModule, node: Node) -> None:
        if node.op == "call_module" and not isinstance(module.get_submodule(str(node.target)), GraphModule):
            self.pin(f"the graph calls the module {node.target}")
        if node.op == "call_function":
            path = _path_of(node.target)
            if (operator := _OPERATOR.match(path)) and not _OF_TORCH.match(path):
                self.operators.add(f"{operator[1]}.{operator[2]}")
                if torch.is_grad_enabled() and has_python_gradient(operator[1], operator[2]):
                    self.traced_later(f"the gradient of {operator[1]}.{operator[2]}")
            elif _TRACED_LATER.match(path):
                self.traced_later(path)
            if path.startswith("torch.amp."):
                return
            if _OF_DEVICES.match(path) or not _OF_TORCH.match(path):
                self.pin(f"the graph calls {path}")
        placing = node.op == "call_method" and node.target in _PLACING
        named = [node.kwargs[name] for name in ("device",) if name in node.kwargs]
        named += node.args[1:2] if placing else []
        if any(type(value) is int for value in named):
            self.pin("the program names a device by its number")
        if node.op == "call_method" and node.target == "cuda" and all(value is None for value in named):
            self.current = True
        for value in leaves_of((node.args, node.kwargs)):
            if isinstance(value, str):
                if _INDEXED.fullmatch(value):
                    self.pin(f"the program names the device {value}")
                self.current |= value == "cuda" or value.startswith("torch.cuda.")
            elif isinstance(value, torch.device):
                self.current |= value.type == "cuda" and value.index is None
        self.name_own((node.args, node.kwargs))


def _path_of(function: Any) -> str:
    module = getattr(function, "__module__", None) or type(function).__module__
    return f"{module}.{getattr(function, '__name__', type(function).__name__)}"


def leaves_of(value: Any) -> Iterator[Any]:
    """Yield the leaves of nested containers and slices; of dictionaries, keys and values."""
    if isinstance(value, tuple | list | set | frozenset):
        for item in value:
            yield from leaves_of(item)
    elif isinstance(value, dict):
        yield from leaves_of([*value, *value.values()])
    elif isinstance(value, slice):
        yield from leaves_of([value.start, value.stop, value.step])
    else:
        yield value
