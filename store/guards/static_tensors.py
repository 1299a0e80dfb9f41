"""Tensors that guards know by their address: those of an optimizer, which torch puts into the graph itself.

In another process such a tensor is known again at the place where the program reaches it, by all that the
compiler may have made of it but its numbers, and by which others are the same tensor. Imports nothing of
torch's compiler.
"""

from __future__ import annotations

from typing import Any, Final

import torch

from firebrick.base.digest import Hasher
from firebrick.errors import NotStorable
from firebrick.guards.identity_guards import Identity, path_of
from firebrick.reports.events import Change
from firebrick.reports.not_served import ObjectChanged

TENSOR: Final = "tensor"  # kind of such an identity


def _facts(value: torch.Tensor) -> str:
    if type(value) not in (torch.Tensor, torch.nn.Parameter) or value.layout is not torch.strided:
        raise NotStorable(f"identity of a {path_of(type(value))} object")
    flags = value.requires_grad, value.is_leaf, value.is_conj(), value.is_neg(), value.is_inference()
    sizes = tuple(value.shape), value.stride(), value.storage_offset()
    return f"{value.dtype} {value.device} {sizes} {flags}"


class StaticTensors:
    """The tensors of one build of guards, each with a number; used once, to write guards or to build them."""

    def __init__(self) -> None:
        self.names: dict[int, str] = {}  # by address
        self.found: dict[str, torch.Tensor] = {}

    def describe(self, value: torch.Tensor) -> Identity:
        """Return what a tensor is, and which.

        Raises:
            NotStorable: it is of a class of its own, or sparse.
        """
        digest = Hasher(_facts(value).encode()).hexdigest()
        name = self.names.setdefault(id(value), f"{path_of(type(value))}#{len(self.names)}")
        self.found[name] = value  # so that no address is used twice
        return TENSOR, name, digest

    def check(self, value: Any, wanted: Identity, where: str) -> None:
        """Check that a tensor is like the one that was described, and the same where that was the same.

        Raises:
            ObjectChanged: it is not.
        """
        _, name, digest = wanted
        try:
            alike = isinstance(value, torch.Tensor) and digest == Hasher(_facts(value).encode()).hexdigest()
        except NotStorable:
            alike = False
        if not alike or name.partition("#")[0] != path_of(type(value)):
            raise ObjectChanged(
                f"{where} is another tensor", Change(where, "a tensor of the graph", "another")
            )
        same = self.found.setdefault(name, value) is value
        if not same or self.names.setdefault(id(value), name) != name:
            raise ObjectChanged(f"{where} is the same tensor as others, or was", Change(where, None, None))
