"""Evaluate the text of a guard against a frame, to report what it compares; never to decide anything.

A closed language of attributes, items, comparisons and a few functions of Python and of tensors. No user code
is run: properties, ``__getattr__`` and methods of user classes have no value here.
"""

from __future__ import annotations

import ast
import inspect
import itertools
import operator
import types
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Mapping
from typing import Any, Final

import torch

Scopes = Mapping[str, Any]  # "L" and "G" -> locals and globals

_COMPARE: Final[Mapping[type, Callable[[Any, Any], Any]]] = {
    ast.Eq: operator.eq, ast.NotEq: operator.ne, ast.Lt: operator.lt, ast.LtE: operator.le,
    ast.Gt: operator.gt, ast.GtE: operator.ge, ast.Is: operator.is_, ast.IsNot: operator.is_not,
    ast.In: lambda a, b: a in b, ast.NotIn: lambda a, b: a not in b,
}  # fmt: skip
_BINARY: Final[Mapping[type, Callable[[Any, Any], Any]]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod, ast.Div: operator.truediv,
}  # fmt: skip
_FUNCTIONS: Final[Mapping[str, Callable[..., Any]]] = {
    "len": len, "type": type, "str": str, "list": list, "tuple": tuple, "set": set,
    "frozenset": frozenset, "int": int, "float": float, "bool": bool, "max": max, "min": min, "range": range,
}  # fmt: skip
_METHODS: Final = frozenset(
    {"size", "stride", "storage_offset", "dim", "numel", "ndimension", "is_contiguous"}
)
_CONTAINERS: Final = (dict, list, tuple, set, frozenset, OrderedDict, defaultdict, str, torch.Size, range)
_VALUES: Final = (
    *_CONTAINERS, type(None), bool, int, float, complex, bytes, type(...), torch.dtype, torch.device,
    torch.layout, types.FunctionType, types.ModuleType, type,
)  # fmt: skip
_SLOTS: Final = (types.GetSetDescriptorType, types.MemberDescriptorType)
_ABSENT: Final = object()


class NoValue(Exception):
    """A text has no value here: it is outside the language, or leads nowhere."""


def parsed(text: str) -> ast.expr:
    """Return the syntax tree of an expression.

    Raises:
        NoValue: it is not an expression.
    """
    try:
        return ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError) as error:
        raise NoValue(text) from error


def reads(node: ast.expr) -> bool:
    """Tell whether an expression reads the frame at all."""
    return any(isinstance(inner, ast.Name) and inner.id in ("L", "G") for inner in ast.walk(node))


def value_of(node: ast.expr, scopes: Scopes) -> Any:
    """Return the value of an expression.

    Raises:
        NoValue: it has none here.
    """
    try:
        return _value(node, scopes)
    except NoValue:
        raise
    except Exception as error:  # values that cannot be compared, missing indices
        raise NoValue(f"{type(error).__name__}: {error}") from error


def _value(node: ast.expr, scopes: Scopes) -> Any:
    match node:
        case ast.Constant(value):
            return value
        case ast.Name(name) if name in scopes:
            return scopes[name]
        case ast.Attribute(owner, name):
            return _attribute(_value(owner, scopes), name)
        case ast.Subscript(owner, index):
            return _item(_value(owner, scopes), _value(index, scopes))
        case ast.Tuple(items):
            return tuple(_value(item, scopes) for item in items)
        case ast.List(items):
            return [_value(item, scopes) for item in items]
        case ast.Set(items):
            return {_value(item, scopes) for item in items}
        case ast.UnaryOp(ast.Not(), inner):
            return not _plain(_value(inner, scopes))
        case ast.UnaryOp(ast.USub(), inner):
            return -_plain(_value(inner, scopes))
        case ast.BinOp(left, op, right) if type(op) in _BINARY:
            return _BINARY[type(op)](*(_plain(_value(side, scopes)) for side in (left, right)))
        case ast.BoolOp(op, inner):
            results = (bool(_plain(_value(part, scopes))) for part in inner)
            return all(results) if isinstance(op, ast.And) else any(results)
        case ast.Compare(left, ops, rights):
            sides = [_value(side, scopes) for side in (left, *rights)]
            return all(
                _COMPARE[type(op)](*pair) if isinstance(op, ast.Is | ast.IsNot) else _compared(op, *pair)
                for op, pair in zip(ops, itertools.pairwise(sides), strict=True)
            )
        case ast.Call(function, arguments, []):
            return _call(function, arguments, scopes)
    raise NoValue(type(node).__name__)


def _compared(op: ast.cmpop, left: Any, right: Any) -> bool:
    return bool(_COMPARE[type(op)](_plain(left), _plain(right)))


def _plain(value: Any) -> Any:
    """Return a value whose comparisons run no user code."""
    if type(value) not in _VALUES and not (type(value).__module__ == "numpy" and hasattr(value, "dtype")):
        raise NoValue(f"a {type(value).__qualname__} object")
    return value


def _call(function: ast.expr, arguments: list[ast.expr], scopes: Scopes) -> Any:
    match function:
        case ast.Name("___dict_contains"):
            key, mapping = (_value(argument, scopes) for argument in arguments)
            return dict.__contains__(mapping, _plain(key))
        case ast.Attribute(ast.Name("dict"), "keys" | "values" | "items" as view):
            return getattr(dict, view)(_value(arguments[0], scopes))
        case ast.Name("type"):
            return type(_value(arguments[0], scopes))
        case ast.Name("list" | "tuple" | "len" as name):
            value = _value(arguments[0], scopes)
            if isinstance(value, dict):
                value = dict.keys(value)
            if isinstance(value, torch.nn.Module):
                raise NoValue("a module")
            plain = isinstance(value, type({}.keys()) | type({}.values()) | type({}.items()))
            return _FUNCTIONS[name](value if plain else _plain(value))
        case ast.Name(name) if name in _FUNCTIONS:
            return _FUNCTIONS[name](*(_plain(_value(argument, scopes)) for argument in arguments))
        case ast.Attribute(owner, name) if name in _METHODS:
            value = _value(owner, scopes)
            if type(value) in (torch.Tensor, torch.nn.Parameter) or type(value).__name__ == "FakeTensor":
                return getattr(value, name)(*(_value(argument, scopes) for argument in arguments))
    raise NoValue("a call")


def _attribute(owner: Any, name: str) -> Any:
    if isinstance(owner, torch.nn.Module):
        for group in ("_parameters", "_buffers", "_modules"):
            found = vars(owner).get(group, {}).get(name, _ABSENT)
            if found is not _ABSENT:
                return found
    found = inspect.getattr_static(owner, name, _ABSENT)
    if found is _ABSENT:
        raise NoValue(f"no attribute {name}")
    if isinstance(found, _SLOTS):
        return found.__get__(owner, type(owner))
    if isinstance(found, staticmethod):
        return found.__func__
    in_class = not isinstance(owner, types.ModuleType) and name not in getattr(owner, "__dict__", ())
    if in_class and not isinstance(found, types.FunctionType) and hasattr(type(found), "__get__"):
        raise NoValue(f"attribute {name} is computed")
    return found


def _item(owner: Any, index: Any) -> Any:
    if isinstance(owner, dict):
        return dict.__getitem__(owner, index)
    if isinstance(owner, list | tuple) or type(owner) in _CONTAINERS:
        kind: Any = next(base for base in (list, tuple, type(owner)) if isinstance(owner, base))
        return kind.__getitem__(owner, index)
    if isinstance(owner, Mapping) and type(owner).__module__ in (
        "builtins",
        "torch",
    ):  # views of a frame's locals
        return owner[index]
    raise NoValue(f"an item of a {type(owner).__qualname__} object")
