"""Tell what an object holds beside its class, where all of that can be told.

An object that a guard compares by its address has no name to be found by, and is another one in every
process. What the compiler made of it hangs on its class and its state. Imports nothing of torch's compiler.
"""

from __future__ import annotations

import functools
import re
import sys
import types
import typing
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Mapping
from typing import Any, Final

import torch

from firebrick.base.shipped import is_static

_POINTER: Final = 8
_SCRATCH: Final = frozenset({"prev", "prev_cache_enabled", "prev_fastdtype"})


def state_of(value: Any) -> Any | None:
    """Return all that an object holds, as containers of plain values; ``None`` where that cannot be told.

    Runs nothing of the program.
    """
    kind = type(value)
    numpy = sys.modules.get("numpy")
    if numpy is not None and issubclass(kind, numpy.dtype | numpy.finfo):
        return str(value.dtype.descr) if isinstance(value, numpy.finfo) else str(value.descr)
    for base, read in _READERS.items():
        if issubclass(kind, base):
            return read(value) if kind is base or _is_written_in_python(kind, base) else None
    return _attributes(value) if _is_written_in_python(kind, object) else None


def _attributes(value: Any) -> dict[str, Any]:
    """Return the attributes of an object and the filled slots, sorted."""
    found = dict(object.__getattribute__(value, "__dict__")) if type(value).__dictoffset__ else {}
    for base in type(value).__mro__:
        for name, member in vars(base).items():
            if type(member) is types.MemberDescriptorType and base is not object:
                try:
                    found.setdefault(name, member.__get__(value))
                except AttributeError:
                    continue
    return {name: found[name] for name in sorted(found)}


def _is_written_in_python(kind: type, base: type) -> bool:
    """Tell whether all that a class adds to another lies in attributes and slots, none of it in C."""
    classes = kind.__mro__[: kind.__mro__.index(base)]
    if any(is_static(cls) or "__getattribute__" in vars(cls) for cls in classes):
        return False
    slots = sum(
        type(member) is types.MemberDescriptorType for cls in classes for member in vars(cls).values()
    )
    own = (kind.__dictoffset__ > base.__dictoffset__) + (kind.__weakrefoffset__ > base.__weakrefoffset__)
    return kind.__basicsize__ - base.__basicsize__ == _POINTER * (slots + own)


def _of_autocast(value: Any) -> dict[str, Any]:
    """Leave out what an autocast region keeps while it is entered."""
    return {name: item for name, item in _attributes(value).items() if name not in _SCRATCH}


def _of_method(value: Any) -> tuple[str, Any] | None:
    """Tell what a method written in C is of, unless that changes."""
    return None if type(value.__self__) in (list, dict, set) else (value.__name__, value.__self__)


def _named(*names: str) -> Callable[[Any], Mapping[str, Any]]:
    return lambda value: {name: getattr(value, name) for name in names}


_VARIABLE: Final = (
    "__name__",
    "__module__",
    "__bound__",
    "__constraints__",
    "__covariant__",
    "__contravariant__",
)
_READERS: Final[Mapping[type, Callable[[Any], Any]]] = {
    torch.autocast: _of_autocast,
    typing.TypeVar: _named(*_VARIABLE),
    typing.ParamSpec: _named("__name__", "__module__", "__bound__"),
    types.GenericAlias: _named("__origin__", "__args__"),
    types.UnionType: _named("__args__"),
    re.Pattern: _named("pattern", "flags"),
    functools.partial: _named("func", "args", "keywords"),
    types.BuiltinFunctionType: _of_method,
    types.MethodWrapperType: _of_method,
    OrderedDict: lambda value: [*value.items()],
    defaultdict: lambda value: (value.default_factory, dict(value)),
}
