"""Describe a guarded object so that another process can tell whether it has the same one.

An object without a name is recognised where the program reaches it, by its class and state. Finer than
`firebrick.guards.identity`: a function includes its defaults and closure, a class all functions of its bases.
Packages that the platform pins (torch, the standard library) are digested more coarsely. Imports nothing of
torch's compiler.
"""

from __future__ import annotations

import enum
import functools
import sys
import types
from typing import Any, Final

import torch

from firebrick.base.digest import Hasher
from firebrick.codecs.code import code_digest
from firebrick.errors import EncodeError, NotStorable
from firebrick.guards.object_state import state_of
from firebrick.torch_api import native
from firebrick.torch_api.compiler_free import is_triton_kernel, plain_form

Identity = tuple[str, str, str]  # kind, name, digest in hexadecimal or empty

# Not Triton: the lane does not need it, so if a guard looks at it the program has imported it.
COMPILER: Final = ("torch._dynamo", "torch._inductor", "sympy")
_PINNED: Final = frozenset({"torch", "builtins", *sys.stdlib_module_names})
_SINGLETONS: Final = {
    "None": None,
    "True": True,
    "False": False,
    "...": ...,
    "NotImplemented": NotImplemented,
}
_TORCH: Final = (torch.dtype, torch.layout, torch.memory_format)
_BUILTINS: Final = (
    types.BuiltinFunctionType,
    types.MethodDescriptorType,
    types.WrapperDescriptorType,
    types.ClassMethodDescriptorType,
    types.GetSetDescriptorType,
    types.MemberDescriptorType,
)
_OPERATORS: Final = native.OPERATOR_CLASSES
_CAPSULE: Final = native.CAPSULE
_ATOMS: Final = (type(None), bool, int, float, complex, str, bytes, types.EllipsisType)
# Python types that builtins does not hold under their names.
_NAMELESS: Final[dict[str, type]] = {
    f"builtins:{cls.__name__}": cls
    for cls in (
        *(value for value in vars(types).values() if isinstance(value, type)),
        *map(
            type, ({}.keys(), {}.values(), {}.items(), iter(()), iter([]), iter({}), iter(range(0)), iter(""))
        ),
    )
    if cls.__module__ == "builtins"
}
_REPLACED: Final = ("__init__", "__setstate__")  # of nn.Module, by Dynamo (mutation_guard.py)
_DEPTH: Final = 8  # of functions in closures, and of nested objects
OBJECT: Final = "object"  # kind of an object without a name: its class and state


class Describer:
    """A describer of objects that caches class digests; use one per build."""

    def __init__(self) -> None:
        self._bases: dict[type, bytes] = {}
        self._inside: set[int] = set()  # objects being described

    def describe(self, value: Any, depth: int = 0) -> Identity:
        """Return the identity of an object.

        Raises:
            NotStorable: name and code do not tell the object from others.
        """
        for name, singleton in _SINGLETONS.items():
            if value is singleton:
                return "constant", name, ""
        kind = type(value)
        if kind in _TORCH:
            return "torch", repr(value).removeprefix("torch."), ""
        if isinstance(value, types.ModuleType):
            return "module", value.__name__, ""
        if kind is types.CodeType:
            return "code", value.co_name, _code(value).hex()
        if kind is types.FunctionType:
            return "function", path_of(value), self._function(value, depth).hex()
        if isinstance(value, type):
            return "class", path_of(value), self._class(value).hex()
        if isinstance(value, enum.Enum):
            return "member", f"{path_of(kind)}.{value.name}", self._class(kind).hex()
        if isinstance(value, _BUILTINS) and (builtin := _builtin_name(value)):
            return "builtin", builtin, ""
        if isinstance(value, _OPERATORS):
            return "operator", f"{kind.__name__}:{value}", ""
        if isinstance(value, functools._lru_cache_wrapper) and isinstance(
            value.__wrapped__, types.FunctionType
        ):
            return "cached", path_of(value), self._function(value.__wrapped__, depth).hex()
        if is_triton_kernel(value):
            return "kernel", path_of(value), triton_digest(value)
        return OBJECT, path_of(kind), self._object(value, depth).hex()

    def _object(self, value: Any, depth: int) -> bytes:
        kind = type(value)
        state = state_of(value) if depth <= _DEPTH and id(value) not in self._inside else None
        if state is None:
            raise NotStorable(f"identity of a {path_of(kind)} object")
        hasher = Hasher(self._class(kind))
        self._inside.add(id(value))
        try:
            self._value(state, hasher, depth + 1)
        finally:
            self._inside.discard(id(value))
        return hasher.digest()

    def _function(self, function: types.FunctionType, depth: int) -> bytes:
        if depth > _DEPTH:
            raise NotStorable(f"identity of {path_of(function)}, which closes over itself")
        function, marks = plain_form(function)
        hasher = Hasher(_code(function.__code__))
        hasher.update(marks.encode())
        for part in (function.__defaults__, function.__kwdefaults__):
            self._value(part, hasher, depth + 1)
        for cell in function.__closure__ or ():
            try:
                self._value(cell.cell_contents, hasher, depth + 1)
            except ValueError:
                hasher.update(b"empty cell")
        return hasher.digest()

    def _value(self, value: Any, hasher: Any, depth: int) -> None:
        kind = type(value)
        hasher.update(f"{kind.__module__}:{kind.__qualname__}(".encode())
        if kind in _ATOMS:
            hasher.update(repr(value).encode("utf-8", "surrogatepass"))
        elif kind in (tuple, list):
            for item in value:
                self._value(item, hasher, depth)
        elif kind in (set, frozenset):
            parts = []
            for item in value:
                self._value(item, inner := Hasher(), depth)
                parts.append(inner.digest())
            hasher.update(b"".join(sorted(parts)))
        elif kind is dict:
            for key, item in value.items():
                self._value(key, hasher, depth)
                self._value(item, hasher, depth)
        elif isinstance(value, torch.device):
            hasher.update(repr(value).encode())
        else:
            try:
                identity = self.describe(value, depth)
            except NotStorable:
                looked_into = is_pinned(kind.__module__) and not self._inside
                attributes = getattr(value, "__dict__", None) if looked_into else None
                if depth > _DEPTH or kind is types.MethodType or type(attributes) is not dict:
                    if kind is not types.MethodType:
                        raise NotStorable(f"what holds a {path_of(kind)} object") from None
                    self._value(value.__func__, hasher, depth + 1)
                    self._value(value.__self__, hasher, depth + 1)
                else:
                    self._value(attributes, hasher, depth + 1)
            else:
                hasher.update("\0".join(identity).encode("utf-8", "surrogatepass"))
        hasher.update(b")")

    def _class(self, cls: type) -> bytes:
        hasher = Hasher()
        for base in cls.__mro__:
            digest = self._bases.get(base)
            if digest is None:
                digest = self._bases[base] = _own(base)
            hasher.update(digest)
        return hasher.digest()


def _builtin_name(value: Any) -> str | None:
    """Return the name of a builtin function or descriptor; None for a method of an instance."""
    if (owner := getattr(value, "__objclass__", None)) is None:
        owner = getattr(value, "__self__", None)
    if isinstance(owner, type):
        return f"{path_of(owner)}.{value.__name__}"
    if isinstance(owner, _CAPSULE):  # of pybind11
        return f"{value.__module__}:{value.__name__}"
    if owner is None or isinstance(owner, types.ModuleType):
        return path_of(value)
    return None


def _own(cls: type) -> bytes:
    """Digest the functions a class itself defines.

    Of classes the platform pins, only the name: Dynamo replaces functions of some when it starts.
    """
    hasher = Hasher(path_of(cls).encode())
    if is_pinned(cls.__module__):
        return hasher.digest()
    for name, member in cls.__dict__.items():
        if cls is torch.nn.Module and name in _REPLACED:
            continue
        function = member
        if type(member) is not types.FunctionType:
            function = getattr(member, "__func__", None) or getattr(member, "fget", None)
            function = function or getattr(member, "func", None)
            if type(function) is not types.FunctionType:
                continue
        hasher.update(name.encode("utf-8", "surrogatepass"))
        _method(function, hasher, _DEPTH)
    return hasher.digest()


def _method(function: types.FunctionType, hasher: Any, depth: int) -> None:
    """Digest a function of a class: its code and, as far as possible, its defaults and closure.

    Of other classes, only the names, so that the digest does not depend on its starting point.
    """
    function, marks = plain_form(function)
    hasher.update(_code(function.__code__))
    hasher.update(marks.encode())
    values: list[Any] = [function.__defaults__, function.__kwdefaults__]
    for cell in function.__closure__ or ():
        try:
            values.append(cell.cell_contents)
        except ValueError:
            values.append("empty")
    for value in values:
        _part(value, hasher, depth)


def _part(value: Any, hasher: Any, depth: int) -> None:
    kind = type(value)
    hasher.update(f"{path_of(kind)}(".encode())
    if kind in _ATOMS:
        hasher.update(repr(value).encode("utf-8", "surrogatepass"))
    elif kind in (tuple, list, dict):
        for item in value.items() if kind is dict else value:
            _part(item, hasher, depth)
    elif isinstance(value, type | types.BuiltinFunctionType):
        hasher.update(path_of(value).encode())
    elif kind is types.FunctionType:
        hasher.update(path_of(value).encode())
        if depth:
            _method(value, hasher, depth - 1)
    hasher.update(b")")


def _code(code: types.CodeType) -> bytes:
    try:
        return code_digest(code)
    except EncodeError as error:
        raise NotStorable(f"the code of {code.co_qualname}: {error}") from error


def triton_digest(kernel: Any) -> str:
    """Return Triton's own digest of a kernel: its source, the kernels it calls, the globals it uses.

    Raises:
        NotStorable: Triton cannot make it.
    """
    try:
        return str(kernel.cache_key)
    except Exception as error:  # it reads the source, and any globals of the program
        raise NotStorable(f"digest of the Triton kernel {path_of(kernel)}: {error}") from error


def path_of(value: Any) -> str:
    """Return ``module:qualified name`` of an object."""
    return f"{getattr(value, '__module__', None)}:{value.__qualname__}"


def is_pinned(module: str | None) -> bool:
    """Tell whether the facts of the platform fix the code of a module."""
    return module is not None and module.partition(".")[0] in _PINNED


def of_compiler(module: str) -> bool:
    """Tell whether the lean lane must not import a module."""
    return module.startswith(COMPILER) and any(
        module == name or module.startswith(name + ".") for name in COMPILER
    )


def compiler_behind(attribute: str, source: str) -> str | None:
    """Return the compiler module that torch imports when this attribute of torch is read.

    Args:
        attribute: its name.
        source: where a guard finds the attribute.
    """
    name = f"torch.{attribute}"
    return name if of_compiler(name) and source.endswith(name) else None


def find(kind: str, name: str) -> Any:
    """Return the object of a name among the imported modules. Runs no user code.

    Raises:
        LookupError: there is none.
    """
    if kind == "constant":
        return _SINGLETONS[name]
    if kind == "torch":
        return torch.__dict__[name]
    if kind == "module":
        return sys.modules[name]
    if kind == "class" and name in _NAMELESS:
        return _NAMELESS[name]
    module, _, qualname = name.partition(":")
    names = qualname.split(".")
    found: Any = sys.modules[module]
    for part in names if kind != "member" else names[:-1]:
        if isinstance(found, types.ModuleType):
            found = found.__dict__[part]
        elif isinstance(found, type):
            found = next(base.__dict__[part] for base in found.__mro__ if part in base.__dict__)
            found = found.__func__ if type(found) in (staticmethod, classmethod) else found
        else:
            raise LookupError(name)
    if kind == "member":
        return found.__members__[names[-1]]
    return found
