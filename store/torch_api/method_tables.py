"""Methods that Dynamo calls through tables of its classes since torch 2.14.

A table holds the functions themselves, so that replacing the attribute of the same name changes nothing.
Source followed: ``Method`` and ``tp_methods`` of ``torch/_dynamo/variables/base.py``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from firebrick.torch_api.minors import has

if TYPE_CHECKING:
    from firebrick.base.patches import Patches

_TABLES = "torch._dynamo.variables.base:VariableTracker.tp_methods"


def wrap_in_table(
    patches: Patches, cls: Any, method: str, wrap: Callable[[Any, Any], Any], seen: Any
) -> bool:
    """Wrap a method in a class's own table, until the patches are undone; return whether it is there.

    Args:
        patches: keeps the originals.
        cls: Dynamo's class.
        method: its name in the table.
        wrap: called with the function of the table and `seen`; returns what stands in for it.
        seen: returns the observer of the current compilation.
    """
    if not has(_TABLES) or "tp_methods" not in vars(cls) or method not in cls.tp_methods:
        return False
    table = cls.tp_methods
    entry = table[method]
    wrapped = dataclasses.replace(entry, handler=wrap(entry.handler, seen))
    patches.set(cls, "tp_methods", {**table, method: wrapped})
    return True
