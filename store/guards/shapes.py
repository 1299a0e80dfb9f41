"""The closed language of guards over symbolic shapes and aliasing, which torch writes as Python source.

A guard is a list of statements: ``_var0 = expression`` and ``if not (expression): return False``. Expressions
read the frame's locals ``L`` and globals ``G``, their attributes and items, and a closed table of functions.
Text is checked when it is recorded and again before it is compiled.
"""

from __future__ import annotations

import ast
import collections
import math
import re
import sys
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any, Final

import torch

from firebrick.guards.identity_guards import is_pinned, of_compiler
from firebrick.torch_api import native

_VARIABLE: Final = r"_var\d+"
_METHODS: Final = frozenset({"size", "stride", "storage_offset", "item", "dim", "numel"})
_MATH: Final = frozenset(
    {"ceil", "floor", "trunc", "sqrt", "log", "log2", "exp", "pow", "isnan", "inf", "isinf", "nan"}
)
_DICT: Final = frozenset({"keys", "values", "items"})
_DUNDERS: Final = frozenset(
    {
        "__dict__",
        "__closure__",
        "__defaults__",
        "__kwdefaults__",
        "__code__",
        "__func__",
        "__self__",
        "__class__",
    }
)
_NODES: Final = (
    ast.Expression, ast.BoolOp, ast.And, ast.Or, ast.BinOp, ast.UnaryOp, ast.Not, ast.USub, ast.UAdd,
    ast.Invert, ast.Add, ast.Sub, ast.Mult, ast.Div, ast.FloorDiv, ast.Mod, ast.Pow, ast.BitAnd, ast.BitOr,
    ast.BitXor, ast.LShift, ast.RShift, ast.Compare, ast.Eq, ast.NotEq, ast.Lt, ast.LtE, ast.Gt, ast.GtE,
    ast.Is, ast.IsNot, ast.In, ast.NotIn, ast.IfExp, ast.Call, ast.Attribute, ast.Subscript, ast.Slice,
    ast.Name, ast.Load, ast.Constant, ast.Tuple, ast.List,
)  # fmt: skip
_CONSTANTS: Final = (type(None), bool, int, float, str)


class NotInLanguage(ValueError):
    """A guard's source says something the closed language cannot express."""


def from_numpy(value: Any) -> Any:
    """Return the tensor over a NumPy array or scalar; anything else unchanged."""
    numpy = sys.modules.get("numpy")
    if numpy is None or not isinstance(value, numpy.generic | numpy.ndarray):
        return value
    with native.enable_torch_function():
        return torch.as_tensor(value)


def _module(name: str) -> Any:
    return sys.modules[name]


_FUNCTIONS: Final[dict[str, Any]] = {
    "dict": dict, "___module": _module,
    "max": max, "min": min, "abs": abs, "int": int, "float": float, "bool": bool, "len": len,
    "list": list, "type": type, "__math_isnan": math.isnan, "___from_numpy": from_numpy,
    "___as_tensor": native.as_tensor_fullprec,
    "___dict_contains": lambda key, mapping: dict.__contains__(mapping, key),
    "___odict_getitem": collections.OrderedDict.__getitem__,
}  # fmt: skip
_NAMES: Final = {**_FUNCTIONS, "math": math, "inf": math.inf}


def canonical(body: str, compiler: Mapping[str, Any]) -> tuple[str, set[str]]:
    """Return the canonical text of a guard's statements, and the globals it reads.

    Args:
        body: Python source.
        compiler: globals that are compiler modules. Modules they import are named directly, so that the guard
            does not need the compiler.

    Raises:
        NotInLanguage: naming the construct.
    """
    if "__import__" in body:
        body = ast.unparse(ast.fix_missing_locations(_WithoutImports().visit(ast.parse(body))))
    tree = ast.fix_missing_locations(_WithoutCompiler(compiler).visit(_parse(body)))
    text = ast.unparse(tree)
    read = {
        node.slice.value
        for node in ast.walk(_parse(text))
        if isinstance(node, ast.Subscript)
        and isinstance(node.value, ast.Name)
        and node.value.id == "G"
        and isinstance(node.slice, ast.Constant)
    }
    return text, {str(name) for name in read}


class _WithoutImports(ast.NodeTransformer):
    """A transformer of ``__import__('torch')`` into the imported module."""

    def visit_Call(self, node: ast.Call) -> Any:
        match node:
            case ast.Call(ast.Name("__import__"), [ast.Constant(str(name))], []) if (
                is_pinned(name) and "." not in name
            ):
                return ast.Call(ast.Name("___module", ast.Load()), [ast.Constant(name)], [])
        return self.generic_visit(node)


class _WithoutCompiler(ast.NodeTransformer):
    """A transformer of ``G['a module of the compiler'].name`` into the module it denotes."""

    def __init__(self, compiler: Mapping[str, Any]) -> None:
        self._compiler = compiler
        self._variables: dict[str, Any] = {}

    def _owner(self, node: ast.expr) -> Any:
        if isinstance(node, ast.Name):
            return self._variables.get(node.id)
        if isinstance(node, ast.Subscript) and isinstance(node.value, ast.Name) and node.value.id == "G":
            return self._compiler.get(getattr(node.slice, "value", ""))
        return None

    def visit_Assign(self, node: ast.Assign) -> Any:
        if (owner := self._owner(node.value)) is not None and isinstance(node.targets[0], ast.Name):
            self._variables[node.targets[0].id] = owner
            return None
        return self.generic_visit(node)

    def visit_Attribute(self, node: ast.Attribute) -> Any:
        if (owner := self._owner(node.value)) is None:
            return self.generic_visit(node)
        value = getattr(owner, node.attr, None)
        home = value.__name__ if isinstance(value, ModuleType) else getattr(value, "__module__", None)
        if not isinstance(home, str) or not is_pinned(home) or of_compiler(home):
            raise NotInLanguage(f"{node.attr} of the compiler's {owner.__name__}")
        module = ast.Call(ast.Name("___module", ast.Load()), [ast.Constant(home)], [])
        if isinstance(value, ModuleType):
            return module
        name = getattr(value, "__name__", "")
        if not name.isidentifier() or getattr(sys.modules.get(home), name, None) is not value:
            raise NotInLanguage(f"{node.attr} of the compiler's {owner.__name__}")
        return ast.Attribute(module, name, ast.Load())  # a class or function, at its origin

    def visit_Subscript(self, node: ast.Subscript) -> Any:
        if (owner := self._owner(node)) is not None:
            raise NotInLanguage(f"the compiler's {owner.__name__}")
        return self.generic_visit(node)


def compile_guard(body: str, scope: dict[str, Any]) -> Callable[[Any], bool]:
    """Return a guard's statements as a function of a frame's locals.

    Args:
        body: from `canonical`; checked again.
        scope: the frame's globals.

    Raises:
        NotInLanguage: the body is anything else.
    """
    tree = _parse(body)
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    for call in calls:
        named = isinstance(call.func, ast.Name) and call.func.id == "___module"
        if named and (name := getattr(call.args[0], "value", None)) not in sys.modules:
            raise NotInLanguage(f"module {name}, which is not imported")
    function = ast.parse("def guard(L):\n    return True")
    definition: Any = function.body[0]
    definition.body[:0] = tree.body
    names: dict[str, Any] = {**_NAMES, "G": scope, "__builtins__": {}}
    exec(compile(ast.fix_missing_locations(function), "<guard>", "exec"), names)
    guard: Callable[[Any], bool] = names["guard"]
    return guard


def _parse(body: str) -> ast.Module:
    try:
        tree = ast.parse(body)
    except (SyntaxError, ValueError, RecursionError) as error:
        raise NotInLanguage(f"no Python: {error}") from None
    known: set[str] = set()
    callable_: set[str] = set()  # variables that hold a method
    for statement in tree.body:
        if isinstance(statement, ast.Assign):
            (target,) = statement.targets if len(statement.targets) == 1 else (None,)
            if not isinstance(target, ast.Name) or not re.fullmatch(_VARIABLE, target.id):
                raise NotInLanguage(ast.unparse(statement))
            _check(statement.value, known, callable_)
            known.add(target.id)
            if isinstance(statement.value, ast.Attribute) and _names_function(statement.value):
                callable_.add(target.id)
        elif isinstance(statement, ast.If) and _is_failure(statement):
            _check(statement.test, known, callable_)
        else:
            raise NotInLanguage(ast.unparse(statement)[:80])
    return tree


def _is_failure(statement: ast.If) -> bool:
    body = statement.body
    return (
        len(body) == 1
        and isinstance(body[0], ast.Return)
        and isinstance(body[0].value, ast.Constant)
        and body[0].value.value is False
        and not statement.orelse
    )


def _check(expression: ast.expr, known: set[str], callable_: set[str]) -> None:
    for node in ast.walk(expression):
        if not isinstance(node, _NODES):
            raise NotInLanguage(f"{type(node).__name__} in {ast.unparse(expression)[:80]}")
        if isinstance(node, ast.Constant) and type(node.value) not in _CONSTANTS:
            raise NotInLanguage(f"constant {node.value!r:.40}")
        if isinstance(node, ast.Name) and node.id not in {"L", "G", *_NAMES, *known}:
            raise NotInLanguage(f"name {node.id}")
        if isinstance(node, ast.Attribute):
            _check_attribute(node)
        if isinstance(node, ast.Subscript) and isinstance(node.value, ast.Name) and node.value.id in _NAMES:
            raise NotInLanguage(f"item of {node.value.id}")
        if isinstance(node, ast.Call) and not _may_call(node, callable_):
            raise NotInLanguage(f"call of {ast.unparse(node.func)[:80]}")


def _check_attribute(node: ast.Attribute) -> None:
    if isinstance(node.value, ast.Name) and node.value.id in ("math", "dict"):
        if node.attr not in (_MATH if node.value.id == "math" else _DICT):
            raise NotInLanguage(f"{node.value.id}.{node.attr}")
    elif node.attr.startswith("__") and node.attr not in _DUNDERS:
        raise NotInLanguage(f"attribute {node.attr}")


def _may_call(node: ast.Call, callable_: set[str]) -> bool:
    if node.keywords or any(isinstance(argument, ast.Starred) for argument in node.args):
        return False
    if isinstance(node.func, ast.Name):
        return node.func.id in _FUNCTIONS or node.func.id in callable_
    return isinstance(node.func, ast.Attribute) and _names_function(node.func)


def _names_function(node: ast.Attribute) -> bool:
    if isinstance(node.value, ast.Name) and node.value.id in ("math", "dict"):
        return True  # checked as an attribute
    return node.attr in _METHODS
