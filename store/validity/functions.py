"""The part of a walk that visits functions: their code, defaults, closures, attributes and globals."""

from __future__ import annotations

import functools
import os
import sys
import types
from collections.abc import Mapping
from typing import Any, Final

from firebrick.base.shipped import code_key, is_own, is_pinned, is_static
from firebrick.errors import NotStorable
from firebrick.torch_api.compiler_free import DISABLED_FORM, ORIGINAL, undisabled
from firebrick.validity.classes import Classes
from firebrick.validity.code_facts import CodeFacts, code_facts, nested, written
from firebrick.validity.exact import exact

BUILTINS: Final = (
    types.BuiltinFunctionType,
    types.MethodDescriptorType,
    types.WrapperDescriptorType,
    types.MethodWrapperType,
    types.ClassMethodDescriptorType,
    types.GetSetDescriptorType,
    types.MemberDescriptorType,
)
_MARKS: Final = frozenset(
    {"_torchdynamo_disable", "_torchdynamo_disable_recursive", "_dynamo_marked_constant", "_dynamo_forbidden"}
)

# Modules of torch that exist as soon as torch does, and that programs reach as its attributes. Others may
# have been imported by the compiler, and are visited only if the program itself imported them.
_OF_PROGRAMS: Final = (
    "torch.nn", "torch.special", "torch.linalg", "torch.fft", "torch.func", "torch.autograd", "torch.amp",
    "torch.cuda", "torch.cpu", "torch.random", "torch.sparse", "torch.distributions", "torch.overrides",
    "torch.utils.checkpoint",
)  # fmt: skip
_ENVIRONMENT: Final = (os.environ, os.environb, os.getenv, os.getenvb)


class Functions(Classes):
    """The walk's visitor of functions and of objects that hold one."""

    def function(self, path: str, function: types.FunctionType) -> None:
        """Record a function: code, defaults, closure and attributes; if it was traced, its globals too."""
        self.see(function, path)
        marks, plain = [], function
        for _ in range(8):  # a wrapper that holds the function
            attributes = vars(plain)
            if is_own(plain.__code__) and ORIGINAL not in attributes and "__wrapped__" in attributes:
                inner = attributes["__wrapped__"]
            elif (inner := undisabled(plain)) is not plain:
                recursive = attributes.get("_torchdynamo_disable_recursive", True)
                marks.append("disabled" if recursive else "disabled, not recursively")
            elif ORIGINAL in attributes:
                marks.append("compiled")
                inner = attributes[ORIGINAL]
            else:
                break
            if type(inner) is not types.FunctionType:
                self.note(path, " ".join(marks))
                self.add(f"{path}.original", inner)
                return
            plain = inner
        if plain is not function:
            if marks:
                self.note(path, " ".join(marks))
            self.add(path if not marks else f"{path}.original", plain)
            return
        facts = code_facts(function.__code__)
        self.codes.update((facts.digest, *facts.nested))
        if self.whole and ":" not in facts.digest:
            self.met.append(function.__code__)
        shipped = ":" in facts.digest
        if not shipped:
            self.note(path, f"function {function.__module__}:{function.__qualname__}, code {facts.digest}")
        elif not _is_in_place(path, function.__code__):
            self.note(path, f"function {facts.digest}")
        self._state(path, function, shipped=shipped)
        if facts.digest in self.scope.codes or (self.whole and not shipped):
            module = str(function.__globals__.get("__name__", ""))
            self.follow(facts, function.__globals__, module)
            if facts.digest in self.scope.run:
                self.runs(path, function)
            self.run_inside(function.__code__, function.__globals__, module)

    def _state(self, path: str, function: types.FunctionType, *, shipped: bool) -> None:
        """Record a function's state besides its code."""
        silent = shipped and not path.startswith("class ")
        for number, value in enumerate(() if silent else function.__defaults__ or ()):
            self.add(f"{path}.__defaults__[{number}]", value, whole=True)
        for name, value in ({} if silent else function.__kwdefaults__ or {}).items():
            self.add(f"{path}.__kwdefaults__[{name!r}]", value, whole=True)
        own_state = written(function.__code__) if shipped and function.__closure__ else ()
        for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=False):
            if name not in own_state:
                self.cell(f"{path} closure {name}", cell)
        for name, value in vars(function).items():
            if name == DISABLED_FORM and shipped and undisabled(value) is function:
                continue  # torch keeps it there from the first call on
            if name in _MARKS or name == "__wrapped__" or name in self.scope.names:
                self.add(f"{path}.{name}", value, whole=True)
        if "__annotations__" in self.scope.names and not shipped:
            self.add(f"{path}.__annotations__", getattr(function, "__annotations__", None), whole=True)

    def cell(self, path: str, cell: types.CellType) -> None:
        """Record the content of a cell."""
        try:
            self.add(path, cell.cell_contents, whole=True)
        except ValueError:
            self.note(path, "empty")

    def follow(self, facts: CodeFacts, scope: Mapping[str, Any], module: str) -> None:
        """Visit the globals that code loads; an absent one is a builtin, or nothing."""
        builtins = scope.get("__builtins__", {})
        builtins = vars(builtins) if isinstance(builtins, types.ModuleType) else builtins
        shipped = ":" in facts.digest
        for name in facts.globals:
            if name in scope:  # in torch's own tables and objects, only entries the program may have added
                if not shipped or self.is_patched(module, name, scope[name]):
                    self.named(f"{module}.{name}", scope[name])
            elif name in builtins:
                value = builtins[name]
                if not (isinstance(value, type | types.BuiltinFunctionType) and value.__name__ == name):
                    self.add(f"builtins.{name}", value)
        for name in facts.imports:
            if (found := sys.modules.get(name)) is not None:
                self.add(f"import {name}", found)

    def run_inside(self, code: types.CodeType, scope: Mapping[str, Any], module: str) -> None:
        """Record everything run by functions defined inside a function, if Python ran them untraced."""
        for inner in nested(code) if self.scope.run else ():
            if inner is not code and code_facts(inner).digest in self.scope.run:
                cells = tuple(types.CellType() for _ in inner.co_freevars)
                made = types.FunctionType(inner, dict(scope), inner.co_name, None, cells)
                self.runs(f"{module}.{inner.co_qualname}", made)

    def is_patched(self, module: str, attribute: str, value: Any) -> bool:
        """Tell whether to visit an attribute of a module of torch or Python."""
        kind = type(value)
        self.refuse_environment(value)
        if kind is types.ModuleType:
            return value.__name__.startswith(_OF_PROGRAMS) or not module.startswith("torch")
        if kind is types.FunctionType:
            if module.startswith("torch.optim.") and attribute.startswith("_fused_"):
                value = undisabled(value)  # by Dynamo, when it is imported (`TorchPatcher`)
            own = is_own(value.__code__)
            return own or value.__code__.co_name != attribute or not code_key(value.__code__)
        if issubclass(kind, type):
            return not is_static(value)
        if is_pinned(kind.__module__) and not issubclass(kind, BUILTINS):
            text = exact(value) if self.whole else None
            self.note(f"{module}.{attribute}", text or f"a {kind.__qualname__}")
            return False
        return True

    def refuse_environment(self, value: Any) -> None:
        """Refuse the environment within reach of code that the compiler runs: what that reads is not seen.

        Raises:
            NotStorable: the value is the environment, or reads it.
        """
        if self.whole and any(value is one for one in _ENVIRONMENT):
            raise NotStorable("code that the compiler runs untraced can read the environment")

    def builtin(self, path: str, value: Any) -> None:
        """Record a function or descriptor written in C whose name does not match its place."""
        name = getattr(value, "__name__", "")
        owner = getattr(value, "__self__", None)
        if type(value) is types.BuiltinFunctionType and not (
            owner is None or isinstance(owner, types.ModuleType | type) or is_pinned(type(owner).__module__)
        ):
            self.add(f"{path}.__self__", owner)
        if path.rpartition(".")[2] != name:
            self.note(
                path,
                f"is builtin {getattr(value, '__module__', None)}:{getattr(value, '__qualname__', name)}",
            )

    def descriptor(self, path: str, value: Any) -> bool:
        """Visit the content of a descriptor; tell whether it is one."""
        kind = type(value)
        if kind in (staticmethod, classmethod):
            self.add(path, value.__func__, whole=True)
        elif kind is property:
            for name in ("fget", "fset", "fdel"):
                if (function := getattr(value, name)) is not None:
                    self.add(f"{path}.{name}" if name != "fget" else path, function, whole=True)
        elif kind is functools.cached_property:
            self.add(path, value.func, whole=True)
        elif kind is functools.singledispatchmethod:
            self.add(path, value.dispatcher, whole=True)
        else:
            return False
        return True


def _is_in_place(path: str, code: types.CodeType) -> bool:
    """Tell whether a function of torch or Python is found under its own name."""
    if path.startswith("class "):
        return path.rpartition(":")[2] == code.co_qualname
    return path.rpartition(".")[2] == code.co_name
