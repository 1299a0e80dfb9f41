"""Recognise the Python functions that Dynamo puts into guards and accessors.

A function is recognised by its definition's place in ``torch/_dynamo/guards.py`` and by the names its code
uses; any other is refused.
"""

from __future__ import annotations

import dataclasses
from types import FunctionType, ModuleType
from typing import Any, Final

from firebrick.errors import NotLean
from firebrick.guards.growing_tables import TypesOf
from firebrick.guards.identity_guards import of_compiler
from firebrick.guards.pytree_nodes import NodesOf
from firebrick.torch_api.dynamo_modules import guards as dynamo_guards


@dataclasses.dataclass(frozen=True, slots=True)
class Value:
    """An operand that becomes a term."""

    value: Any


# Names in the code of a lambda of `get_guard_manager_from_source` -> function.
_ACCESSORS: Final = {
    ("item",): "item",
    ("torch", "_as_tensor_fullprec"): "as_tensor",
    ("int",): "int",
    ("dataclass_fields",): "dataclass_fields",
    ("_fields",): "namedtuple_fields",
}
_BUILDER: Final = "GuardBuilder."


def function_of(function: Any, operation: str, where: str) -> tuple[str, list[str | Value]]:
    """Return the name of a function in guard programs, and its operands.

    Args:
        function: the function torch passed to the guard manager.
        operation: the method it was passed to.
        where: source, for the message.

    Raises:
        NotLean: the function is unknown.
    """
    if type(function) is TypesOf:
        return "foreach_types", [Value(function.paths)]
    if type(function) is NodesOf:
        return "pytree_nodes", [Value(function.texts)]
    if function is dynamo_guards.from_numpy and operation == "lambda_manager":
        return "from_numpy", []
    if not isinstance(function, FunctionType) or function.__module__ != dynamo_guards.__name__:
        raise NotLean(f"a Python function in a guard on {where}")
    code = function.__code__
    owner = code.co_qualname.removeprefix(_BUILDER).partition(".")[0]
    cells = {
        name: cell.cell_contents
        for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=True)
    }
    if operation == "lambda_manager" and owner == "get_guard_manager_from_source":
        return _accessor(function, where)
    match owner:
        case "FUNCTORCH_STACK_MATCH" if not cells["states"]:
            return "no_functorch", []
        case "AUTOGRAD_SAVED_TENSORS_HOOKS" if cells["guard_hooks_ids"] is None:
            return "no_inline_hooks", []
        case "COUNT_ITERATOR_MATCH":
            return "count", [Value(tuple(cells["normalized_count_iter"]))]
        case "CONSTANT_SUBCLASS_MATCH":
            return "base_value", [cells["base_type"].__name__, Value(cells["base_value"])]
    raise NotLean(f"{owner} guard on {where or 'the whole frame'}")


def _accessor(function: FunctionType, where: str) -> tuple[str, list[str | Value]]:
    code, defaults = function.__code__, function.__defaults__
    if defaults and isinstance(defaults[0], ModuleType) and not code.co_names:
        name = defaults[0].__name__
        if of_compiler(name):
            raise NotLean(f"a guard on the compiler's own {name}")
        return "module", [name]
    known = None if defaults or code.co_freevars else _ACCESSORS.get(code.co_names)
    if known is None:
        raise NotLean(f"an accessor that calls {'.'.join(code.co_names)} at {where}")
    return known, []
