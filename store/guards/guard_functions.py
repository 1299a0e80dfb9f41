"""The Python functions of guards and accessors, in the compiler-free loader.

Source followed: ``get_guard_manager_from_source`` and the guards that use ``add_lambda_guard`` in
``torch/_dynamo/guards.py``.
"""

from __future__ import annotations

import dataclasses
import itertools
import sys
from collections.abc import Callable
from typing import Any, Final

import torch

from firebrick.guards.growing_tables import types_in
from firebrick.guards.pytree_nodes import unchanged
from firebrick.guards.shapes import from_numpy
from firebrick.reports.not_served import ObjectChanged
from firebrick.torch_api import native

_COUNT: Final = type(itertools.count())
_BASES: Final[dict[str, type]] = {"int": int, "float": float, "str": str}
_ACCESSORS: Final[dict[str, Callable[[Any], Any]]] = {
    "from_numpy": from_numpy,
    "item": lambda value: value.item(),
    "as_tensor": lambda value: native.as_tensor_fullprec(value),
    "int": lambda value: int(value),
    "dataclass_fields": dataclasses.fields,
    "namedtuple_fields": lambda value: value._fields,
}


def accessor(name: str, *operands: Any) -> Callable[[Any], Any]:
    """Return the function that leads from one guarded value to the next.

    Raises:
        ObjectChanged: a module is not imported.
    """
    if name != "module":
        return _ACCESSORS[name]
    module = sys.modules.get(operands[0])
    if module is None:
        raise ObjectChanged(f"module {operands[0]} is not imported")
    return lambda _: module


def leaf(name: str, operands: list[Any], term: Callable[[int], Any]) -> Callable[[Any], bool]:
    """Return the function that decides a guard.

    Args:
        name: a guard in `firebrick.codecs.guard_program.FUNCTIONS`.
        operands: those after the name.
        term: returns the value of a term.
    """
    if name == "no_functorch":
        peek = native.peek_interpreter_stack
        return lambda _: peek() is None
    if name == "no_inline_hooks":
        return _no_inline_hooks
    if name == "count":
        # the only access to its state that Python does not deprecate
        wanted = repr(itertools.count(*term(operands[0])))
        return lambda value: type(value) is _COUNT and repr(value) == wanted
    if name == "base_value":
        base, expected = _BASES[operands[0]], term(operands[1])
        return lambda value: bool(base(value) == expected)
    if name == "foreach_types":
        paths = term(operands[0])
        return lambda value: types_in(value) == paths
    if name == "pytree_nodes":
        return unchanged(native.pytree_nodes, term(operands[0]))
    raise ObjectChanged(f"guard {name} at this place")


def _no_inline_hooks(_: Any) -> bool:
    hooks = native.saved_tensors_hooks(True)
    if not hooks:
        return True
    kind = torch.fx.GraphModule
    return not all(isinstance(hook, kind) for hook in hooks)
