"""Stand-ins for the examples from which torch's guard managers learn a type.

The C++ code looks at an example's type, its immutability, and a dict's length; never at its contents. Imports
nothing of torch's compiler.
"""

from __future__ import annotations

import collections
import functools
import types
from typing import Any, Final

import torch

from firebrick.torch_api import native

_IMMUTABLE: Final[dict[Any, Any]] = {
    bool: True,
    int: 0,
    float: 0.0,
    str: "",
    tuple: (),
    types.CodeType: compile("0", "<example>", "eval"),
    types.BuiltinFunctionType: len,
}
_MUTABLE: Final[dict[Any, Any]] = {
    type(None): None,
    tuple: ([],),
    list: [],
    set: set(),
    types.FunctionType: lambda: None,
    types.ModuleType: types,
    type: object,
    types.CellType: types.CellType(None),
}
DICT_MAKERS: Final = (dict.__new__, collections.OrderedDict.__new__)


class _Shell(torch.Tensor):
    """A tensor with a device but no memory."""

    @classmethod
    def __torch_dispatch__(cls, *_: Any, **__: Any) -> Any:
        return NotImplemented


@functools.cache
def sample(dtype: str, device: str, index: int | None, requires_grad: bool, rank: int) -> torch.Tensor:
    """Return a small tensor with these facts; initialises no device."""
    sizes = (0,) * rank
    kind: torch.dtype = getattr(torch, dtype)
    where = torch.device(device) if index is None else torch.device(device, index)
    with native.DisableTorchFunction():
        if device == "cpu":
            return torch.empty(sizes, dtype=kind, requires_grad=requires_grad)
        make: Any = torch.Tensor._make_wrapper_subclass
        shell: torch.Tensor = make(_Shell, sizes, dtype=kind, device=where, requires_grad=requires_grad)
        return shell


def example(cls: Any, immutable: bool, length: int) -> Any:
    """Return a value of a class that to C++ is as (im)mutable and as long as the guarded one.

    Args:
        cls: the class, None if unknown here: then only the parts that decide verdicts are right.
        immutable: the answer of ``is_immutable_object`` of guards.cpp.
        length: of a dict, else -1.
    """
    if length >= 0:
        return _dict(cls, length)
    if immutable:
        if isinstance(cls, type) and issubclass(cls, torch.Tensor):
            return sample("float32", "cpu", None, False, 1)
        return _IMMUTABLE.get(cls, 0)
    if cls in _MUTABLE:
        return _MUTABLE[cls]
    # an instance without contents, for logs that name the type; no code of its class may run
    if (
        isinstance(cls, type)
        and getattr(cls, "__new__") is getattr(object, "__new__")  # noqa: B009
        and cls.__flags__ & (1 << 9)  # Py_TPFLAGS_HEAPTYPE
        and not hasattr(cls, "__del__")
        and not issubclass(cls, torch.Tensor)
    ):
        try:
            return object.__new__(cls)
        except TypeError:  # an abstract class
            return object()
    return object()


def _dict(cls: Any, length: int) -> Any:
    items = dict.fromkeys(range(length))
    if cls is dict or not isinstance(cls, type) or not issubclass(cls, dict):
        return items
    if cls.__new__ not in DICT_MAKERS or hasattr(cls, "__del__"):
        return items
    value = cls.__new__(cls)
    put = (collections.OrderedDict if issubclass(cls, collections.OrderedDict) else dict).__setitem__
    for key in items:
        put(value, key, None)
    return value
