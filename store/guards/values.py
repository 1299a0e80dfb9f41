"""Convert values that guards compare with to terms of a guard program, and back.

Only values that survive the round trip become terms. Imports nothing of torch's compiler.
"""

from __future__ import annotations

import enum
import math
import sys
import types
from collections.abc import Callable
from typing import Any, Final

import torch

from firebrick.codecs.guard_program import Term
from firebrick.errors import NotStorable
from firebrick.guards.identity_guards import path_of
from firebrick.storage.msgpack import INT64, pack

_PLAIN: Final = (type(None), bool, str, bytes)
_KEYS: Final[type] = type({}.keys())
_SEQUENCES: Final[dict[type, int]] = {
    tuple: Term.TUPLE,
    list: Term.LIST,
    torch.Size: Term.SIZE,
    _KEYS: Term.KEYS,
}
_TORCH: Final = (torch.dtype, torch.layout, torch.memory_format)


def term_of(value: Any, identity: Callable[[Any], int]) -> Any:
    """Return the term of a value.

    Args:
        value: a value a guard compares with.
        identity: enters an object known by name, and returns its position.

    Raises:
        NotStorable: no term represents the value.
    """
    kind = type(value)
    if kind in _PLAIN:
        return value
    if kind is int:
        if value in INT64:
            return value
        return [Term.BIGINT, value.to_bytes(value.bit_length() // 8 + 1, "big", signed=True)]
    if kind is float:
        if math.isnan(value):
            raise NotStorable("a NaN, which equals nothing")
        return value
    if kind is complex:
        return [Term.COMPLEX, value.real, value.imag]
    if kind in _SEQUENCES:
        return [_SEQUENCES[kind], *(term_of(item, identity) for item in value)]
    if kind in (set, frozenset):
        items = sorted((term_of(item, identity) for item in value), key=pack)
        return [Term.SET if kind is set else Term.FROZENSET, *items]
    if kind is dict:
        return [Term.DICT, *(term_of(part, identity) for pair in value.items() for part in pair)]
    if kind in (slice, range):
        ends = [term_of(part, identity) for part in (value.start, value.stop, value.step)]
        return [Term.SLICE if kind is slice else Term.RANGE, *ends]
    if kind in _TORCH:
        return [Term.TORCH, repr(value).removeprefix("torch.")]
    if kind is torch.device:
        return [Term.DEVICE, value.type, value.index]
    if value is ...:
        return [Term.ELLIPSIS]
    if value is NotImplemented:
        return [Term.NOT_IMPLEMENTED]
    if isinstance(value, enum.Enum):
        if kind.__members__.get(value.name) is not value:
            raise NotStorable(f"a {path_of(kind)} that is no plain member")
        return [Term.ENUM, identity(kind), value.name]
    if isinstance(value, type | types.FunctionType | types.BuiltinFunctionType | types.ModuleType):
        return [Term.IDENTITY, identity(value)]
    numpy = sys.modules.get("numpy")
    if numpy is not None and isinstance(value, numpy.generic) and not value.dtype.hasobject:
        return [Term.NUMPY, value.dtype.str, value.tobytes()]
    raise NotStorable(f"a value of type {path_of(kind)}")


def value_of(term: Any, identity: Callable[[int], Any]) -> Any:
    """Return the value of a term.

    Args:
        term: checked by the codec.
        identity: returns the object at a position.

    Raises:
        ValueError, TypeError, LookupError: the term has no value here.
    """
    if type(term) is not list:
        return term
    tag, *items = term
    if tag == Term.IDENTITY:
        return identity(items[0])
    if tag == Term.ENUM:
        return identity(items[0]).__members__[items[1]]
    if tag == Term.BIGINT:
        return int.from_bytes(items[0], "big", signed=True)
    if tag == Term.TORCH:
        value = torch.__dict__[items[0]]
        if type(value) not in _TORCH:
            raise ValueError(items[0])
        return value
    if tag == Term.DEVICE:
        return torch.device(items[0]) if items[1] is None else torch.device(items[0], items[1])
    if tag == Term.NUMPY:
        import numpy

        dtype = numpy.dtype(items[0])
        if dtype.hasobject:
            raise ValueError(items[0])
        return numpy.frombuffer(items[1], dtype, 1)[0]
    if tag == Term.COMPLEX:
        return complex(*items)
    items = [value_of(item, identity) for item in items]
    if tag == Term.DICT:
        return dict(zip(items[::2], items[1::2], strict=True))
    if tag in (Term.SLICE, Term.RANGE):
        return (slice if tag == Term.SLICE else range)(*items)
    return _MAKE[tag](items)


_MAKE: Final[dict[int, Callable[[list[Any]], Any]]] = {
    Term.TUPLE: tuple,
    Term.LIST: list,
    Term.SET: set,
    Term.FROZENSET: frozenset,
    Term.SIZE: torch.Size,
    Term.KEYS: lambda items: dict.fromkeys(items).keys(),
    Term.ELLIPSIS: lambda _: ...,
    Term.NOT_IMPLEMENTED: lambda _: NotImplemented,
}


def same_value(first: Any, second: Any) -> bool:
    """Tell whether a value survived the round trip."""
    try:
        return type(first) is type(second) and bool(first == second)
    except Exception:  # a user-defined comparison
        return False
