"""Describe an object's state besides its class, if all of it can be described.

An object that a guard compares by address has no name that leads to it, and differs in every process. The
compiler's use of it depends on its class and state. Imports nothing of torch's compiler.
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

from firebrick.base.shipped import is_shipped_class, is_static

_POINTER: Final = 8
# Attributes of optimizers that torch itself makes, and keeps its accounts in.
_ACCOUNTS: Final = frozenset(
    {"state", "param_groups", "step", "_step_count", "_opt_called", "_zero_grad_profile_name"}
)
_SCRATCH: Final = frozenset({"prev", "prev_cache_enabled", "prev_fastdtype"})


def state_of(value: Any) -> Any | None:
    """Return all state of an object, as containers of plain values; ``None`` if that is impossible.

    Runs no user code.
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
    """Return an object's attributes and filled slots, sorted."""
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
    """Tell whether a class adds only attributes and slots to another, nothing in C."""
    classes = kind.__mro__[: kind.__mro__.index(base)]
    if any(is_static(cls) or "__getattribute__" in vars(cls) for cls in classes):
        return False
    slots = sum(
        type(member) is types.MemberDescriptorType for cls in classes for member in vars(cls).values()
    )
    own = (kind.__dictoffset__ > base.__dictoffset__) + (kind.__weakrefoffset__ > base.__weakrefoffset__)
    return kind.__basicsize__ - base.__basicsize__ == _POINTER * (slots + own)


def _of_optimizer(value: Any) -> dict[str, Any]:
    """Tell what an optimizer was made with. Guards compare its groups and hooks, and know its tensors.

    What torch's own do without being traced, which is to fill their state, hangs on that alone.
    """
    found = _attributes(value)
    if is_shipped_class(type(value)):
        found = {"defaults": found["defaults"]}
    kept = {
        name: item
        for name, item in found.items()
        if name not in _ACCOUNTS and not name.startswith("_optimizer_")
    }
    defaults = kept["defaults"].items()
    return kept | {"defaults": [(k, type(v) if isinstance(v, torch.Tensor) else v) for k, v in defaults]}


def _of_autocast(value: Any) -> dict[str, Any]:
    """Return an autocast region's attributes without those it keeps while entered."""
    return {name: item for name, item in _attributes(value).items() if name not in _SCRATCH}


def _of_method(value: Any) -> tuple[str, Any] | None:
    """Return the owner of a method written in C, unless it is mutable."""
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
    torch.optim.Optimizer: _of_optimizer,
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
