"""Describe code objects: what they do, the globals they load, the names and strings they hold."""

from __future__ import annotations

import dis
import functools
import types
from collections.abc import Iterator
from typing import Final, NamedTuple

from firebrick.base.shipped import code_key
from firebrick.codecs.code import code_digest

_GLOBAL: Final = frozenset(
    dis.opmap[name]
    for name in ("LOAD_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS", "STORE_GLOBAL", "DELETE_GLOBAL")
    if name in dis.opmap
)
_LOAD_GLOBAL: Final = dis.opmap["LOAD_GLOBAL"]
_IMPORT: Final = dis.opmap["IMPORT_NAME"]
_EXTENDED: Final = dis.EXTENDED_ARG
LONGEST_NAME: Final = 64  # characters; longer strings are not taken for attribute names
_MAX_KEPT: Final = 20_000


class CodeFacts(NamedTuple):
    """The facts of a code object, including those nested in it.

    Attributes:
        digest: of its behaviour, hexadecimal; for code of torch and Python its location in their files.
        nested: the same for the code objects in its constants.
        globals: names it looks up in its module or the builtins.
        imports: modules it imports.
    """

    digest: str
    nested: tuple[str, ...]
    globals: tuple[str, ...]
    imports: tuple[str, ...]


def nested(code: types.CodeType) -> Iterator[types.CodeType]:
    """Yield a code object and those in its constants, outermost first."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from nested(constant)


_known: dict[int, tuple[types.CodeType, CodeFacts]] = {}  # by address; the kept object reserves it


def code_facts(code: types.CodeType) -> CodeFacts:
    """Return the facts of a code object, cached because code objects cannot change.

    Raises:
        EncodeError: a constant has no encoding.
    """
    known = _known.get(id(code))
    if known is None:
        if len(_known) >= _MAX_KEPT:
            _known.clear()
        inner = [code_facts(c) for c in code.co_consts if isinstance(c, types.CodeType)]
        names, modules = (
            dict.fromkeys(_loads(code, _GLOBAL)),
            dict.fromkeys(_loads(code, frozenset({_IMPORT}))),
        )
        for facts in inner:
            names.update(dict.fromkeys(facts.globals))
            modules.update(dict.fromkeys(facts.imports))
        digest = code_key(code) or code_digest(code).hex()[:32]
        nested = (*(facts.digest for facts in inner), *(d for facts in inner for d in facts.nested))
        known = _known[id(code)] = code, CodeFacts(digest, nested, tuple(names), tuple(modules))
    return known[1]


def _loads(code: types.CodeType, wanted: frozenset[int]) -> Iterator[str]:
    data, high = code.co_code, 0
    for at in range(0, len(data), 2):
        operation, argument = data[at], data[at + 1] | high
        if operation == _EXTENDED:
            high = argument << 8
            continue
        high = 0
        if operation in wanted:
            index = argument >> 1 if operation == _LOAD_GLOBAL else argument
            if index < len(code.co_names):
                yield code.co_names[index]


@functools.lru_cache(maxsize=1000)
def written(code: types.CodeType) -> frozenset[str]:
    """Return the enclosing functions' variables that a code object writes: its state between calls."""
    stored = {i.argval for i in dis.get_instructions(code) if i.opname == "STORE_DEREF"}
    return frozenset(stored & set(code.co_freevars))


def names_in(code: types.CodeType) -> set[str]:
    """Return the names a code object uses, and its strings that can be attribute names."""
    names = {*code.co_names, *code.co_freevars}
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            names |= names_in(constant)
        else:
            for text in constant if type(constant) is tuple else (constant,):
                if type(text) is str and len(text) <= LONGEST_NAME and text.isidentifier():
                    names.add(text)
    return names
