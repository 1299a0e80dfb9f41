"""Make outputs that are views, and give gradients the layout a graph was compiled for.

Source followed: ``gen_alias_from_base`` of ``torch/_functorch/_aot_autograd/functional_utils.py``;
``coerce_to_expected_memory_format`` and ``process_runtime_tangent`` of ``runtime_wrappers.py`` there;
``clone_preserve_strides`` and ``copy_misaligned_inputs`` of ``torch/_inductor/utils.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import torch
from torch import Tensor

from firebrick.codecs.lean_program import Tangent, View
from firebrick.errors import Unsupported
from firebrick.torch_api import native

_functionalization = native.functionalization

ALIGNMENT: Final = 16  # bytes; kernels expect inputs aligned to this


class Alias:
    """A wrapper that hides a tensor from autograd on its way out of an ``autograd.Function``."""

    __slots__ = ("tensor",)

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor


def view_steps(views: Sequence[View]) -> list[Any]:
    """Return torch's ViewMeta objects for a recorded sequence of views.

    Raises:
        Unsupported: this torch lacks one of them.
    """
    return [_view_step(view) for view in views]


def _view_step(view: View) -> Any:
    try:
        kind = getattr(_functionalization, f"{view.name}_ViewMeta")
        return kind(tuple(map(_argument, view.arguments)))
    except (AttributeError, TypeError) as error:
        raise Unsupported(f"view {view.name}: {error}") from error


def _argument(value: Any) -> Any:
    if type(value) is tuple:
        return list(value)
    if type(value) is not str:
        return value
    kind, _, name = value.partition(" ")
    return getattr(torch if kind == "dtype" else _functionalization.InverseReturnMode, name)


def replay(base: Tensor, target: Tensor, requires_grad: bool, steps: list[Any]) -> Tensor:
    """Apply recorded views to a base; `target` is what the graph made of them.

    Raises:
        AssertionError: the result's shape differs from the target's.
    """
    out: Tensor = _functionalization.apply_view_meta_sequence(base, steps)
    if out.shape != target.shape:
        raise AssertionError(
            "incorrect out shape after application of ViewMeta sequence: "
            f"{tuple(out.shape)} (actual) vs {tuple(target.shape)} (expected)"
        )
    return _with_grad(base, out, requires_grad)


def _with_grad(base: Tensor, out: Tensor, requires_grad: bool) -> Tensor:
    if base.requires_grad and not requires_grad:
        return out.detach()
    if requires_grad and not base.requires_grad:
        out.requires_grad_(True)
    return out


def regenerate(base: Tensor, target: Tensor, requires_grad: bool) -> Tensor:
    """Make the view of `base` that corresponds to `target` as a view of its own base."""
    if (origin := target._base) is not None:
        changed = base is not origin and (
            base.size() != origin.size()
            or base.stride() != origin.stride()
            or base.storage_offset() != origin.storage_offset()
        )
        source = base.as_strided(origin.size(), origin.stride(), origin.storage_offset()) if changed else base
        out: Tensor | None = target._view_func(source)  # type: ignore[attr-defined]
        if out is not None and out.shape == target.shape:
            return _with_grad(base, out, requires_grad)
    source = base
    if base.is_complex() and not target.is_complex():
        source = torch.view_as_real(base)
    elif target.is_complex() and not base.is_complex():
        source = torch.view_as_complex(base)
    out = source.as_strided(target.size(), target.stride(), target.storage_offset())
    out = _with_grad(base, out, requires_grad)
    return out if out.dtype == target.dtype else out.view(target.dtype)


def tangent_of(tangent: Tangent) -> Callable[[Any], Any]:
    """Return a function that gives an incoming gradient the layout its backward expects."""
    if tangent.memory_format:
        memory_format = getattr(torch, tangent.memory_format)

        def formatted(x: Any) -> Any:
            if not isinstance(x, Tensor):
                return x
            if type(x) is not Tensor:
                x = _plain(x)
            if not x.is_contiguous(memory_format=memory_format):
                x = x.contiguous(memory_format=memory_format)
            return x

        return formatted
    sizes, strides = tangent.sizes, tangent.strides

    def strided(x: Any) -> Any:
        if not isinstance(x, Tensor):
            return x
        if type(x) is not Tensor:
            x = _plain(x)
        if x.shape == sizes and x.stride() == strides:
            return x
        result = torch.empty_strided(
            size=sizes,
            stride=strides,
            dtype=x.dtype,
            device=x.device,
            layout=x.layout,
            requires_grad=x.requires_grad,
        )
        result.copy_(x)
        return result

    return strided


def _plain(x: Any) -> Any:
    coerced = None
    if hasattr(x, "__coerce_same_metadata_as_tangent__"):
        coerced = x.__coerce_same_metadata_as_tangent__(None, Tensor)
    if coerced is None:
        raise RuntimeError(
            "\nDuring the backward, we encountered a tensor subclass where we guessed its\n"
            f"metadata incorrectly.\nExpected: None (type {Tensor}),\n"
            f"got: None (type {type(x)}), shape: {x.shape}.\n"
            "Your tensor subclass must implement __coerce_same_metadata_as_tangent__."
        )
    return coerced


def clone_keeping_strides(x: Tensor) -> Tensor:
    """Copy a tensor, including all memory between its first and last element."""
    size, stride = x.size(), x.stride()
    reach = 0 if 0 in size else sum((n - 1) * step for n, step in zip(size, stride, strict=True)) + 1
    return torch.as_strided(torch.as_strided(x, (reach,), (1,)).clone(), size, stride)


def aligned(
    call: Callable[[list[Any]], Any], check: Sequence[int], restore: Sequence[int]
) -> Callable[[list[Any]], Any]:
    """Return a function that runs `call` with misaligned inputs copied.

    Args:
        call: takes its arguments as a list.
        check: indices of inputs to check.
        restore: indices of those that `call` mutates; copies are copied back.
    """
    if not check:
        return call
    pairs = [(index, index in frozenset(restore)) for index in check]

    def run(args: list[Any]) -> Any:
        old, new = [], []
        for index, back in pairs:
            given = args[index]
            if given.data_ptr() % ALIGNMENT:
                args[index] = copied = clone_keeping_strides(given)
                if back:
                    old.append(given)
                    new.append(copied)
        out = call(args)
        if old:
            native.foreach_copy(old, new)
        return out

    return run
