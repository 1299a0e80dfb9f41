"""Functions called by the code generated from programs.

Source followed: ``torch/_functorch/_aot_autograd/runtime_wrappers.py``, ``skip_code`` of
``torch/_dynamo/eval_frame.py``, ``CompiledFxGraph.__call__`` of ``torch/_inductor/output_code.py``.
"""

from __future__ import annotations

import types
from collections.abc import Callable
from typing import Any, Final

import torch

from firebrick.torch_api import native

Boxed = Callable[[list[Any]], Any]
Label = Callable[[], str]

_DOUBLE: Final = "torch.compile with aot_autograd does not currently support double backward"


def mark_with(attribute: str) -> Callable[[Any, set[int]], None]:
    """Return a function that adds dimensions to the set in this attribute of a tensor."""

    def mark(tensor: Any, dimensions: set[int]) -> None:
        if hasattr(tensor, attribute):
            setattr(tensor, attribute, getattr(tensor, attribute) | dimensions)
        else:
            setattr(tensor, attribute, dimensions)

    return mark


def entered(name: str) -> Any:
    """Open a profiler range."""
    scope = native.RecordFunctionFast(name)
    scope.__enter__()
    return scope


def profiled_as(labels: dict[Boxed, Label]) -> Callable[[Boxed, list[Any]], Any]:
    """Return a function that runs a graph in a profiler range."""

    def profiled(graph: Boxed, args: list[Any]) -> Any:
        name = f"## Call CompiledFxGraph {labels[graph]()} ##"
        with native.RecordFunctionFast(name, keyword_values={"scope": "user_scope"}):
            return graph(args)

    return profiled


def connected(ctx: Any, run: Callable[..., Any], args: list[Any]) -> Any:
    """Run a backward as a node of the autograd graph; differentiating that node is an error."""

    class CompiledFunctionBackward(torch.autograd.Function):
        @staticmethod
        def forward(double_ctx: Any, *unused: Any) -> Any:
            return run(ctx, args)

        @staticmethod
        def backward(ctx: Any, *unused: Any) -> Any:
            raise RuntimeError(_DOUBLE)

    inputs = list(args)
    if not any(x.requires_grad for x in inputs if isinstance(x, torch.Tensor)):
        inputs.insert(0, torch.empty(0, requires_grad=True))
    apply: Callable[..., Any] = CompiledFunctionBackward.apply
    return apply(*inputs)


def autograd_function(forward: Callable[..., Any], backward: Callable[..., Any]) -> Any:
    """Make an ``autograd.Function`` with torch's name for it, which errors and graphs show."""
    return type(
        "CompiledFunction",
        (torch.autograd.Function,),
        {
            "boxed_grads_call": True,
            "forward": staticmethod(forward),
            "backward": staticmethod(backward),
            "_compiled_autograd_key": staticmethod(lambda ctx: (ctx._autograd_function_id, *ctx.symints)),
        },
    )


def skip(code: types.CodeType) -> None:
    """Tell the eval-frame hook to skip a function and everything it calls.

    Source followed: ``skip_code`` of ``torch/_dynamo/eval_frame.py``.
    """
    hook = native.eval_frame
    action = hook._FrameAction.SKIP
    hook.set_code_exec_strategy(code, hook._FrameExecStrategy(action, action))
