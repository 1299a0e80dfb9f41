"""Encode dense tensors: geometry, dtype, device, and the bytes they reach in their storage.

Byte by byte: u32 little-endian length of the head, the head (msgpack), the bytes. The head is `[byte order,
storage, view]` with storage `[device type, device index or None, length]` and view `[dtype, sizes, strides,
offset, flags]`, offset in elements. Storages on `meta` have a length and no bytes. Bytes that no tensor
reaches are dropped, so offsets refer to the kept bytes.
"""

from __future__ import annotations

import ctypes
import enum
import struct
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from firebrick.codecs.abc import Codec, Sink, Source, child
from firebrick.errors import DecodeError, EncodeError, FirebrickError, LimitExceeded
from firebrick.storage.format import MAX_BLOB_BYTES, Kind
from firebrick.storage.msgpack import pack, unpack

if TYPE_CHECKING:
    import torch

_LENGTH = struct.Struct("<I")


class TensorFlag(enum.IntFlag):
    """The properties of a TENSOR operation besides its geometry."""

    REQUIRES_GRAD = 1
    PARAMETER = 2
    CONJ = 4
    NEG = 8


_FLAGS = sum(TensorFlag)


def torch_module() -> Any:
    """Return the module torch, which must already be imported."""
    torch = sys.modules.get("torch")
    if torch is None:
        raise DecodeError("torch is not imported")
    return torch


def is_tensor(value: object) -> bool:
    """Tell whether this is a tensor of any kind."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.Tensor)


def device(kind: Any, index: Any) -> Any:
    """Return a torch.device of a type and an index, which may be None."""
    if type(kind) is not str or ":" in kind or not (index is None or type(index) is int):
        raise DecodeError(f"{kind!r:.40}, {index!r:.20} is not a device")
    return torch_module().device(kind) if index is None else torch_module().device(kind, index)


def native() -> Any:
    """Return the door to torch's private names; this module is imported without torch."""
    from firebrick.torch_api import native

    return native


@contextmanager
def _outside_modes() -> Iterator[Any]:
    """Run torch outside dispatch modes, autograd and inference mode, which captures run under."""
    torch = torch_module()
    guards = native().DisableTorchDispatch(), native().DisableTorchFunction()
    with guards[0], guards[1], torch.inference_mode(False), torch.no_grad():
        yield torch


def _refusal(tensor: Any) -> str:
    """Return why a tensor has no faithful encoding; empty if it has one."""
    torch = torch_module()
    if type(tensor) not in (torch.Tensor, torch.nn.Parameter):
        return "only torch.Tensor and torch.nn.Parameter themselves"
    if tensor.layout is not torch.strided:
        return f"layout {tensor.layout}"
    reasons = {
        "quantised": tensor.is_quantized or str(tensor.dtype).startswith(("torch.q", "torch.uint4x2")),
        "nested": tensor.is_nested,
        "named dimensions": getattr(tensor, "has_names", bool)(),
        "not a leaf of the autograd graph": not tensor.is_leaf,
        "a functional or functorch tensor": native().is_functional_tensor(tensor)
        or native().is_functorch_wrapped(tensor),
        "a zero tensor": tensor._is_zerotensor(),
    }
    return next((reason for reason, holds in reasons.items() if holds), "")


def _reach(sizes: list[int], strides: list[int], offset: int, itemsize: int) -> tuple[int, int]:
    """Return the first byte a view reaches and the byte after the last."""
    if 0 in sizes:
        return 0, 0
    start = offset * itemsize
    last = sum((size - 1) * stride for size, stride in zip(sizes, strides, strict=True))
    return start, start + (last + 1) * itemsize


class _Group:
    """The tensors of one storage while a graph is encoded."""

    def __init__(self, storage: Any, device: Any) -> None:
        self.storage = storage
        self.device = device
        # of each: operands, first byte, end, bytes per element
        self.views: list[tuple[list[Any], int, int, int]] = []

    def extent(self) -> tuple[int, int]:
        """Return the first kept byte and the byte after the last; 0, 0 for none."""
        reached = [view for view in self.views if view[1] < view[2]]
        if not reached:
            return 0, 0
        start = min(view[1] for view in reached)
        # So that each view's offset stays a whole number of its elements; their sizes are powers of two.
        start -= start % max(view[3] for view in reached)
        return start, max(view[2] for view in reached)


class StorageTable:
    """The storages of one graph, so that tensors that shared one share it again."""

    def __init__(self) -> None:
        self._groups: dict[int, _Group] = {}
        self._storages: list[Any] = []

    def add(self, tensor: torch.Tensor, node: list[Any]) -> None:
        """Append `storage, dtype, sizes, strides, offset, flags` to a node; `encode` corrects the
        offset.

        Raises:
            EncodeError: It is not a dense leaf tensor of a torch class.
        """
        if reason := _refusal(tensor):
            raise EncodeError(f"{type(tensor).__module__}:{type(tensor).__qualname__}", reason=reason)
        torch = torch_module()
        sizes, strides = list(tensor.size()), list(tensor.stride())
        offset = int(tensor.storage_offset())
        storage = tensor.untyped_storage()
        group = self._groups.setdefault(storage._cdata, _Group(storage, tensor.device))
        flags = (
            TensorFlag.REQUIRES_GRAD * tensor.requires_grad
            | TensorFlag.PARAMETER * isinstance(tensor, torch.nn.Parameter)
            | TensorFlag.CONJ * tensor.is_conj()
            | TensorFlag.NEG * tensor.is_neg()
        )
        number = list(self._groups).index(storage._cdata)
        node += [
            number,
            str(tensor.dtype).removeprefix("torch."),
            sizes,
            strides,
            offset,
            int(flags),
        ]
        group.views.append((node, *_reach(sizes, strides, offset, tensor.itemsize), tensor.itemsize))

    def encode(self, sink: Sink, leaf_bytes: int) -> list[Any]:
        """Return each storage as `[device type, index, length, bytes or (version, key) or None]`."""
        result = []
        for group in self._groups.values():
            start, end = group.extent()
            for node, first, behind, itemsize in group.views:
                node[-2] = (first - start) // itemsize if first < behind else 0
            head = [group.device.type, group.device.index, end - start]
            if group.device.type == "meta":
                result.append([*head, None])
                continue
            data = _read(group, start, end)
            if len(data) < leaf_bytes:
                result.append([*head, data])
            else:
                key = sink(
                    Kind.TENSOR,
                    _body(head, ["uint8", [len(data)], [1], 0, 0], data),
                    TensorCodec.version,
                )
                result.append([*head, [TensorCodec.version, key]])
        return result

    @classmethod
    def decode(cls, storages: Any, source: Source) -> StorageTable:
        """Rebuild the storages that `encode` wrote."""
        table = cls()
        for kind, index, length, data in storages:
            if type(data) is list:
                version, key = data
                blob = child(source, key, Kind.TENSOR)
                view = TensorCodec().decode(blob.data, source, version)
                storage = view.untyped_storage()
                if view.device != device(kind, index) or storage.nbytes() != length:
                    raise DecodeError("the blob of a storage has another device or length")
                table._storages.append(storage)
            else:
                table._storages.append(_storage(kind, index, length, data))
        return table

    def tensor(self, number: Any, dtype: Any, sizes: Any, strides: Any, offset: Any, flags: Any) -> Any:
        """Rebuild one tensor over a storage of this table, checking its reach."""
        if type(number) is not int or not 0 <= number < len(self._storages):
            raise DecodeError(f"there is no storage {number!r:.20}")
        return _view(self._storages[number], dtype, sizes, strides, offset, flags)


def _read(group: _Group, start: int, end: int) -> bytes:
    if end - start > MAX_BLOB_BYTES:
        raise LimitExceeded("storage in bytes", end - start, MAX_BLOB_BYTES)
    if end > group.storage.nbytes():
        raise EncodeError("torch:Tensor", reason="it reaches behind its storage (resized or freed)")
    if start == end:
        return b""
    if group.device.type == "cpu":
        return ctypes.string_at(group.storage.data_ptr() + start, end - start)
    with _outside_modes() as torch:
        raw = (
            torch.empty(0, dtype=torch.uint8, device=group.device)
            .set_(group.storage, start, (end - start,), (1,))
            .cpu()
        )
        return ctypes.string_at(raw.data_ptr(), end - start)


def _storage(kind: Any, index: Any, length: Any, data: Any) -> Any:
    where = device(kind, index)
    if type(length) is not int or not 0 <= length <= 1 << 62:
        raise DecodeError(f"{length!r:.30} is not a length")
    with _outside_modes() as torch:
        if kind == "meta":
            if data is not None:
                raise DecodeError("a storage on meta has no bytes")
            return torch.empty(length, dtype=torch.uint8, device=where).untyped_storage()
        if not isinstance(data, bytes | bytearray | memoryview) or len(data) != length:
            raise DecodeError(f"a storage of {length} bytes comes with other bytes")
        if not length:
            return torch.empty(0, dtype=torch.uint8, device=where).untyped_storage()
        owned = torch.frombuffer(bytearray(data), dtype=torch.uint8)
        # A clone has memory allocated by torch, aligned as kernels expect; a bytearray's buffer may not be.
        return (owned.clone() if kind == "cpu" else owned.to(where)).untyped_storage()


def _view(storage: Any, dtype: Any, sizes: Any, strides: Any, offset: Any, flags: Any) -> Any:
    for numbers in (sizes, strides, [offset, flags]):
        if type(numbers) is not list or not all(type(n) is int and 0 <= n < 1 << 62 for n in numbers):
            raise DecodeError(f"{numbers!r:.60} are not sizes, strides, offset or flags")
    if flags & ~_FLAGS:
        raise DecodeError(f"unknown flags {flags:#x}")
    with _outside_modes() as torch:
        element = getattr(torch, dtype) if type(dtype) is str else None
        if not isinstance(element, torch.dtype):
            raise DecodeError(f"{dtype!r:.40} is not a dtype")
        if (
            len(sizes) != len(strides)
            or _reach(sizes, strides, offset, element.itemsize)[1] > storage.nbytes()
        ):
            raise DecodeError("a tensor reaches behind its storage")
        tensor = torch.empty(0, dtype=element, device=storage.device).set_(storage, offset, sizes, strides)
        if flags & TensorFlag.CONJ:
            native().set_conj(tensor, True)
        if flags & TensorFlag.NEG:
            native().set_neg(tensor, True)
        needs_gradient = bool(flags & TensorFlag.REQUIRES_GRAD)
        if flags & TensorFlag.PARAMETER:
            return torch.nn.Parameter(tensor, needs_gradient)
        return tensor.requires_grad_(needs_gradient)


def _body(storage: list[Any], view: list[Any], data: bytes) -> bytes:
    head = pack([sys.byteorder, storage, view])
    return b"".join((_LENGTH.pack(len(head)), head, data))


class TensorCodec(Codec[Any]):
    """The codec of dense tensors and parameters; refuses quantised, sparse, nested, fake and wrapped tensors.

    Extra attributes and `.grad` are not kept. Decoding puts the tensor on its named device, with its own
    memory.
    """

    kind = Kind.TENSOR

    def encode(self, value: Any, sink: Sink) -> bytes:
        """Return geometry and bytes of a tensor."""
        if not is_tensor(value):
            raise EncodeError(type(value).__name__, reason="not a tensor")
        table, node = StorageTable(), list[Any]()
        table.add(value, node)
        ((*storage, data),) = table.encode(sink, MAX_BLOB_BYTES + 1)
        return _body(storage, node[1:], data or b"")

    def decode(self, data: bytes | memoryview, source: Source, version: int) -> Any:
        """Rebuild the tensor."""
        self.check_version(version)
        try:
            (length,) = _LENGTH.unpack_from(data)
            raw = memoryview(data)[_LENGTH.size + length :]
            order, (kind, index, size), view = unpack(memoryview(data)[_LENGTH.size : _LENGTH.size + length])
            if order != sys.byteorder:
                raise DecodeError(f"byte order {order!r:.20}, this machine's is {sys.byteorder}")
            if kind == "meta" and len(raw):
                raise DecodeError(f"{len(raw)} bytes behind the head of a meta tensor")
            return _view(_storage(kind, index, size, None if kind == "meta" else raw), *view)
        except FirebrickError:
            raise
        except Exception as error:  # torch raises many types for invalid tensors
            raise DecodeError(f"not a tensor: {type(error).__name__}: {error}") from None
