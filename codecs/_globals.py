"""Name classes, functions and constants as "module:qualname"; find them without importing or running code.

Only one spelling of a name is accepted: the object's own `__module__` and `__qualname__`. So `os.system`
cannot be smuggled in through another module that imports it.
"""

from __future__ import annotations

import sys
import types
from typing import Any

from firebrick.errors import EncodeError, ForbiddenGlobal

_MISSING = object()
_CALLABLE_TYPES = (type, types.FunctionType, types.BuiltinFunctionType)
_CONSTANTS: dict[str, object] = {
    "builtins:Ellipsis": Ellipsis,
    "builtins:NotImplemented": NotImplemented,
}
# torch types whose values are attributes of the module torch, spelt as str() spells them.
TORCH_CONSTANTS = frozenset({"dtype", "layout", "memory_format"})


def qualified(value: Any) -> str:
    """Return the name of a class or function, which need not resolve."""
    return f"{getattr(value, '__module__', None)}:{getattr(value, '__qualname__', None)}"


def is_torch_constant(value: object) -> bool:
    """Tell whether this is a dtype, layout or memory format."""
    kind = type(value)
    return kind.__module__ == "torch" and kind.__name__ in TORCH_CONSTANTS


def is_tensor_class(cls: type) -> bool:
    """Tell whether this is torch.Tensor or a subclass."""
    torch = sys.modules.get("torch")
    return torch is not None and issubclass(cls, torch.Tensor)


def name_of(value: Any) -> str:
    """Return the name by which `resolve` finds a class, function, module-level constant or module.

    Raises:
        EncodeError: Its own name does not lead to it (a lambda, a local or replaced function).
    """
    if value is Ellipsis:
        return "builtins:Ellipsis"
    if value is NotImplemented:
        return "builtins:NotImplemented"
    if isinstance(value, types.ModuleType):
        name = f"{value.__name__}:"
    elif is_torch_constant(value):
        name = "torch:" + str(value).removeprefix("torch.")
    else:
        name = qualified(value)
    try:
        found = resolve(name)
    except ForbiddenGlobal as error:
        raise EncodeError(type(value).__name__, reason=f"{name}: {error.where}") from None
    if found is not value:
        raise EncodeError(type(value).__name__, reason=f"{name} is another object")
    return name


def resolve(name: str) -> Any:
    """Return the object that `name_of` named, from modules already imported.

    Attributes are read from module and class dictionaries, so no `__getattr__` or descriptor runs.

    Raises:
        ForbiddenGlobal: The module is not imported, there is no such attribute, the path leads through
            another module, or the object's own name differs.
    """
    module_name, colon, qualname = name.partition(":")
    if not colon:
        raise ForbiddenGlobal(name, "not of the form module:qualname")
    if name in _CONSTANTS:
        return _CONSTANTS[name]
    module = sys.modules.get(module_name)
    if not isinstance(module, types.ModuleType):
        raise ForbiddenGlobal(name, "its module is not imported")
    if not qualname:
        return module
    value: Any = module
    for part in qualname.split("."):
        value = _attribute(value, part)
        if value is _MISSING:
            raise ForbiddenGlobal(name, f"there is no {part}")
        if isinstance(value, types.ModuleType):
            raise ForbiddenGlobal(name, "it leads through another module")
    if is_torch_constant(value):
        spelled = "torch:" + str(value).removeprefix("torch.")
    elif isinstance(value, _CALLABLE_TYPES):
        spelled = qualified(value)
    else:
        raise ForbiddenGlobal(name, f"a {type(value).__name__} is neither class nor function")
    if spelled != name:
        raise ForbiddenGlobal(name, f"its own name is {spelled}")
    return value


def _attribute(owner: Any, name: str) -> Any:
    if isinstance(owner, types.ModuleType):
        return vars(owner).get(name, _MISSING)
    if not isinstance(owner, type):
        return _MISSING
    for base in owner.__mro__:
        if name in base.__dict__:
            value = base.__dict__[name]
            return value.__func__ if isinstance(value, staticmethod) else value
    return _MISSING
