"""Explain which guard failed: torch's reports become a `Miss` with the expected and the found value.

Source followed: the texts of ``torch/csrc/dynamo/guards.cpp`` and ``torch/_dynamo/guards.py``.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from firebrick.codecs.guard_program import NUMBERS, GuardProgram
from firebrick.errors import NotStorable
from firebrick.guards.evaluate import NoValue, Scopes, parsed, reads, value_of
from firebrick.guards.identity_guards import Describer
from firebrick.guards.values import value_of as term_value
from firebrick.reports.events import Change, listed
from firebrick.reports.not_served import Miss
from firebrick.reports.wording import (
    ANOTHER_OBJECT,
    GLOBAL_STATE,
    clipped,
    object_change,
    shown,
    source_name,
)
from firebrick.torch_api import native
from firebrick.torch_api.native import guards as cpp

_COMMENT: Final = re.compile(r"\s{2,}# .*$|\s*\(HINT: .*\)$", re.DOTALL)
_TENSOR: Final = re.compile(
    r"tensor '(?P<source>.*)' (?P<field>[\w ]+?) mismatch(?: at index (?P<index>\d+))?\."
    r" expected (?P<stored>.*?)(?:, actual (?P<here>.*))?$"
)
_KIND: Final = re.compile(
    r"expected type of '(?P<source>.*)' to be (?P<stored>.*?)[, ']* but found (?P<here>.*)$"
)
_TYPE: Final = re.compile(r"___check_type_id\((?P<source>.*), \S+\)(?:, type=(?P<stored>.*))?$")
_OBJECT: Final = re.compile(r"___check_obj_id\((?P<source>.*), \S+\)(?:, type=.*)?$")
_NAMED: Final = re.compile(
    r"(?P<source>[LG]\[.*) (?:is|==) <?"
    r"(?P<stored>(?:module|function|code|class|builtin|constant|kernel|named)\b.*?)>?$"
)
_STATE: Final = "GLOBAL_STATE changed: "
_MODES: Final = "___check_torch_function_mode_stack()"
_FIELDS: Final = {
    "stride": "{}.stride()", "size": "{}.size()", "dtype": "{}.dtype", "requires_grad": "{}.requires_grad",
    "rank": "{}.dim()", "dispatch key set": "dispatch keys of {}",
}  # fmt: skip
_SCALARS: Final = {
    "Float": "float32", "Double": "float64", "Half": "float16", "BFloat16": "bfloat16", "Int": "int32",
    "Long": "int64", "Short": "int16", "Char": "int8", "Byte": "uint8", "Bool": "bool",
    "ComplexFloat": "complex64", "ComplexDouble": "complex128",
}  # fmt: skip


class StoredState:
    """The expectations of a bundle's guards that the report of a failed one omits.

    Args:
        state: returns torch's global state as torch's JSON; empty if unknown.
        fact: returns a size or stride of a tensor as a text: its source and ``size()`` or ``stride()``.
        modes: returns the torch function modes.
    """

    def __init__(
        self,
        state: Callable[[], str] = lambda: "",
        fact: Callable[[str, str], str | None] = lambda _s, _f: None,
        modes: Callable[[], Sequence[Any]] = lambda: (),
    ) -> None:
        self.state = state
        self.fact = fact
        self.modes = modes


def of_program(program: GuardProgram) -> StoredState:
    """Return a guard program's expectations of tensors and the global state."""

    def state() -> str:
        steps = (s for s in program.steps if s[0] == NUMBERS["add_global_state_guard"])
        return next((program.texts[step[2]] for step in steps), "")

    def fact(source: str, field: str) -> str | None:
        for step in program.steps:
            if step[0] == NUMBERS["add_tensor_match_guard"] and program.texts[step[5]] == source:
                sides = term_value(program.terms[step[3 if field == "size()" else 4]], lambda _: None)
                texts = ["any" if side is None else str(side) for side in sides]
                return f"({', '.join(texts)}{',' if len(texts) == 1 else ''})"
        return None

    return StoredState(state, fact)


def of_state(read: Callable[[], Any]) -> StoredState:
    """Return a torch guard state's expectations of tensors and the global state, read on demand."""

    def state() -> str:
        return str(read().output_graph.global_state_guard.__getstate__())

    def fact(source: str, field: str) -> str | None:
        graph = read().output_graph
        scopes = {"L": graph.local_scope, "G": graph.global_scope}
        return shown(tuple(value_of(parsed(f"{source}.{field}"), scopes)))

    return StoredState(state, fact, lambda: read().output_graph.torch_function_mode_stack)


def failed(manager: Any, values: Any, scope: dict[str, Any], stored: StoredState) -> Miss:
    """Return why a guard manager fails, with the stored and the present value.

    Args:
        manager: torch's or ours; its ``check`` has failed, and it is asked for a report.
        values: the frame's locals.
        scope: its globals.
        stored: further expectations of the guards.
    """
    try:
        report = manager.check_verbose(values)
        parts = [str(part) for part in report.verbose_code_parts]
        if report.result or not parts:
            return Miss("guards that did not pass, and do when they are asked again", code="value")
        return told(parts, values, scope, stored)
    except Exception as error:  # wording a miss must not fail
        return Miss(f"guards that did not pass; which is not known ({type(error).__name__})", code="value")


def told(parts: Sequence[str], values: Any, scope: dict[str, Any], stored: StoredState) -> Miss:
    """Return the miss for torch's report of a failed guard."""
    scopes: Scopes = {"L": values, "G": scope}
    texts = [_COMMENT.sub("", _COMMENT.sub("", part)).strip() for part in parts]
    text = next((t for t in texts if _holds(t, scopes) is False), texts[0])
    code, changes = _explained(text, scopes, stored)
    return Miss(listed(changes), code=code, changes=changes)


def _holds(text: str, scopes: Scopes) -> bool | None:
    try:
        return bool(value_of(parsed(text), scopes))
    except NoValue:
        return None


def _explained(text: str, scopes: Scopes, stored: StoredState) -> tuple[str, list[Change]]:
    if text.startswith(_STATE):
        return "state", _state(text.removeprefix(_STATE).split(), stored)
    if text == _MODES:
        modes = native.function_modes()
        what = "modes of torch functions (a torch.device as a context is one)"
        return "state", [Change(what, _modes(stored.modes()), _modes(modes))]
    if text.startswith("Duplicate tensor"):
        return "tensor", [Change("tensors that were several", "several", "one tensor")]
    if (found := _TENSOR.match(text)) is not None:
        return "tensor", [_tensor(found, scopes, stored)]
    if (found := _KIND.match(text) or _TYPE.match(text)) is not None:
        present = _attempt(f"type({found['source']})", scopes) or found.groupdict().get("here")
        what = f"type of {source_name(found['source'])}"
        return "value", [Change(what, found["stored"] or "another", present)]
    if (found := _OBJECT.match(text)) is not None:
        return "object", [
            Change(source_name(found["source"]), ANOTHER_OBJECT, _described(found["source"], scopes))
        ]
    if (found := _NAMED.match(text)) is not None:
        kind, _, name = found["stored"].partition(" ")
        return "object", [_named(found["source"], (kind, name), scopes)]
    return "value", [condition(text, scopes)]


def expectations_differ(stored: str, here: str, scope: dict[str, Any]) -> list[Change]:
    """Return the differences of two lists of expectations, at most five.

    Args:
        stored: a bundle's texts, separated by NUL; empty if they were not kept.
        here: those of the same guards, built in this process.
        scope: globals of the frame.
    """
    old, new = (dict.fromkeys(texts.split("\0")) if texts else {} for texts in (stored, here))
    gone, come = [text for text in old if text not in new], [text for text in new if text not in old]
    if not old:
        return [Change("a value that is read from a module or class (which one was not kept)", None, None)]
    by_source = {side[0]: side[1] for text in come if (side := _sides(text)) is not None}
    changes = []
    for text in gone:
        side = _sides(text)
        if side is not None and side[0] in by_source:
            changes.append(Change(source_name(side[0]), clipped(side[1]), clipped(by_source.pop(side[0]))))
        else:
            changes.append(condition(text, {"L": {}, "G": scope})._replace(stored="expected"))
    known = {change.what for change in changes}
    extra = [Change(source_name(source), None, clipped(value)) for source, value in by_source.items()]
    return [*changes, *(change for change in extra if change.what not in known)][:5]


def _sides(text: str) -> tuple[str, str] | None:
    """Split an expectation into its source and its expected value."""
    if (found := _TYPE.match(text)) is not None:
        return f"type of {found['source']}", str(found["stored"])
    if (found := _OBJECT.match(text)) is not None:
        return found["source"], "an object"
    try:
        node = parsed(text)
    except NoValue:
        return None
    match node:
        case ast.Compare(left, [op], [right]) if not reads(right):
            sign = "" if isinstance(op, ast.Eq) else f"{type(op).__name__} "
            return ast.unparse(left), sign + ast.unparse(right)
        case ast.Compare(left, [op], [right]) if not reads(left):
            return ast.unparse(right), f"{ast.unparse(left)} {type(op).__name__}"
    return None


def condition(text: str, scopes: Scopes) -> Change:
    """Return a failed condition as a change: what it compares, and both values if it has them."""
    try:
        node = parsed(text)
    except NoValue:
        return Change(clipped(text), None, None)
    match node:
        case ast.Compare(left, [ast.Eq() | ast.Is()], [right]) if reads(left) and not reads(right):
            return Change(source_name(ast.unparse(left)), clipped(ast.unparse(right)), _shown(left, scopes))
        case ast.Compare(left, [ast.Eq() | ast.Is()], [right]) if reads(right) and not reads(left):
            return Change(source_name(ast.unparse(right)), clipped(ast.unparse(left)), _shown(right, scopes))
        case ast.UnaryOp(ast.Not(), inner):
            return Change(source_name(ast.unparse(inner)), "false or empty", _shown(inner, scopes) or "true")
        case ast.Subscript() | ast.Attribute():
            return Change(source_name(ast.unparse(node)), "true", _shown(node, scopes) or "false or empty")
    sides = [node.left, *node.comparators] if isinstance(node, ast.Compare) else []
    values = [f"{ast.unparse(s)} = {v}" for s in sides if reads(s) and (v := _shown(s, scopes)) is not None]
    return Change(clipped(text), "true", "false" + (f" ({clipped(', '.join(values))})" if values else ""))


def _shown(node: ast.expr, scopes: Scopes) -> str | None:
    try:
        value = value_of(node, scopes)
    except NoValue:
        return None
    return shown(list(value) if isinstance(value, type({}.keys())) else value)


def _modes(modes: Sequence[Any]) -> str:
    return ", ".join(type(mode).__qualname__ for mode in modes) or "none"


def _named(source: str, stored: tuple[str, str], scopes: Scopes) -> Change:
    try:
        value = value_of(parsed(source), scopes)
        here = Describer().describe(value)[:2]
    except (NoValue, NotStorable):
        return Change(source_name(source), " ".join(stored), _attempt(source, scopes) or "another")
    return object_change(source, stored, here, value)


def _attempt(text: str, scopes: Scopes) -> str | None:
    try:
        return _shown(parsed(text), scopes)
    except NoValue:
        return None


def _described(source: str, scopes: Scopes) -> str:
    try:
        kind, name, _ = Describer().describe(value_of(parsed(source), scopes))
    except (NoValue, NotStorable):
        return _attempt(source, scopes) or "another"
    return f"{kind} {name}"


def _tensor(found: re.Match[str], scopes: Scopes, stored: StoredState) -> Change:
    source, field, index = found["source"], found["field"], found["index"]
    source = source if source[:2] in ("L[", "G[") else f"L['{source}']"
    expected, here = found["stored"], found["here"]
    if field in ("stride", "size"):
        try:
            whole = stored.fact(source, f"{field}()")
            present = shown(tuple(value_of(parsed(f"{source}.{field}()"), scopes)))
        except Exception:  # a tensor that its source does not reach
            whole = present = None
        if whole is None or whole == present:
            return Change(f"`{source}.{field}({index})`", expected, here)
        return Change(f"`{source}.{field}()`", whole, present)
    if field == "requires_grad":
        expected = str(expected.endswith("1"))
        here = str(expected == "False")
    elif field == "dtype":
        expected, here = (f"torch.{_SCALARS.get(str(name), name)}" for name in (expected, here))
    what = _FIELDS.get(field, f"{field} of {{}}").format(source)
    return Change(f"`{what}`" if "." in what else what, expected, here)


def _state(fields: list[str], stored: StoredState) -> list[Change]:
    try:
        old, new = json.loads(stored.state()), json.loads(str(cpp.GlobalStateGuard().__getstate__()))
    except Exception:  # the state of another torch, or none
        old, new = {}, {}
    changes = []
    for field in fields:
        name = field.partition("(")[0].partition("_state")[0]
        device = re.search(r"\((\w+)\)_(\w+)", field)
        if device is not None:  # autocast(cpu)_enabled
            changes.append(Change(f"autocast on {device[1]}, {device[2]}", *_autocast(device, old, new)))
            continue
        words = GLOBAL_STATE.get(field, GLOBAL_STATE.get(name, field))
        changes.append(Change(words, _field(old, field), _field(new, field)))
    return changes or [Change("global state of torch", None, None)]


def _field(state: Mapping[str, Any], field: str) -> str | None:
    if field not in state:
        return None
    if field == "default_dtype":
        return _dtype(state[field])
    return str(state[field])


def _autocast(
    found: re.Match[str], old: Mapping[str, Any], new: Mapping[str, Any]
) -> tuple[str | None, str | None]:
    """Return both values if one device differs: the state lists devices without their names."""
    sides = [state.get("autocast_state", {}).get(found[2], []) for state in (old, new)]
    differ = [pair for pair in zip(*sides, strict=False) if pair[0] != pair[1]]
    if not differ:
        return None, None
    show = _dtype if found[2] == "dtype" else str
    return show(differ[0][0]), show(differ[0][1])


def _dtype(number: Any) -> str:
    """Return the dtype with a number in torch's C++ code (``c10::ScalarType``)."""
    names = "uint8 int8 int16 int32 int64 float16 float32 float64 complex32 complex64 complex128 bool".split()
    names += ["qint8", "quint8", "qint32", "bfloat16"]
    known = isinstance(number, int) and 0 <= number < len(names)
    return f"torch.{names[number]}" if known else str(number)
