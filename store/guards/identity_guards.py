"""Say what a guarded object is so that another process can tell whether it has the same one.

What has no name is known again at the place where the program reaches it, by its class and all that it
holds. Finer than `firebrick.guards.identity`: a function is also its defaults and what it closes over, a
class all functions of its bases. Packages that the platform pins (torch, the standard library) are
digested more coarsely. Imports nothing of torch's compiler.
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
from firebrick.torch_api.compiler_free import is_triton_kernel, undisabled

Identity = tuple[str, str, str]  # kind, name, digest in hexadecimal or empty

# Not Triton: the lane needs none of it, so where a guard looks at it the program has imported it.
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
# Types of Python that builtins does not have under their names.
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
_DEPTH: Final = 8  # of functions that close over functions, and of objects in objects
OBJECT: Final = "object"  # kind of what has no name: its class and all that it holds


class Describer:
    """Describes objects; remembers the digests of classes, so use one for one build only."""

    def __init__(self) -> None:
        self._bases: dict[type, bytes] = {}
        self._inside: set[int] = set()  # objects that are being described

    def describe(self, value: Any, depth: int = 0) -> Identity:
        """Return what an object is.

        Raises:
            NotStorable: for an object that cannot be told from others by name and code.
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
        plain = undisabled(function)
        hasher = Hasher(_code(plain.__code__))
        if plain is not function:
            function = plain
            hasher.update(b"disabled")
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
    """Return the name of a builtin function or descriptor, none for a method of some instance."""
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
    """Digest the functions that a class itself defines.

    Of classes that the platform pins only the name: Dynamo replaces functions of some when it starts.
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
    """Digest a function of a class: its code, and as far as it goes its defaults and what it closes over.

    Of other classes only the names, so that the digest does not depend on where it started.
    """
    plain = undisabled(function)
    hasher.update(_code(plain.__code__))
    if plain is not function:
        function = plain
        hasher.update(b"disabled")
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
    except Exception as error:  # it reads the source, and whatever the globals of the program are
        raise NotStorable(f"digest of the Triton kernel {path_of(kernel)}: {error}") from error


def path_of(value: Any) -> str:
    """Return ``module:qualified name``."""
    return f"{getattr(value, '__module__', None)}:{value.__qualname__}"


def is_pinned(module: str | None) -> bool:
    """Tell whether the facts of the platform fix the code of a module."""
    return module is not None and module.partition(".")[0] in _PINNED


def of_compiler(module: str) -> bool:
    """Tell whether a module belongs to what the lean lane must not import."""
    return module.startswith(COMPILER) and any(
        module == name or module.startswith(name + ".") for name in COMPILER
    )


def compiler_behind(attribute: str, source: str) -> str | None:
    """Return the module of the compiler that torch imports when this attribute of it is asked for.

    Args:
        attribute: its name.
        source: where a guard finds it.
    """
    name = f"torch.{attribute}"
    return name if of_compiler(name) and source.endswith(name) else None


def find(kind: str, name: str) -> Any:
    """Return what has a name among the imported modules; runs nothing of the user's.

    Raises:
        LookupError: when there is nothing.
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
