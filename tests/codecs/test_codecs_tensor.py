"""Tensors: every dtype, every geometry, and only the bytes that they reach."""

import struct
import sys
import warnings
from typing import Any

import pytest
import torch
from torch._subclasses import FakeTensorMode

from firebrick import codecs
from firebrick.codecs import tensor as tensors
from firebrick.errors import DecodeError, EncodeError, LimitExceeded
from firebrick.storage.format import Kind
from firebrick.storage.msgpack import pack, unpack
from support.strategies import same

DTYPES = sorted({value for value in vars(torch).values() if isinstance(value, torch.dtype)}, key=str)


def trip(value: Any) -> Any:
    root = codecs.encode(Kind.TENSOR, value).root
    return codecs.decode(Kind.TENSOR, root.version, memoryview(root.data), {}.__getitem__)


def raw(tensor: torch.Tensor) -> bytes:
    return bytes(tensor.detach().untyped_storage().tolist())


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_every_dtype_is_kept_bit_by_bit_or_refused(dtype: torch.dtype) -> None:
    data = torch.arange(64, dtype=torch.uint8)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            value = torch.empty(0, dtype=dtype).set_(data.untyped_storage(), 1, (3,), (1,))
        except (RuntimeError, NotImplementedError):
            pytest.skip(f"torch makes no dense tensors of {dtype}")
        if str(dtype).startswith("torch.q"):
            with pytest.raises(EncodeError, match="quantised"):
                trip(value)
            return
        back = trip(value)
    assert (back.dtype, back.size(), back.stride()) == (dtype, (3,), (1,))
    assert raw(back) == bytes(range(dtype.itemsize, 4 * dtype.itemsize))


GEOMETRIES = {
    "scalar": torch.tensor(3.5),
    "empty": torch.empty(0),
    "empty side": torch.empty(2, 0, 3),
    "permuted": torch.arange(24.0).view(2, 3, 4).permute(2, 0, 1),
    "window": torch.arange(24.0).view(4, 6)[1:3, 2:5],
    "expanded": torch.ones(1).expand(1000),
    "overlapping": torch.arange(9.0).as_strided((3, 3), (1, 2), 1),
    "slice behind the end": torch.arange(8)[8:],
    "conjugate": torch.randn(3, dtype=torch.complex64).conj(),
    "negated": torch.randn(3, dtype=torch.complex64).conj().imag,
    "parameter": torch.nn.Parameter(torch.ones(2)),
    "frozen parameter": torch.nn.Parameter(torch.ones(2), requires_grad=False),
    "requires grad": torch.ones(2, requires_grad=True),
    "special values": torch.tensor([float("nan"), -0.0, float("inf")]),
}


@pytest.mark.parametrize("value", GEOMETRIES.values(), ids=GEOMETRIES)
def test_geometry_flags_and_values_are_kept(value: torch.Tensor) -> None:
    back = trip(value)
    assert same(back, value)
    assert type(back) is type(value)
    assert codecs.encode(Kind.TENSOR, back) == codecs.encode(Kind.TENSOR, value)


def test_only_reached_bytes_are_kept() -> None:
    value = torch.arange(1_000_000.0)[1000:1003]
    assert len(codecs.encode(Kind.TENSOR, value).root.data) < 100
    assert trip(value).untyped_storage().nbytes() == 12


def test_where_a_slice_lay_in_its_storage_does_not_show() -> None:
    whole = torch.ones(10)
    assert codecs.encode(Kind.TENSOR, whole[2:5]) == codecs.encode(Kind.TENSOR, whole[6:9])
    assert codecs.encode(Kind.TENSOR, whole[7:7]) == codecs.encode(Kind.TENSOR, torch.empty(0))


def test_what_is_decoded_owns_its_memory() -> None:
    value = torch.ones(4)
    body = bytearray(codecs.encode(Kind.TENSOR, value).root.data)
    back = codecs.decode(Kind.TENSOR, 1, memoryview(body), {}.__getitem__)
    body[:] = bytes(len(body))
    assert torch.equal(back, value)
    back.add_(1)


def test_a_tensor_on_meta_has_no_bytes() -> None:
    value = torch.empty(1 << 40, 3, device="meta", dtype=torch.float16).t()
    back = trip(value)
    assert (back.shape, back.stride(), back.device.type) == (value.shape, value.stride(), "meta")
    assert len(codecs.encode(Kind.TENSOR, value).root.data) < 100


def test_views_of_different_element_sizes_share_a_storage_again() -> None:
    base = torch.arange(64, dtype=torch.uint8)
    small, large = base[9:21], base[16:48].view(torch.complex64)
    encoded = codecs.encode(Kind.GRAPH, [small, large])
    source = {blob.key: blob for blob in encoded.children}
    back = codecs.decode(Kind.GRAPH, 1, encoded.root.data, source.__getitem__)
    assert same(back, [small, large])
    back[0][7] = 255
    assert torch.view_as_real(back[1]).view(torch.uint8).flatten()[0] == 255


class Wrapped(torch.Tensor):
    """A subclass."""


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        pytest.param(lambda one: one.to_sparse(), "layout", id="sparse"),
        pytest.param(lambda one: one.to_sparse_csr(), "layout", id="sparse CSR"),
        pytest.param(lambda one: one.as_subclass(Wrapped), "only torch.Tensor", id="subclass"),
        pytest.param(lambda one: one.requires_grad_() * 2, "leaf", id="not a leaf"),
        pytest.param(
            lambda one: torch.quantize_per_tensor(one, 1.0, 0, torch.qint8), "quant", id="quantised"
        ),
        pytest.param(lambda one: torch.nested.nested_tensor([one[0]]), "nested", id="nested"),
        pytest.param(lambda one: torch._efficientzerotensor((2,)), "zero tensor", id="zero"),
        pytest.param(lambda one: "text", "not a tensor", id="text"),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_what_has_no_faithful_encoding_is_refused(make: Any, reason: str) -> None:
    value = make(torch.ones(2, 2))
    with pytest.raises(EncodeError) as caught:
        trip(value)
    assert reason in caught.value.reason


def test_fake_and_functional_tensors_are_refused() -> None:
    with FakeTensorMode(), pytest.raises(EncodeError):
        trip(torch.ones(2))
    functional = torch._to_functional_tensor(torch.ones(2))
    with pytest.raises(EncodeError, match="functional"):
        trip(functional)
    seen = []
    torch.func.vmap(lambda row: seen.append(row) or row)(torch.ones(2, 2))
    with pytest.raises(EncodeError, match="functorch"):
        trip(seen[0])


def test_a_freed_storage_is_refused() -> None:
    value = torch.ones(100)
    value.untyped_storage().resize_(0)
    with pytest.raises(EncodeError, match="behind its storage"):
        trip(value)


def test_real_tensors_are_encoded_and_decoded_under_fake_and_inference_mode() -> None:
    value = torch.arange(3.0)
    plain = codecs.encode(Kind.TENSOR, value)
    with FakeTensorMode(), torch.inference_mode():
        assert codecs.encode(Kind.TENSOR, value) == plain
        back = trip(value)
    assert type(back) is torch.Tensor
    assert not back.is_inference()
    assert torch.equal(back, value)


def body(change: Any) -> bytes:
    data = bytes(codecs.encode(Kind.TENSOR, torch.arange(4.0)).root.data)
    (length,) = struct.unpack_from("<I", data)
    head = unpack(data[4 : 4 + length])
    rest = change(head) or data[4 + length :]
    packed = pack(head)
    return struct.pack("<I", len(packed)) + packed + rest


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        pytest.param(
            lambda h: h.__setitem__(0, "pdp"), f"this machine's is {sys.byteorder}", id="byte order"
        ),
        pytest.param(lambda h: h[1].__setitem__(0, "nowhere"), "not a tensor", id="device"),
        pytest.param(lambda h: h[1].__setitem__(0, 5), "not a device", id="device type"),
        pytest.param(lambda h: h[1].__setitem__(2, 15), "other bytes", id="length"),
        pytest.param(lambda h: h[1].__setitem__(2, -1), "not a length", id="negative length"),
        pytest.param(lambda h: b"12345678", "other bytes", id="fewer bytes"),
        pytest.param(lambda h: h[1].__setitem__(0, "meta"), "behind the head", id="meta with bytes"),
        pytest.param(lambda h: h[2].__setitem__(0, "float33"), "not a tensor", id="dtype"),
        pytest.param(lambda h: h[2].__setitem__(0, "Tensor"), "not a dtype", id="no dtype"),
        pytest.param(lambda h: h[2].__setitem__(1, [5]), "reaches behind", id="size"),
        pytest.param(lambda h: h[2].__setitem__(1, [1 << 61, 1 << 61]), "reaches behind", id="overflow"),
        pytest.param(lambda h: h[2].__setitem__(1, [-4]), "are not sizes", id="negative size"),
        pytest.param(lambda h: h[2].__setitem__(2, [1 << 60]), "reaches behind", id="stride"),
        pytest.param(lambda h: h[2].__setitem__(2, [True]), "are not sizes", id="bool"),
        pytest.param(lambda h: h[2].__setitem__(2, []), "reaches behind|not a tensor", id="no strides"),
        pytest.param(lambda h: h[2].__setitem__(3, 1), "reaches behind", id="offset"),
        pytest.param(lambda h: h[2].__setitem__(4, 16), "unknown flags", id="flags"),
        pytest.param(lambda h: h[2].append(1), "not a tensor", id="one operand more"),
    ],
)
def test_a_damaged_tensor_is_refused(change: Any, reason: str) -> None:
    with pytest.raises(DecodeError, match=reason):
        codecs.decode(Kind.TENSOR, 1, body(change), {}.__getitem__)


def test_a_head_longer_than_the_body_is_refused() -> None:
    for data in (b"", b"\0\0", b"\xff\xff\xff\xff\x93"):
        with pytest.raises(DecodeError):
            codecs.decode(Kind.TENSOR, 1, data, {}.__getitem__)


def test_a_storage_larger_than_a_blob_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tensors, "MAX_BLOB_BYTES", 15)
    with pytest.raises(LimitExceeded) as caught:
        trip(torch.ones(4))
    assert (caught.value.actual, caught.value.limit) == (16, 15)


def test_a_storage_blob_that_does_not_fit_its_graph_is_refused() -> None:
    encoded = codecs.encode(Kind.GRAPH, torch.ones(2000))
    (blob,) = encoded.children
    other = codecs.encode(Kind.TENSOR, torch.ones(2001)).root
    with pytest.raises(DecodeError, match="another device or length"):
        codecs.decode(Kind.GRAPH, 1, encoded.root.data, lambda key: other)
    with pytest.raises(DecodeError, match="expected TENSOR"):
        codecs.decode(Kind.GRAPH, 1, encoded.root.data, lambda key: blob._replace(kind=Kind.TEXT))


@pytest.mark.gpu
def test_a_tensor_comes_back_on_its_gpu() -> None:
    value = torch.arange(10.0, device="cuda")[3:7]
    back = trip(value)
    assert back.device == value.device
    assert torch.equal(back, value)
    assert back.untyped_storage().nbytes() == 16
