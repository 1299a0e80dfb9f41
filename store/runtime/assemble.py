"""Assemble the function of a lean backend from its parts."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Protocol

import torch

from firebrick.codecs.code import code_digest
from firebrick.codecs.lean_backend import LeanBackend, LeanGraph
from firebrick.errors import Unsupported
from firebrick.runtime.calls import Boxed
from firebrick.runtime.names import namespace
from firebrick.runtime.program import build
from firebrick.runtime.views import aligned
from firebrick.torch_api import native


class KernelSource(Protocol):
    """A source of kernels."""

    def kernel(self, digest: str) -> Callable[..., Any]:
        """Return the kernel of a library request; raise Unsupported or KeyError if there is none."""


def load(
    lean: LeanBackend,
    kernels: KernelSource,
    *,
    disable_autocast: bool | None = None,
    device: int | None = None,
) -> Callable[..., list[Any]]:
    """Return the function of a lean backend, as Dynamo's bytecode calls it.

    Args:
        lean: the backend.
        kernels: loads its libraries.
        disable_autocast: whether the graphs run without autocast. None reads this thread's state, as torch
            does when it loads or compiles a backend.
        device: index of the GPU to move its graphs to; None leaves them where they were.

    Raises:
        Unsupported: this torch or CPU lacks what the backend needs, or torch would have compiled the current
            saved-tensor hooks into it.

    The function belongs to the caller and keeps the constants of `lean` alive. Any thread may call it.
    """
    if disable_autocast is None:
        disable_autocast = native.is_any_autocast_enabled()
    if lean.backward is not None:
        _check_hooks()
    forward = _graph(lean.forward, kernels, device)
    backward = None if lean.backward is None else _graph(lean.backward, kernels, device)
    labels = functools.partial(_label, lean.forward), functools.partial(_label, lean.backward)
    return build(lean.program, forward, backward, labels, disable_autocast=disable_autocast)


def _graph(graph: LeanGraph, kernels: KernelSource, moved: int | None = None) -> Boxed:
    device = graph.device if graph.device is None or moved is None else moved
    scope = namespace(device)
    scope.update(graph.constants)
    for name, digest in graph.kernels.items():
        scope[name] = kernels.kernel(digest)
    if graph.launches:
        from firebrick.runtime.cuda_warmup import are_opening  # not needed for a start on a CPU
        from firebrick.runtime.triton_launch import TritonLauncher, check_device

        for name, kernel in graph.launches.items():
            if len(kernel.launches) != 1:
                raise Unsupported(
                    f"{name}: which of {len(kernel.launches)} configurations won is not decided"
                )
            place = kernel.device if device is None else device
            check_device(kernel.launches[0].architecture, place)
            scope[name] = loaded = TritonLauncher(kernel.launches[0])
            if are_opening() and torch.cuda.current_device() == place:
                loaded.load()
    try:
        exec(graph.code, scope)
    except AttributeError as error:
        raise Unsupported(f"a name of torch that a graph uses: {error}") from error
    if graph.cuda_graphs is not None:
        from firebrick.runtime.cuda_graphs import Graphed

        place, static = graph.cuda_graphs if device is None else (device, graph.cuda_graphs.static)
        parts = scope.get("partitions", [])
        if len(parts) != len(static):
            raise Unsupported(f"{len(static)} CUDA graphs for {len(parts)} partitions")
        parts[:] = [Graphed(part, place, kept) for part, kept in zip(parts, static, strict=True)]
    return aligned(scope["call"], graph.check, graph.restore)


def _label(graph: LeanGraph | None) -> str:
    return "" if graph is None else code_digest(graph.code).hex()[:32]


def _check_hooks() -> None:
    """Refuse saved-tensor hooks that torch compiles into the graphs.

    Source followed: ``saved_tensors_hooks_are_inlineable`` of ``torch/_functorch/_aot_autograd/utils.py``.
    """
    hooks = native.saved_tensors_hooks(True)
    if hooks and all(isinstance(hook, torch.fx.GraphModule) for hook in hooks):
        raise Unsupported("saved-tensor hooks that are graph modules")
