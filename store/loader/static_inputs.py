"""Serve graphs that hold tensors themselves: those of an optimizer, which are none of their arguments."""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Callable, Mapping
from typing import Any

import torch

from firebrick.guards.evaluate import NoValue, parsed, value_of
from firebrick.reports.not_served import Miss
from firebrick.torch_api import compiler_free as api


def initialise(optimizers: Mapping[str, int], scope: Mapping[str, Any], values: Any) -> list[Any]:
    """Make the state of optimizers that have none, as Dynamo does before it traces a step, and return them.

    Args:
        optimizers: source of an optimizer -> how many lists its ``_init_group`` fills.
        scope: globals of the frame.
        values: locals of the frame.

    Raises:
        Miss: there is no optimizer.

    Source followed: ``torch/_dynamo/variables/optimizer.py``.
    """
    found = []
    for source, lists in optimizers.items():
        try:
            optimizer = value_of(parsed(source), {"L": values, "G": scope})
        except NoValue:
            optimizer = None
        if not isinstance(optimizer, torch.optim.Optimizer):
            raise Miss(f"{source} is no optimizer", code="object", changes=[(source, "an optimizer", "none")])
        for group in optimizer.param_groups:
            parameters = group["params"]
            if "capturable" in group and all(p.is_cuda and p not in optimizer.state for p in parameters):
                group["capturable"] = True
        for group in optimizer.param_groups:
            for parameter, state in optimizer.state.items():
                if "step" in state and state["step"].is_cpu and not parameter.is_cpu:
                    state["step"] = state["step"].to(parameter.device)
            optimizer._init_group(group, *([] for _ in range(lists)))  # type: ignore[attr-defined]
        found.append(optimizer)
    return found


def bind(
    scope: dict[str, Any],
    name: str,
    function: Callable[..., Any],
    tensors: list[torch.Tensor],
    owners: list[Any],
) -> str:
    """Install a function that gets tensors before its arguments, and return its name among the globals.

    Args:
        scope: globals of the frame.
        name: of the backend; another where it is in use for other tensors.
        function: the backend function.
        tensors: are kept alive by the function, until one of the owners is gone.
        owners: optimizers.
    """
    for number in itertools.count():
        installed = f"{name}_of_{number}" if number else name
        known = scope.get(installed)
        if known is None:
            break
        if "held" in vars(known) and [*map(id, known.held)] == [*map(id, tensors)]:
            return installed
    held = list(tensors)

    def bound(*arguments: Any) -> Any:
        return function(*held, *arguments)

    bound.held = held  # type: ignore[attr-defined]
    api.never_trace(bound.__code__)
    for owner in owners:
        weakref.finalize(owner, held.clear).atexit = False
    scope[installed] = bound
    return installed
