"""The names of Firebrick's functions in pickled guard states.

A pickle names a function by its module. These names are in stores and must not change when code moves: a
function that a state names gets the module of its stored name, and can be found there.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any, TypeVar

Function = TypeVar("Function", bound=Callable[..., Any])


def stored_as(module: str) -> Callable[[Function], Function]:
    """Return a decorator that gives a function its module name in stores.

    Args:
        module: dotted name; no such file may exist.
    """

    def named(function: Function) -> Function:
        home = sys.modules.setdefault(module, ModuleType(module, "Names in stores; see stored_names.py."))
        setattr(home, function.__name__, function)
        function.__module__ = module
        return function

    return named
