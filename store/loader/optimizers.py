"""Let optimisers be created and step without importing Dynamo, until something else imports it.

torch excludes functions of its optimisers from tracing, and imports Dynamo for that at their first call.
Outside compiled functions the exclusion has no effect. Until Dynamo is imported these functions are called
directly, and ``step`` omits its graph breaks; then torch's own are restored.

Source followed: ``torch/_compile.py``, ``torch/optim/optimizer.py``.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterator
from types import CodeType, FunctionType
from typing import Any

import torch

from firebrick.torch_api import compiler_free as api
from firebrick.torch_api import native

_MARK = "__dynamo_disable"  # where torch keeps the marked form of a function


class Optimizers:
    """The optimisers of torch and the program imported at construction."""

    def __init__(self) -> None:
        self._marked: list[FunctionType] = []
        self._steps: list[tuple[type, Any, Any]] = []

    def quiet(self) -> None:
        """Keep them from importing Dynamo."""
        marked = native.disable_dynamo(_nothing).__code__
        for function in _functions():
            for inner in _closed_over(function, marked):
                plain = inner.__wrapped__
                if not hasattr(plain, _MARK):
                    api.never_trace(plain.__code__)
                    setattr(plain, _MARK, plain)
                    self._marked.append(plain)
        stepping = sys.modules["torch.optim.optimizer"]._use_grad_for_differentiable(_nothing).__code__
        for cls in _classes(torch.optim.Optimizer):
            step = cls.__dict__.get("step")
            if isinstance(step, FunctionType) and step.__code__ is stepping:
                quiet = _step(step)
                self._steps.append((cls, step, quiet))
                cls.step = quiet  # type: ignore[attr-defined]

    def restore(self) -> None:
        """Restore torch's functions; called when Dynamo is imported, and at the end."""
        while self._marked:
            self._marked.pop().__dict__.pop(_MARK, None)
        while self._steps:
            cls, step, quiet = self._steps.pop()
            if cls.__dict__.get("step") is quiet:
                cls.step = step  # type: ignore[attr-defined]


def _nothing() -> None: ...


def _step(original: FunctionType) -> Callable[..., Any]:
    """Return ``step`` without graph breaks; an instance may have wrapped it before Dynamo's import."""
    plain: Callable[..., Any] = original.__wrapped__  # type: ignore[attr-defined]

    @functools.wraps(original)
    def step(self: Any, *args: Any, **kwargs: Any) -> Any:
        if "torch._dynamo" in sys.modules:
            return original(self, *args, **kwargs)
        before = torch.is_grad_enabled()
        try:
            torch.set_grad_enabled(self.defaults["differentiable"])
            return plain(self, *args, **kwargs)
        finally:
            torch.set_grad_enabled(before)

    return step


def _classes(cls: type) -> Iterator[type]:
    yield cls
    subclasses: list[type] = cls.__subclasses__()
    for sub in subclasses:
        yield from _classes(sub)


def _functions() -> Iterator[FunctionType]:
    """Yield the functions of optimisers: methods, and those that perform one step."""
    for cls in _classes(torch.optim.Optimizer):
        yield from (value for value in vars(cls).values() if isinstance(value, FunctionType))
    for name, module in list(sys.modules.items()):
        if name.startswith("torch.optim."):
            values = list(vars(module).values())
            yield from (v for v in values if isinstance(v, FunctionType) and v.__module__ == name)


def _closed_over(function: FunctionType, marked: CodeType) -> Iterator[Any]:
    """Yield a marked function itself, and functions in a function's closure."""
    if function.__code__ is marked:
        yield function
        return
    for cell in function.__closure__ or ():
        try:
            value = cell.cell_contents
        except ValueError:
            continue
        if isinstance(value, FunctionType) and value.__code__ is marked:
            yield value
