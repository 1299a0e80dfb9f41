"""Follow a chain of guard managers to the guarded object, in the given frame."""

from __future__ import annotations

from typing import Any, Final, Protocol

from firebrick.codecs.guard_program import NUMBERS, OPERATIONS, GuardProgram
from firebrick.guards.guard_functions import accessor
from firebrick.reports.not_served import GuardsNotApplicable, ObjectChanged


class Chains(Protocol):
    """The tables that the path to an object is looked up in."""

    program: GuardProgram
    scope: dict[str, Any]
    f_locals: Any
    makers: list[list[Any]]

    def _term(self, index: int) -> Any:
        """Return the value of a term."""


_ATTRIBUTES: Final = {
    "func_defaults_manager": "__defaults__",
    "func_kwdefaults_manager": "__kwdefaults__",
    "code_manager": "__code__",
    "closure_manager": "__closure__",
    "type_mro_manager": "__mro__",
    "type_dict_manager": "__dict__",
    "grad_manager": "grad",
}
_ITEMS: Final = frozenset({"getitem_manager", "list_getitem_manager", "tuple_getitem_manager"})
_OTHER: Final = frozenset(
    {
        "globals_dict_manager", "framelocals_manager", "dict_getitem_manager", "getattr_manager",
        "generic_getattr_manager", "get_generic_dict_manager", "type_manager", "lambda_manager",
        "get_key_manager", "get_value_manager",
    }
)  # fmt: skip
CAN_FOLLOW: Final = frozenset(NUMBERS[name] for name in (*_ATTRIBUTES, *_ITEMS, *_OTHER))


def evaluate(chains: Chains, manager: int) -> Any:
    """Return the object that a manager guards.

    Raises:
        LookupError: the path starts from a local variable, and the locals are not available.
        GuardsNotApplicable: a path from a local variable leads to nothing.
        ObjectChanged: any other path does.
    """
    steps = []
    while manager:
        step = chains.makers[manager]
        steps.append(step)
        manager = step[1]
    first = OPERATIONS[steps[-1][0]].name
    if first == "framelocals_manager" and chains.f_locals is None:
        raise LookupError("locals")
    value: Any = None
    try:
        for step in reversed(steps):
            value = _follow(chains, value, step)
    except Exception as error:  # attributes of user objects can raise anything
        kind = GuardsNotApplicable if first == "framelocals_manager" else ObjectChanged
        source = chains.program.texts[_source(steps[0])]
        raise kind(f"{source}: {type(error).__name__}: {error}") from error
    return value


def _source(step: list[Any]) -> int:
    position: int = step[-3]  # every accessor ends with source, example, kind of manager
    return position


def _follow(chains: Chains, value: Any, step: list[Any]) -> Any:
    name, operand = OPERATIONS[step[0]].name, step[2]
    if (attribute := _ATTRIBUTES.get(name)) is not None:
        return getattr(value, attribute)
    if name in _ITEMS:
        return value[chains._term(operand)]
    match name:
        case "globals_dict_manager":
            return chains.scope
        case "framelocals_manager":
            return chains.f_locals[chains.program.texts[operand]]
        case "dict_getitem_manager":
            key = chains._term(operand)
            return dict.__getitem__(value, key) if isinstance(value, dict) else value[key]
        case "getattr_manager":
            return getattr(value, chains.program.texts[operand])
        case "generic_getattr_manager":
            return object.__getattribute__(value, chains.program.texts[operand])
        case "get_generic_dict_manager":
            return object.__getattribute__(value, "__dict__")
        case "type_manager":
            return type(value)
        case "lambda_manager":
            return accessor(*chains.program.functions[operand])(value)
        case "get_key_manager":
            return list(dict.keys(value))[operand]
        case "get_value_manager":
            return list(dict.values(value))[operand]
    raise TypeError(f"no way through {name}")
