"""Observe the functions about the process that Dynamo calls while tracing and folds into the graph.

Source followed: ``TorchInGraphFunctionVariable`` of ``torch/_dynamo/variables/torch.py``. Importing this
module imports torch's compiler.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch._dynamo.variables.base import VariableTracker
from torch._dynamo.variables.torch import TorchInGraphFunctionVariable

from firebrick.bundle.platform import PROCESS_FUNCTIONS
from firebrick.errors import NotStorable

if TYPE_CHECKING:
    from firebrick.base.patches import Patches

Told = Callable[[str, list[Any]], None]


def note_process_functions(patches: Patches, told: Told, refuse: Callable[[BaseException], None]) -> None:
    """Make Dynamo report calls that it folds, until the patches are undone.

    Args:
        patches: keeps the originals.
        told: called with the name of a function and its arguments.
        refuse: called if the arguments cannot be kept.
    """
    functions = {function: name for name in PROCESS_FUNCTIONS if (function := _function(name)) is not None}
    original = TorchInGraphFunctionVariable.call_function

    @functools.wraps(original)
    def call_function(self: Any, tx: Any, args: Any, kwargs: Any) -> Any:
        if (name := functions.get(self.value)) is not None:
            try:
                if kwargs and len(args) + len(kwargs) > 1:
                    raise TypeError("their order is not known")
                told(name, [_plain(value) for value in (*args, *kwargs.values())])
            except Exception:
                refuse(NotStorable(f"{name} of what cannot be kept"))
        return original(self, tx, args, kwargs)

    patches.set(TorchInGraphFunctionVariable, "call_function", call_function)


def _function(name: str) -> Any:
    value: Any = torch
    for part in name.split(".")[1:]:
        value = getattr(value, part, None)
    return value


def _plain(argument: VariableTracker) -> Any:
    value = argument.as_python_constant()
    if isinstance(value, torch.device):
        return str(value)
    kept = value if isinstance(value, list | tuple) else [value]
    if not all(item is None or type(item) in (int, str) for item in kept):
        raise TypeError(type(value).__name__)
    return list(value) if isinstance(value, tuple) else value
