"""Describe what a call did, as JSON that is equal in two processes if and only if the call did the same.

More than values count: strides, offsets, which tensors share storage or are one object, version counters,
what autograd knows, and the modes that a call leaves behind.
"""

from __future__ import annotations

import dataclasses
import enum
import hashlib
import random
import re
import types
from collections.abc import Mapping
from typing import Any

import torch

_ADDRESS = re.compile(r"\b0x[0-9a-fA-F]+")
_PLAIN: tuple[type, ...] = (int, float, complex, bool, str, bytes, type(None), slice, range)
_PLAIN += (torch.dtype, torch.device, torch.layout, torch.memory_format)
_HEAD = 4


def text(value: object) -> str:
    """Return the ``repr`` of a value without addresses."""
    return _ADDRESS.sub("0x", repr(value))


def digest(data: bytes) -> str:
    """Return a short digest of bytes."""
    return hashlib.blake2b(data, digest_size=12).hexdigest()


def type_name(value: object) -> str:
    """Return the qualified name of a value's type."""
    kind = type(value)
    return f"{kind.__module__}.{kind.__qualname__}"


class Observer:
    """Describes the objects around one call; objects and storages are named by the place first seen at.

    Keeps what it sees alive, so that no address is used twice. Not thread-safe.
    """

    def __init__(self) -> None:
        self._seen: dict[int, tuple[str, object]] = {}
        self._storages: dict[int, str] = {}

    def see(self, value: Any, place: str) -> Any:
        """Return the description of a value.

        Args:
            value: anything; containers and objects are looked into.
            place: how to call it, for example ``args[0]``.
        """
        if isinstance(value, (*_PLAIN, enum.Enum, type)):
            kind = type(value).__name__
            return text(value) if kind in ("int", "float", "bool", "str", "NoneType") else [kind, text(value)]
        if id(value) in self._seen:
            return {"is": self._seen[id(value)][0]}
        self._seen[id(value)] = place, value
        if isinstance(value, torch.Tensor):
            return self.tensor(value, place)
        if isinstance(value, torch.nn.Module):
            return self.module(value, place)
        return self._container(value, place)

    def _container(self, value: Any, place: str) -> Any:
        kind = type_name(value)
        if isinstance(value, Mapping):
            items = list(value.items())
            return {"type": kind, "items": [[text(k), self.see(v, f"{place}[{text(k)}]")] for k, v in items]}
        if isinstance(value, list | tuple):
            return {"type": kind, "items": [self.see(v, f"{place}[{i}]") for i, v in enumerate(value)]}
        if isinstance(value, set | frozenset):
            return {"type": kind, "items": sorted(map(text, value))}
        if isinstance(value, BaseException):
            return {"type": kind, "text": _ADDRESS.sub("0x", str(value))}
        if hasattr(value, "__array_interface__"):
            return {"type": kind, "array": f"{value.dtype} {value.shape} {digest(value.tobytes())}"}
        if isinstance(value, types.FunctionType | types.BuiltinFunctionType | types.MethodType):
            return f"function {value.__module__}.{value.__qualname__}"
        if dataclasses.is_dataclass(value) or hasattr(value, "__dict__"):
            names = [f.name for f in dataclasses.fields(value)] if dataclasses.is_dataclass(value) else []
            fields = {name: getattr(value, name) for name in names} | vars(value) if names else vars(value)
            return {
                "type": kind,
                "fields": {name: self.see(item, f"{place}.{name}") for name, item in fields.items()},
            }
        return text(value)

    def tensor(self, value: torch.Tensor, place: str) -> dict[str, Any]:
        """Return the description of a tensor, without its gradient."""
        with torch.no_grad():
            facts: dict[str, Any] = {
                "type": type_name(value),
                "form": f"{value.dtype} {tuple(value.shape)} {value.layout} {value.device}",
                "autograd": self._autograd(value),
                "version": "inference" if value.is_inference() else value._version,
            }
            plain = value.detach()
            if type(plain) is not torch.Tensor:
                plain = plain.as_subclass(torch.Tensor)
            if value.layout is torch.strided:
                facts |= self._memory(plain, place)
                facts |= self.bits(plain)
            elif value.layout is torch.sparse_coo:
                facts["parts"] = [self.bits(plain._indices()), self.bits(plain._values())]
            else:
                facts["parts"] = [self.bits(plain.to_dense())]
            return facts

    def _autograd(self, value: torch.Tensor) -> str:
        node = value.grad_fn
        parts = (
            f"requires_grad={value.requires_grad}",
            f"leaf={value.is_leaf}",
            f"view={value._is_view()}",
            f"grad_fn={node.name() if node is not None else None}",
        )
        return " ".join(parts)

    def _memory(self, value: torch.Tensor, place: str) -> dict[str, Any]:
        storage = value.untyped_storage()
        address = storage.data_ptr() or storage._cdata
        first = self._storages.setdefault(address, place)
        return {
            "strides": f"{value.stride()} at {value.storage_offset()} of {storage.nbytes()} bytes",
            "storage": first,
            "lazy": f"conj={value.is_conj()} neg={value.is_neg()}",
        }

    @staticmethod
    def bits(value: torch.Tensor) -> dict[str, Any]:
        """Return the digest of a strided tensor's elements, and the first few to read."""
        plain = value.detach().resolve_conj().resolve_neg().cpu().contiguous().flatten()
        data = plain.view(torch.uint8).numpy().tobytes()
        return {"bits": digest(data), "head": text(plain[:_HEAD].tolist())}

    def module(self, value: torch.nn.Module, place: str) -> dict[str, Any]:
        """Return the description of a module: parameters, buffers, and who is in training mode."""
        tensors = [*value.named_parameters(), *value.named_buffers()]
        return {
            "type": type_name(value),
            "tensors": {name: self.see(tensor, f"{place}.{name}") for name, tensor in tensors},
            "training": [name for name, child in value.named_modules() if child.training],
        }

    def versions(self) -> dict[str, int]:
        """Return the version counters of every tensor seen so far, by the tensor's place."""
        tensors = [(place, value) for place, value in self._seen.values() if isinstance(value, torch.Tensor)]
        return {place: value._version for place, value in tensors if not value.is_inference()}

    def gradients(self) -> dict[str, Any]:
        """Return the gradients of every tensor seen so far, by the tensor's place."""
        found: dict[str, Any] = {}
        for place, value in list(self._seen.values()):
            if isinstance(value, torch.Tensor) and value.is_leaf and value.grad is not None:
                found[place] = self.see(value.grad, f"{place}.grad")
        return found


def modes() -> dict[str, str]:
    """Return the modes of this thread that a call could leave behind."""
    return {
        "grad": str(torch.is_grad_enabled()),
        "inference": str(torch.is_inference_mode_enabled()),
        "autocast": f"{torch.is_autocast_enabled('cpu')} {torch.get_autocast_dtype('cpu')}",
        "default": f"{torch.get_default_dtype()}",
        "deterministic": str(torch.are_deterministic_algorithms_enabled()),
        "threads": str(torch.get_num_threads()),
        "functions": str(torch._C._len_torch_function_stack()),
        "anomaly": str(torch.is_anomaly_enabled()),
    }


def generators() -> dict[str, str]:
    """Return digests of the states of the random generators."""
    return {
        "torch": digest(torch.get_rng_state().numpy().tobytes()),
        "python": digest(repr(random.getstate()).encode()),
    }
