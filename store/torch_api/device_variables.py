"""Observe where Dynamo gets devices from while tracing.

Source followed: ``torch/_dynamo/variables/{tensor,constant}.py``, ``OutputGraph.call_user_compiler`` of
``torch/_dynamo/output_graph.py``. Importing this module imports torch's compiler.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch._dynamo import symbolic_convert
from torch._dynamo.codegen import PyCodegen
from torch._dynamo.variables.base import VariableTracker
from torch._dynamo.variables.constant import ConstantVariable
from torch._dynamo.variables.tensor import TensorVariable

from firebrick.torch_api.method_tables import wrap_in_table

if TYPE_CHECKING:
    from firebrick.base.patches import Patches

_COMPARISONS = ("is", "is not", "==", "!=")


class DeviceSink(Protocol):
    """An observer of the devices in a traced frame."""

    def read(self, device: torch.device, /) -> None:
        """Record that Python reads a device."""

    def of_tensor(self, device: torch.device, /) -> None:
        """Record that a tensor's device is requested."""

    def name_own(self, value: Any, /) -> None:
        """Record a constant in the bytecode."""

    def pin(self, reason: str, /) -> None:
        """Record that the graph cannot move to another device."""

    def graph(self, module: Any, source_of: dict[Any, str], /) -> None:
        """Record a graph about to be compiled; placeholders have sources."""

    def quietly(self) -> AbstractContextManager[None]:
        """Ignore device reads inside this block."""


Seen = Callable[[], DeviceSink | None]


class DeviceOfTensor(ConstantVariable):
    """A tensor's device, a constant to Dynamo, which records whether it is passed on or read.

    Its arguments are its attributes: Dynamo copies variables through them.
    """

    def __init__(self, _device: torch.device, _seen: DeviceSink, **kwargs: Any) -> None:
        self._device = _device
        self._seen = _seen
        super().__init__(_device, **kwargs)

    @property
    def value(self) -> torch.device:
        """The device as read by Python."""
        self._seen.read(self._device)
        return self._device

    @value.setter
    def value(self, value: torch.device) -> None:
        pass

    def as_proxy(self) -> torch.device:
        """Return the value for a graph."""
        return self._device

    def python_type(self) -> type:
        """Return the type, the same for all devices."""
        return torch.device

    def const_getattr(self, tx: Any, name: str) -> Any:
        """Return an attribute; the type is the same for all devices of a kind."""
        return self._device.type if name == "type" else super().const_getattr(tx, name)

    def tp_getattro_impl(self, tx: Any, name: str) -> Any:
        """Return the variable of an attribute; torch 2.14 asks here before `const_getattr`."""
        if name == "type":
            return ConstantVariable.create(self._device.type)
        base: Any = super()
        return base.tp_getattro_impl(tx, name)

    def __repr__(self) -> str:
        return f"DeviceOfTensor({self._device})"


def note_devices(patches: Patches, output_graph: Any, seen: Seen) -> None:
    """Make Dynamo report the devices it meets, until the patches are undone.

    Args:
        patches: keeps the originals.
        output_graph: torch's class of that name.
        seen: returns the observer of the current compilation; ``None`` for none.
    """
    for owner, name, wrap in (
        (TensorVariable, "method_attr_device", _attribute),
        (PyCodegen, "__call__", _code),
        (output_graph, "call_user_compiler", _graph),
    ):
        patches.set(owner, name, wrap(getattr(owner, name), seen))
    if not wrap_in_table(patches, TensorVariable, "get_device", _index, seen):
        patches.set(TensorVariable, "method_get_device", _index(TensorVariable.method_get_device, seen))
    handlers = dict(symbolic_convert.compare_op_handlers)
    handlers |= {name: _comparison(handlers[name], seen) for name in _COMPARISONS}
    patches.set(symbolic_convert, "compare_op_handlers", handlers)


def _attribute(original: Callable[..., Any], seen: Seen) -> Callable[..., Any]:
    @functools.wraps(original)
    def method_attr_device(self: Any, tx: Any) -> Any:
        result, devices = original(self, tx), seen()
        if devices is None or type(result) is not ConstantVariable:
            return result
        devices.of_tensor(result.value)
        return DeviceOfTensor(result.value, devices)

    return method_attr_device


def _index(original: Callable[..., Any], seen: Seen) -> Callable[..., Any]:
    @functools.wraps(original)
    def method_get_device(self: Any, *args: Any, **kwargs: Any) -> Any:
        of_index = self.device is not None and self.device.index is not None
        if of_index and (devices := seen()) is not None:
            devices.read(self.device)
        return original(self, *args, **kwargs)

    return method_get_device


def _comparison(original: Callable[..., Any], seen: Seen) -> Callable[..., Any]:
    """Wrap a comparison: two tensors' devices, or one and None, compare alike whatever the index is."""

    def compare(tx: Any, args: Any, kwargs: Any) -> Any:
        kinds = {type(value) for value in args}
        if DeviceOfTensor in kinds and (devices := seen()) is not None:
            others = [value for value in args if type(value) is not DeviceOfTensor]
            if all(value.is_python_constant() and value.as_python_constant() is None for value in others):
                with devices.quietly():
                    return original(tx, args, kwargs)
        return original(tx, args, kwargs)

    return compare


def _code(original: Callable[..., Any], seen: Seen) -> Callable[..., Any]:
    """Wrap bytecode generation: a device in it is a tensor's, or pins the graph."""

    @functools.wraps(original)
    def __call__(self: Any, value: Any, *args: Any, **kwargs: Any) -> Any:
        if (devices := seen()) is None:
            return original(self, value, *args, **kwargs)
        with devices.quietly():
            try:
                if isinstance(value, VariableTracker) and value.is_python_constant():
                    devices.name_own(value.as_python_constant())
            except Exception as error:
                devices.pin(f"a constant that could not be looked through: {type(error).__name__}")
            return original(self, value, *args, **kwargs)

    return __call__


def _graph(original: Callable[..., Any], seen: Seen) -> Callable[..., Any]:
    @functools.wraps(original)
    def call_user_compiler(self: Any, module: Any, *args: Any, **kwargs: Any) -> Any:
        if (devices := seen()) is not None:
            try:
                inputs = {n: n.meta.get("grapharg") for n in module.graph.nodes if n.op == "placeholder"}
                devices.graph(module, {n: str(a.source.name) for n, a in inputs.items() if a is not None})
            except Exception as error:
                devices.pin(f"a graph that could not be looked through: {type(error).__name__}")
        return original(self, module, *args, **kwargs)

    return call_user_compiler
