"""The frame in which a case is compiled: its code, globals and locals."""

import inspect
from types import CodeType
from typing import Any

from torch import nn


def frame_of(
    function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[CodeType, dict[str, Any], dict[str, Any]]:
    """Return code object, globals and locals of the frame that a call makes."""
    if isinstance(function, nn.Module):
        function, args = type(function).forward, (function, *args)
    bound = inspect.signature(function).bind(*args, **kwargs)
    bound.apply_defaults()
    code = function.__code__
    f_locals = {name: bound.arguments[name] for name in code.co_varnames if name in bound.arguments}
    for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=True):
        f_locals[name] = cell.cell_contents
    return code, function.__globals__, f_locals
