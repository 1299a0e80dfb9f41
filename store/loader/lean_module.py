"""A compiled module made without the compiler, which behaves like torch's ``OptimizedModule``.

Source followed: ``OptimizedModule`` of ``torch/_dynamo/eval_frame.py``. When Dynamo is imported,
`on_dynamo_imported` makes this class one of its subclasses, so that ``isinstance`` holds.
"""

from __future__ import annotations

import functools
import sys
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch

from firebrick.torch_api import native

if TYPE_CHECKING:
    from firebrick.loader.lean_entry import Region

_OWN = frozenset(
    (
        *("_orig_mod", "dynamo_ctx", "_torchdynamo_orig_callable", "_torchdynamo_wrapper_id"),
        *("get_compiler_config", "forward", "_forward", "__dict__", "named_children_walk"),
        *("_super_module_initialized", "_region"),
    )
)


class LeanModule(torch.nn.Module):
    """A wrapper of a module whose forward runs under torch's hook; its attributes are the module's.

    Args:
        module: the compiled module.
        region: serves its frames, or falls back to the compiler.
        forward: runs the module under the hook.
    """

    def __init__(self, module: torch.nn.Module, region: Region, forward: Callable[..., Any]) -> None:
        object.__setattr__(self, "_orig_mod", module)  # from now on attributes are looked up there
        self._super_module_initialized = False
        torch.nn.Module.__init__(self)
        self._super_module_initialized = True
        self._orig_mod = module
        self._region = region
        self.forward = forward
        self._torchdynamo_orig_callable = module.forward
        self._torchdynamo_wrapper_id = id(self)
        self.get_compiler_config = lambda: region.fall_back_to_compiler().result.get_compiler_config()
        region.on_hand_over = self._handed_over

    def _handed_over(self, real: Any) -> None:
        self.forward = real.forward

    @property
    def dynamo_ctx(self) -> Any:
        """torch's context of the compiled module; reading it imports the compiler."""
        return self._region.fall_back_to_compiler().context

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the compiled module, with the hooks of this wrapper around it."""
        if native.has_any_global_hook():
            warnings.warn(
                "torch.compile(module) with global module hooks: they run an extra time for the compiled "
                "wrapper; use module.compile() or hooks of single modules instead",
                stacklevel=2,
            )
        return torch.nn.Module.__call__(self, *args, **kwargs)

    def __len__(self) -> int:
        """Return the length of the module."""
        if not hasattr(type(self._orig_mod), "__len__"):
            raise TypeError(f"{type(self._orig_mod).__name__} does not support len()")
        return len(self._orig_mod)  # type: ignore[arg-type]

    def __reduce__(self) -> tuple[Any, ...]:
        """Copy and pickle as the module and the arguments of ``torch.compile``, without Firebrick."""
        return functools.partial(torch.compile, **self._region.arguments), (self._orig_mod,)

    @property
    def training(self) -> bool:
        """Whether the module is in training mode."""
        return self._orig_mod.training

    @training.setter
    def training(self, value: bool) -> None:
        if self._super_module_initialized:
            self._orig_mod.training = value

    def __getattr__(self, name: str) -> Any:
        """Look an attribute up in the module."""
        if name == "_orig_mod":
            return self._modules["_orig_mod"]
        return getattr(self._orig_mod, name)

    def __setattr__(self, name: str, value: Any) -> None:
        """Set an attribute of the module, or of the wrapper if it is the wrapper's own."""
        if hasattr(type(self), name) or name in _OWN:
            torch.nn.Module.__setattr__(self, name, value)
        else:
            setattr(self._orig_mod, name, value)

    def __delattr__(self, name: str) -> None:
        """Delete an attribute of the module, or of the wrapper if it is the wrapper's own."""
        if hasattr(type(self), name) or name in _OWN:
            torch.nn.Module.__delattr__(self, name)
        else:
            delattr(self._orig_mod, name)

    def __dir__(self) -> list[str]:
        """List the attributes of module and wrapper."""
        own = dir(self._orig_mod)
        return [*own, *(name for name in super().__dir__() if name not in own)]  # type: ignore[no-untyped-call]


LeanModule.__name__ = "OptimizedModule"  # as programs print it


def on_dynamo_imported() -> None:
    """Make the class a subclass of Dynamo's, just imported."""
    optimized = sys.modules["torch._dynamo.eval_frame"].OptimizedModule
    if LeanModule.__bases__ != (optimized,):
        LeanModule.__bases__ = (optimized,)
