"""Convert named tuples to lists and back, checking each field's type against its annotation.

Trailing fields with default values are omitted, so that a class can gain fields.
"""

from __future__ import annotations

import enum
import functools
import types
from typing import Any, get_args, get_origin

from firebrick.errors import DecodeError


def plain(value: Any) -> Any:
    """Return a value with tuples as lists and enumerations as their numbers."""
    if isinstance(value, list | tuple):
        end = len(value)
        defaults = getattr(value, "_field_defaults", None)
        if defaults:
            fields = value._fields  # type: ignore[union-attr]
            while end and fields[end - 1] in defaults and value[end - 1] == defaults[fields[end - 1]]:
                end -= 1
        return [plain(item) for item in value[:end]]
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
    """Rebuild a field's value, checking its type."""
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
    """Rebuild a named tuple from the list of its fields; raise DecodeError on a wrong type."""
    hints, defaults = _hints(cls), cls._field_defaults
    least = len(hints) - len(defaults)
    if type(values) is not list or not least <= len(values) <= len(hints):
        raise DecodeError(f"these are not the {len(hints)} fields of a {cls.__name__}")
    made = cls(*map(typed, values, hints))
    if len(values) > least and made[len(values) - 1] == defaults[cls._fields[len(values) - 1]]:
        raise DecodeError(f"a field at the end of a {cls.__name__} that says nothing")
    return made
