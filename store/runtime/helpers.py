"""Helpers of torch's compiler that Dynamo's bytecode calls, for a process without the compiler.

Dynamo reaches a helper as an attribute of one of its modules, by a generated global name. Capture refuses
bytecode that reaches anything not defined here. Source followed: ``torch/_dynamo/utils.py``,
``torch/_dynamo/variables/functions.py``.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from types import CellType, CodeType, FunctionType, SimpleNamespace
from typing import Any, Final

import torch

from firebrick.torch_api import native


def _tuple_iterator_getitem(iterator: Any, index: int) -> Any:
    _, (items,), start = iterator.__reduce__()
    return items[start + index]


def _dict_keys_getitem(mapping: dict[Any, Any], index: int) -> Any:
    return next(itertools.islice(dict.keys(mapping), index, None))  # not a subclass's keys()


def _set_getitem(items: set[Any], index: int) -> Any:
    return list(items)[index]


def _to_subclass(tensor: torch.Tensor, cls: type) -> Any:
    return tensor.as_subclass(cls)


def _fields(value: Any) -> dict[str, Any]:
    """Return an object's attribute dictionary."""
    owner: Any = threading.local if isinstance(value, threading.local) else object
    fields: dict[str, Any] = owner.__getattribute__(value, "__dict__")
    return fields


def _set_attribute(value: Any, name: str, new: Any) -> None:
    _fields(value)[name] = new


def _delete_attribute(value: Any, name: str) -> None:
    del _fields(value)[name]


def _call_size(tensor: torch.Tensor, dimension: int) -> int:
    return tensor.size(dimension)


def _call_stride(tensor: torch.Tensor, dimension: int) -> int:
    return tensor.stride(dimension)


def _call_storage_offset(tensor: torch.Tensor) -> int:
    return int(tensor.storage_offset())


def _record_pregraph_bytecode_enter() -> AbstractContextManager[Any]:
    on = native.is_profiled()
    region: AbstractContextManager[Any] = (
        native.RecordFunctionFast("Pregraph bytecode") if on else nullcontext()
    )
    region.__enter__()
    return region


def _record_pregraph_bytecode_exit(region: AbstractContextManager[Any]) -> None:
    region.__exit__(None, None, None)


def _make_cell(value: Any = None) -> CellType:
    return CellType(value)


def _current_stream(device: torch.device) -> torch.Stream:
    return torch.accelerator.current_stream(device)


def _store_user_objects(*objects: Any) -> None:
    """Drop what torch 2.13 would add to its table of streams: its readers are not served here.

    The readers are graphs with kernels on user streams, and CUDA graphs.
    """


def _create_nested_fn(
    code: CodeType,
    scope: dict[str, Any],
    name: str,
    defaults: tuple[object, ...] | None,
    closure: tuple[CellType, ...] | None,
    keyword_defaults: dict[str, Any] | None,
    annotations: dict[str, Any] | tuple[Any, ...] | None,
) -> FunctionType:
    function = FunctionType(code, scope, name, defaults, closure)
    function.__kwdefaults__ = keyword_defaults
    if isinstance(annotations, tuple):  # name, value, name, value, …
        annotations = dict(zip(annotations[::2], annotations[1::2], strict=True))
    function.__annotations__ = annotations or {}
    return function


HELPERS: Final[Mapping[str, Mapping[str, Callable[..., Any]]]] = {
    "torch._dynamo.utils": {
        "call_size": _call_size,
        "call_storage_offset": _call_storage_offset,
        "call_stride": _call_stride,
        "dict_getitem": dict.__getitem__,
        "dict_keys": type({}.keys()),
        "dict_keys_getitem": _dict_keys_getitem,
        "get_current_stream": _current_stream,
        "iter_next": next,
        "list_getitem": list.__getitem__,
        "make_cell": _make_cell,
        "object_delattr_ignore_descriptor": _delete_attribute,
        "object_new": object.__new__,
        "object_setattr_ignore_descriptor": _set_attribute,
        "record_pregraph_bytecode_enter": _record_pregraph_bytecode_enter,
        "record_pregraph_bytecode_exit": _record_pregraph_bytecode_exit,
        "set_getitem": _set_getitem,
        "to_subclass": _to_subclass,
        "tuple_iterator_getitem": _tuple_iterator_getitem,
    },
    "torch._dynamo.graph_bytecode_inputs": {"store_user_object_weakrefs": _store_user_objects},
    "torch._dynamo.variables.functions": {"_create_nested_fn": _create_nested_fn},
}
_modules = {name: SimpleNamespace(**helpers) for name, helpers in HELPERS.items()}


def stand_in_for(name: str) -> SimpleNamespace | None:
    """Return the stand-in for a compiler module, an object with the helpers above, or ``None``."""
    return _modules.get(name)


def functions() -> list[FunctionType]:
    """Return the helpers that are Python functions; nobody needs to look at their frames."""
    every = (helper for helpers in HELPERS.values() for helper in helpers.values())
    return [helper for helper in every if isinstance(helper, FunctionType)]
