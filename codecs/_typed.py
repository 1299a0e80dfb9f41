"""Turn named tuples into lists and back, checking the type of every field by its annotation."""

from __future__ import annotations

import enum
import functools
import types
from typing import Any, get_args, get_origin

from firebrick.errors import DecodeError


def plain(value: Any) -> Any:
    """Return a value with tuples as lists and enumerations as their numbers."""
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return int(value) if isinstance(value, enum.IntEnum) else value


@functools.cache
def _hints(cls: type) -> list[Any]:
    return [cls.__annotations__[name] for name in cls._fields]  # type: ignore[attr-defined]


def _argument(value: Any) -> Any:
    if value is None or type(value) in (bool, int, str):
        return value
    if type(value) is list and all(type(item) is int for item in value):
        return tuple(value)
    raise DecodeError(f"{value!r:.40} is no argument of a view")


def typed(value: Any, hint: Any) -> Any:
    """Rebuild a value of a field, checking its type."""
    if hint is Any:
        return _argument(value)
    if hasattr(hint, "_fields"):
        return rebuilt(hint, value)
    if isinstance(hint, type) and issubclass(hint, enum.IntEnum):
        if type(value) is not int or value not in hint._value2member_map_:
            raise DecodeError(f"{value!r:.20} is no {hint.__name__}")
        return hint(value)
    if get_origin(hint) is tuple:
        if type(value) is not list:
            raise DecodeError(f"expected a list, got {type(value).__name__}")
        items = get_args(hint)
        if items[-1] is Ellipsis:
            return tuple(typed(item, items[0]) for item in value)
        if len(items) != len(value):
            raise DecodeError(f"expected {len(items)} values, got {len(value)}")
        return tuple(map(typed, value, items))
    if isinstance(hint, types.UnionType):
        if value is None:
            return None
        return typed(value, next(item for item in get_args(hint) if item is not type(None)))
    if type(value) is not hint:
        raise DecodeError(f"expected {hint.__name__}, got {type(value).__name__}")
    return value


def rebuilt(cls: Any, values: Any) -> Any:
    """Rebuild a named tuple from the list of its fields; DecodeError where a type is another."""
    hints = _hints(cls)
    if type(values) is not list or len(values) != len(hints):
        raise DecodeError(f"these are not the {len(hints)} fields of a {cls.__name__}")
    return cls(*map(typed, values, hints))
