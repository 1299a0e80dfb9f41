"""What the program changed in torch's compiler: in its tables, its patterns and its own code.

Only modules that are imported are looked at: in a start without the compiler, the program has changed nothing
in it. One of torch's functions in the place of another is found where a function in a table knows its
operators, and by comparison with the tables as they were when Firebrick first saw them (`note_tables`).

Source followed: ``torch/_inductor/lowering.py:_register_lowering``, ``torch/_inductor/pattern_matcher.py``.
"""

from __future__ import annotations

import sys
import types
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from firebrick.base.shipped import code_key, is_shipped, is_shipped_class, unwrapped
from firebrick.torch_api import imported
from firebrick.validity.compiler_code import changed_code, named_digest

# Tables of the compiler that programs add functions to.
_TABLES: Final = (
    ("torch._inductor.lowering", "lowerings"), ("torch._inductor.decomposition", "decompositions"),
    ("torch._decomp", "global_decomposition_table"), ("torch._inductor.lowering", "user_lowerings"),
)  # fmt: skip
TABLE_MODULES: Final = tuple(dict.fromkeys(module for module, _ in _TABLES))
_PASSES: Final = "torch._inductor.fx_passes."
Table = dict[tuple[object, ...], object]

_noted: dict[str, Table] = {}  # the tables as they were when they were first seen
_unchanged: dict[str, Table] = {}  # contents that were all torch's own
_shipped_entries: dict[int, object] = {}  # entries of torch's pattern matcher that are torch's own, by id


def registrations() -> str:
    """Return what the program changed in the compiler, as text; empty for nothing."""
    return "; ".join(sorted([*_in_tables(), *_in_patterns(), *changed_code()]))


def note_tables() -> None:
    """Note the tables of imported modules, unless they were noted before.

    Call it before the program can change them.
    """
    for name, table in _tables():
        _noted.setdefault(name, table)


def _tables() -> Iterator[tuple[str, Table]]:
    for module, name in _TABLES:
        table = getattr(imported(module), name, None)
        if isinstance(table, Mapping):
            yield name, dict(_flat(table))


def _flat(table: Mapping[object, object]) -> Iterator[tuple[tuple[object, ...], object]]:
    """Yield the entries of a table and of the tables in it."""
    for key, value in table.items():
        if isinstance(value, Mapping):
            yield from (((key, inner), function) for inner, function in value.items())
        else:
            yield (key,), value


def _in_tables() -> Iterator[str]:
    for name, table in _tables():
        if _unchanged.get(name) == table:
            continue
        noted, found = _noted.get(name, {}), []
        for key, function in table.items():
            place = f"{name} {' '.join(map(str, key))}"
            if not is_shipped(function):
                found.append(f"{place}: {named_digest(unwrapped(function))}")
            elif _is_of_another(function, key[-1]) or (noted and _is_new(name, noted.get(key), function)):
                found.append(f"{place}: {_described(function)}")
        found += [f"{name} {' '.join(map(str, key))}: taken away" for key in noted.keys() - table.keys()]
        if not found:
            _unchanged[name] = table
        yield from found


def _is_of_another(function: object, key: object) -> bool:
    """Tell whether a lowering of torch's stands for an operator it was not registered for."""
    code = getattr(function, "__code__", None)
    if code is None or "aten_fn" not in code.co_freevars:
        return False
    cell = function.__closure__[code.co_freevars.index("aten_fn")]  # type: ignore[attr-defined]
    return key not in cell.cell_contents


def _is_new(table: str, noted: object, function: object) -> bool:
    """Tell whether a function of torch's came into a table after its module was imported.

    To all tables but one torch itself adds later, and may add a function again.
    """
    if noted is None:
        return table == "decompositions"
    return noted is not function and _described(noted) != _described(function)


def _described(function: object) -> str:
    code = getattr(unwrapped(function), "__code__", None)
    return repr(function) if code is None else code_key(code)


def _in_patterns() -> Iterator[str]:
    """Yield the entries of Inductor's pattern matcher that run functions of the program."""
    matcher = imported("torch._inductor.pattern_matcher")
    if matcher is None:
        return
    for name, module in list(sys.modules.items()):
        if not name.startswith(_PASSES):
            continue
        for attribute, value in list(vars(module).items()):
            for passes in _items(value):
                if type(passes) is matcher.PatternMatcherPass:
                    place = f"{name.removeprefix(_PASSES)}.{attribute}"
                    yield from (f"{place} {text}" for text in _own_entries(passes.patterns))


def _items(value: object) -> Iterable[Any]:
    """Return what a list, tuple or dictionary holds, or the object itself."""
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list | tuple) else (value,)


def _own_entries(patterns: Mapping[tuple[str, object], list[object]]) -> Iterator[str]:
    for (_, target), entries in list(patterns.items()):
        for entry in entries:
            if id(entry) in _shipped_entries:
                continue
            own = [function for value in vars(entry).values() for function in _own_functions(value)]
            if own or not is_shipped_class(type(entry)):
                digests = " ".join(sorted(map(named_digest, own)))
                yield f"{target}: {type(entry).__qualname__} {vars(entry).get('pattern')!r} {digests}"
            else:
                _shipped_entries[id(entry)] = entry


def _own_functions(value: object, depth: int = 4) -> Iterator[types.FunctionType]:
    """Yield the function, if it is the program's, or the program's functions in its closure."""
    function = unwrapped(value)
    if not isinstance(function, types.FunctionType):
        function = getattr(function, "func", None)  # a partial
    if not isinstance(function, types.FunctionType):
        return
    if not is_shipped(function):
        yield function
    elif depth:
        for cell in function.__closure__ or ():
            try:
                content = cell.cell_contents
            except ValueError:  # not filled yet
                continue
            yield from _own_functions(content, depth - 1)
