"""Recognise torch's and Python's own code as shipped; their versions are facts of every recipe.

A function counts as shipped by the file its code was compiled from, a class by the name that leads to it. A
patch of either comes from elsewhere or has another name, and is treated like user code.
"""

from __future__ import annotations

import functools
import inspect
import os
import sys
import sysconfig
import types
from typing import Any, Final

import torch

_TORCH: Final = os.path.dirname(torch.__file__) + os.sep
_STDLIB: Final = tuple(
    sorted(
        {sysconfig.get_path(name) + os.sep for name in ("stdlib", "platstdlib")}
        | {os.path.dirname(os.__file__) + os.sep}
    )
)
_FIREBRICK: Final = os.path.dirname(os.path.dirname(__file__)) + os.sep
_PACKAGES: Final = (f"{os.sep}site-packages{os.sep}", f"{os.sep}dist-packages{os.sep}")
_ROOTS: Final = frozenset({"torch", "builtins", "functorch", *sys.stdlib_module_names})
COMPILER: Final = ("torch._dynamo", "torch._inductor", "torch._functorch", "torch.fx.experimental", "sympy")
_HEAP_TYPE: Final = 1 << 9  # Py_TPFLAGS_HEAPTYPE: a class created at run time, which is mutable


@functools.lru_cache(4096)
def shipped_file(file: str) -> str:
    """Return the path of a torch or Python source file below its root; empty for any other."""
    if file.startswith("<frozen "):
        return file
    if file.startswith(_TORCH):
        return "torch/" + file[len(_TORCH) :]
    for root in _STDLIB:
        if file.startswith(root) and not any(part in file for part in _PACKAGES):
            return file[len(root) :]
    return ""


def unwrapped(function: Any) -> Any:
    """Return the function behind decorators that name it in ``__wrapped__``; other objects as they are."""
    plain = type(function) is types.FunctionType and "__wrapped__" not in function.__dict__
    return function if plain or not callable(function) else inspect.unwrap(function)


def is_shipped(function: Any) -> bool:
    """Tell whether the code behind a function's decorators is torch's or Python's, or none in Python."""
    code = getattr(unwrapped(function), "__code__", None)
    return code is None or bool(shipped_file(code.co_filename))


def is_own(code: types.CodeType) -> bool:
    """Tell whether code is Firebrick's own, such as its replacements for torch's functions."""
    return code.co_filename.startswith(_FIREBRICK)


def code_key(code: types.CodeType) -> str:
    """Return the name of a shipped code object, unique in its build; empty for user code."""
    file = shipped_file(code.co_filename)
    return f"{file}:{code.co_firstlineno}:{code.co_qualname}" if file else ""


def is_pinned(module: Any) -> bool:
    """Tell whether a module of this name belongs to torch or Python."""
    return isinstance(module, str) and module.partition(".")[0] in _ROOTS


def of_compiler(module: Any) -> bool:
    """Tell whether a module belongs to the compiler, which a lean start does not import."""
    return isinstance(module, str) and any(
        module == name or module.startswith(name + ".") for name in COMPILER
    )


def is_static(cls: type) -> bool:
    """Tell whether a class is written in C and cannot be changed."""
    return not cls.__flags__ & _HEAP_TYPE


def is_shipped_class(cls: type) -> bool:
    """Tell whether a class is torch's or Python's own: its module is, and its name there leads to it."""
    if is_static(cls):
        return True
    module = cls.__module__
    if not is_pinned(module):
        return False
    found: Any = sys.modules.get(module)
    for part in cls.__qualname__.split("."):
        found = getattr(found, "__dict__", {}).get(part)
    return found is cls


def find(path: str) -> Any:
    """Return the object at ``module:qualified name`` without running descriptors, or None."""
    module, _, qualname = path.partition(":")
    found: Any = sys.modules.get(module)
    for part in qualname.split("."):
        if isinstance(found, type):
            found = next((base.__dict__[part] for base in found.__mro__ if part in base.__dict__), None)
        else:
            found = getattr(found, "__dict__", {}).get(part)
    return found
