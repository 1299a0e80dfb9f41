"""Tensor state that traced code can read and torch's guards do not compare."""

from __future__ import annotations

from typing import Any, Final

import torch

from firebrick.torch_api.compiler_free import memory_of

# Attributes and methods that Dynamo answers from the actual tensor.
TENSOR_STATE: Final = frozenset(
    {"is_leaf", "grad_fn", "_base", "_is_view", "output_nr", "is_shared", "retains_grad", "is_pinned"}
)


def tensor_state(value: torch.Tensor, names: frozenset[str]) -> str:
    """Return the state of a tensor that code reads; empty if it reads none.

    Args:
        value: the tensor.
        names: ``tensor.<attribute>`` for each attribute that user code names.
    """
    found = []
    for name in sorted(TENSOR_STATE):
        if f"tensor.{name}" in names:
            found.append(f"{name} {_asked(value, name)}")
    return ", ".join(found)


def _asked(value: torch.Tensor, name: str) -> str:
    try:
        answer: Any = getattr(value, name)
        answer = answer() if name in ("_is_view", "is_shared", "is_pinned") else answer
    except Exception as error:
        return type(error).__name__
    return repr(answer) if type(answer) in (bool, int) else str(answer is not None)


def extent_of(value: torch.Tensor) -> tuple[int, int, int] | None:
    """Return a tensor's location: the address of its memory, its first and last byte there.

    ``None`` if it has no elements or no memory of its own, like sparse tensors and fakes.
    """
    if value.layout is not torch.strided or value.numel() == 0:
        return None
    try:
        memory = memory_of(value)
    except RuntimeError:  # including NotImplementedError
        return None
    start, size = value.storage_offset(), value.element_size()
    last = start + sum((n - 1) * stride for n, stride in zip(value.shape, value.stride(), strict=True))
    return memory, int(start) * size, int(last) * size + size - 1
