"""The names that the code of Inductor's wrappers may use, and their values.

Capture rewrites wrappers to use these names and refuses any other. The table needs nothing but ``import
torch``. Source followed: ``PythonWrapperCodegen.write_header`` of ``torch/_inductor/codegen/wrapper.py``,
``torch/_inductor/kernel/{mm,bmm,conv}.py``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any, Final

import torch

from firebrick.torch_api import native
from firebrick.torch_api.minors import has
from firebrick.torch_api.native import guards

DEVICE: Final = "device_index"  # of the GPU a wrapper was compiled for or moved to
ALIGNMENT: Final = 64  # bytes; offsets in a pool are rounded up to this: `ALIGN_BYTES`

# Functions of `extern_kernels` by their path in torch.
EXTERN_KERNELS: Final[Mapping[str, str]] = {
    "mm": "mm",
    "addmm": "addmm",
    "bmm": "bmm",
    "baddbmm": "baddbmm",
    "convolution": "convolution",
    "_int_mm": "_int_mm",
    "_scaled_mm": "_scaled_mm",
    "_grouped_mm": "_grouped_mm",
    "_scaled_grouped_mm": "_scaled_grouped_mm",
    "_sparse_semi_structured_mm": "_sparse_semi_structured_mm",
    "mm_dtype": "mm",
    "bmm_dtype": "bmm",
    "_mm_plus_mm": "ops.inductor._mm_plus_mm",
    "_mkl_linear": "ops.mkl._mkl_linear",
    "_linear_pointwise": "ops.mkldnn._linear_pointwise",
}


def align(size: int) -> int:
    """Round a number of bytes up to the alignment of Inductor's memory pools."""
    return (size + ALIGNMENT - 1) & -ALIGNMENT


def bias_addmm(
    bias: torch.Tensor, a: torch.Tensor, b: torch.Tensor, *, out: Any = None, alpha: Any = 1, beta: Any = 1
) -> torch.Tensor:
    """Compute ``addmm`` with one row of the bias if all its rows are equal."""
    if bias.size(0) == 1 or (bias.size(0) and bias.stride(0) == 0):
        bias = bias[0]
    return torch.addmm(bias, a, b, out=out, alpha=alpha, beta=beta)


def conv1x1_via_mm(x: torch.Tensor, w: torch.Tensor, *, out: torch.Tensor) -> torch.Tensor:
    """Compute a 1x1 convolution as a matrix product; tensors are NCHW and OI11."""
    w = torch.squeeze(torch.squeeze(w, -1), -1)
    return torch.matmul(x.permute(0, 2, 3, 1), w.permute(1, 0), out=out.permute(0, 2, 3, 1))


def _at(path: str) -> Any:
    value: Any = torch
    for name in path.split("."):
        value = getattr(value, name)
    return value


class _ExternKernels(SimpleNamespace):
    def __getattr__(self, name: str) -> Any:
        if name not in EXTERN_KERNELS:
            raise AttributeError(name)
        value = _at(EXTERN_KERNELS[name])
        setattr(self, name, value)
        return value


def assert_tensor_metadata(
    tensor: torch.Tensor | None,
    size: tuple[Any, ...],
    stride: tuple[Any, ...],
    dtype: torch.dtype,
    op_name: str | None = None,
) -> None:
    """Check the result of an operator that Inductor calls (torch 2.14).

    Source followed: ``torch/_inductor/runtime/runtime_utils.py``.

    Raises:
        RuntimeError: its dtype differs from that of the operator's fake-tensor kernel.
        AssertionError: its sizes or strides differ.
    """
    if tensor is None:
        return
    if tensor.dtype != dtype:
        where = f"\nError in op: {op_name}" if op_name else ""
        raise RuntimeError(
            f"expected dtype {dtype} but got {tensor.dtype}{where}"
            "\nThis error most often comes from an incorrect fake (aka meta) kernel for a custom op."
            "\nUse torch.library.opcheck to test your custom op."
            "\nSee https://pytorch.org/docs/stable/library.html#torch.library.opcheck"
        )
    guards.assert_size_stride(tensor, size, stride, op_name)


OWN_KERNELS: Final = {"bias_addmm": bias_addmm, "conv1x1_via_mm": conv1x1_via_mm}  # not in torch
_COPIES: Final = has("torch._C._dynamo.guards:copy_if_misaligned")
extern_kernels = _ExternKernels(**OWN_KERNELS)


def namespace(device: int | None = None) -> dict[str, Any]:
    """Return a new dictionary of all globals that wrapper code may name.

    Args:
        device: index of the GPU the code runs on; None if it names none.
    """
    return {
        DEVICE: device,
        "torch": torch,
        "math": math,
        "inf": math.inf,
        "nan": math.nan,
        "nanj": complex(0.0, math.nan),
        "device": torch.device,
        "empty_strided": torch.empty_strided,
        "align": align,
        "assert_tensor_metadata": assert_tensor_metadata,
        "extern_kernels": extern_kernels,
        "get_raw_stream": native.raw_stream(),
        "copy_if_misaligned": guards.copy_if_misaligned if _COPIES else None,
    }


NAMES: Final = frozenset(namespace())
