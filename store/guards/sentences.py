"""Word stored guards, one sentence each, without building any. Imports no torch."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, Final

from firebrick.codecs.guard_program import OPERATIONS, STORED, GuardProgram, Operand, Term

_COMMENT: Final = re.compile(r"\s{2,}# .*$|\s*\(HINT: .*\)$", re.DOTALL)
_TYPE: Final = re.compile(r"___check_type_id\((?P<source>.*), \S+\)(?:, type=(?P<type>.*))?$", re.DOTALL)
_OBJECT: Final = re.compile(r"___check_obj_id\((?P<source>.*), \S+\)(?:, type=.*)?$", re.DOTALL)
_CONTAINS: Final = re.compile(r"(?P<not>not )?___dict_contains\((?P<key>.*), (?P<source>[LG]\[.*)\)$")
_MARKS: Final = re.compile(r"hasattr\((?P<source>.*), '_dynamo_\w+_indices'\) == False$")
_LENGTH: Final = re.compile(r"len\((?P<source>[LG]\[[^()]*)\) == (?P<value>\d+)$")
_EQUAL: Final = re.compile(r"(?P<source>[LG]\['\w+'\][^ ()]*) (?:==|is) (?P<value>.*)$", re.DOTALL)
_FIXED: Final = {
    "add_global_state_guard": "torch's global state (grad mode, autocast, threads, …) is what it was",
    "add_torch_function_mode_stack_guard": "the modes of torch functions are what they were",
    "add_default_device_guard": "the default device is what it was",
}
_QUIET: Final = frozenset({"mark_tag_safe", "mark_tag_safe_root"})


def of_program(program: GuardProgram) -> list[str]:
    """Return the requirements of a program's guards, each once, in program order."""
    found: dict[str, None] = {}
    for step in program.steps:
        operation = OPERATIONS[step[0]]
        if operation.makes or operation.name in _QUIET:
            continue
        found.update(dict.fromkeys(_sentences(program, operation.name, step)))
    return list(found)


def of_expectations(text: str) -> list[str]:
    """Return the sentences of guards kept as texts separated by NUL."""
    return [reworded(part) for part in dict.fromkeys(text.split("\0")) if part] if text else []


def _sentences(program: GuardProgram, name: str, step: Sequence[Any]) -> list[str]:
    if name in _FIXED:
        return [_FIXED[name]]
    if name == "add_tensor_match_guard":
        return [_tensor(program, step)]
    operands = dict(zip(STORED[step[0]], step[2:], strict=False))
    texts = program.parts[operands[Operand.TEXTS]] if Operand.TEXTS in operands else []
    if name == "add_id_match_guard" and texts:
        kind, named, *_ = program.identities[operands[Operand.IDENTITY]]
        if (found := _OBJECT.match(_plain(texts[0]))) is not None:
            return [f"{source_words(found['source'])} is the {kind} {named}"]
    return [reworded(text) for text in texts]


def _tensor(program: GuardProgram, step: Sequence[Any]) -> str:
    dtype, device, index, requires_grad, _ = program.tensors[step[2]]
    sizes, strides = (_sides(program.terms[step[at]]) for at in (3, 4))
    where = device if index is None else f"{device}:{index}"
    gradient = ", with a gradient" if requires_grad else ""
    source = source_words(program.texts[step[5]])
    return f"{source} is a tensor of {dtype} on {where}, size {sizes}, strides {strides}{gradient}"


def _sides(term: Any) -> str:
    if type(term) is not list or term[0] not in (Term.TUPLE, Term.LIST, Term.SIZE):
        return "any"
    texts = ["any" if side is None else str(side) for side in term[1:]]
    return f"({', '.join(texts)}{',' if len(texts) == 1 else ''})"


def _plain(text: str) -> str:
    return _COMMENT.sub("", _COMMENT.sub("", text)).strip()


def source_words(text: str) -> str:
    """Return a source as the user writes it: `self.q.bias` for a parameter, global `SCALE` for a global."""
    kind = "global " if text.startswith("G['") and not text.startswith("G['__import_") else ""
    for pattern, words in _SOURCES:
        text = pattern.sub(words, text)
    return f"{kind}`{text}`"


_SOURCES: Final[Sequence[tuple[re.Pattern[str], Callable[[re.Match[str]], str]]]] = (
    (re.compile(r"G\['__import_(\w+)'\]"), lambda found: found[1].replace("_dot_", ".")),
    (re.compile(r"[GL]\['(\w+)'\]"), lambda found: found[1]),
    (re.compile(r"\._(?:modules|parameters|buffers)\['(\w+)'\]"), lambda found: f".{found[1]}"),
)
_REWORDED: Final[Sequence[tuple[re.Pattern[str], Callable[[re.Match[str]], str]]]] = (
    (_TYPE, lambda found: f"{source_words(found['source'])} is of type {found['type'] or 'that it had'}"),
    (_OBJECT, lambda f: f"{source_words(f['source'])} is the object that it was"),
    (_CONTAINS, lambda f: f"{source_words(f['source'])} has {'no' if f['not'] else 'a'} key {f['key']}"),
    (_MARKS, lambda found: f"{source_words(found['source'])} has no marks of dynamic sizes"),
    (_LENGTH, lambda found: f"{source_words(found['source'])} has length {found['value']}"),
    (_EQUAL, lambda found: f"{source_words(found['source'])} is {found['value']}"),
)


def reworded(text: str) -> str:
    """Return one of torch's guard texts as a sentence; texts without a wording stay code."""
    text = _plain(text).replace("\0", "…")
    for pattern, words in _REWORDED:
        if (found := pattern.match(text)) is not None:
            return words(found)
    return f"`{text}`"
