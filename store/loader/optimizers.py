"""Let optimisers and custom operators run without importing Dynamo, until something else does.

torch excludes functions of its optimisers and kernels of custom operators from tracing, and imports Dynamo
for that at their first call. Outside compiled functions the exclusion has no effect. Until
Dynamo is imported these functions are called directly, and ``step`` omits its graph breaks. It has the code
of torch's own, so that guards and digests see the same with and without Dynamo.

Source followed: ``torch/_compile.py``, ``torch/optim/optimizer.py``.
"""

from __future__ import annotations

import builtins
import functools
import sys
import types
from collections.abc import Callable, Iterator
from types import CodeType, FunctionType
from typing import Any

import torch

from firebrick.torch_api import compiler_free as api
from firebrick.torch_api import native


class Optimizers:
    """The optimisers of torch and the program imported at construction, and functions disabled since."""

    def __init__(self) -> None:
        self._marked: list[FunctionType] = []
        self._steps: list[tuple[type, Any, Any]] = []

    def quiet(self) -> None:
        """Keep them from importing Dynamo."""
        marked = native.disable_dynamo(_nothing).__code__
        for function in _functions():
            for inner in _closed_over(function, marked):
                self._mark(inner.__wrapped__)
        native.set_disable_dynamo(self._disabling(native.disable_dynamo))
        stepping = sys.modules["torch.optim.optimizer"]._use_grad_for_differentiable(_nothing).__code__
        for cls in _classes(torch.optim.Optimizer):
            step = cls.__dict__.get("step")
            if isinstance(step, FunctionType) and step.__code__ is stepping:
                quiet = _step(step)
                self._steps.append((cls, step, quiet))
                cls.step = quiet  # type: ignore[attr-defined]

    def _mark(self, plain: FunctionType) -> None:
        if not hasattr(plain, api.DISABLED_FORM):
            api.never_trace(plain.__code__)
            setattr(plain, api.DISABLED_FORM, plain)
            self._marked.append(plain)

    def _disabling(self, original: Callable[..., Any]) -> Callable[..., Any]:
        """Return ``torch._disable_dynamo`` whose functions do not import Dynamo."""

        @functools.wraps(original)
        def disable_dynamo(fn: Any = None, recursive: bool = True) -> Any:
            if fn is None:
                return functools.partial(disable_dynamo, recursive=recursive)
            if type(fn) is FunctionType:
                self._mark(fn)
            return original(fn, recursive)

        return disable_dynamo

    def unmark(self) -> None:
        """Let torch mark its functions, now that Dynamo is imported."""
        native.set_disable_dynamo(native.disable_dynamo)
        while self._marked:
            self._marked.pop().__dict__.pop(api.DISABLED_FORM, None)

    def restore(self) -> None:
        """Give torch's functions back; an instance may have wrapped some."""
        self.unmark()
        while self._steps:
            cls, step, quiet = self._steps.pop()
            if cls.__dict__.get("step") is quiet:
                cls.step = step  # type: ignore[attr-defined]


def _nothing() -> None: ...


class _Quiet:
    """Stands for the module torch in a step that leaves Dynamo out: nothing is traced, so no graph breaks."""

    is_grad_enabled = staticmethod(torch.is_grad_enabled)
    set_grad_enabled = torch.set_grad_enabled
    _dynamo = types.SimpleNamespace(graph_break=_nothing)


def _import(name: str, *args: Any, **kwargs: Any) -> Any:
    if name == "torch._dynamo" and name not in sys.modules:
        return _Quiet
    return builtins.__import__(name, *args, **kwargs)


def _step(original: FunctionType) -> FunctionType:
    """Return ``step`` with the code of torch's own, to which another import statement means less."""
    scope = original.__globals__ | {"__builtins__": vars(builtins) | {"__import__": _import}}
    name, defaults, cells = original.__name__, original.__defaults__, original.__closure__
    step = FunctionType(original.__code__, scope, name, defaults, cells)
    step.__kwdefaults__ = original.__kwdefaults__
    wrapped = original.__wrapped__  # type: ignore[attr-defined]
    functools.update_wrapper(step, original).__wrapped__ = wrapped
    return step


def _classes(cls: type) -> Iterator[type]:
    yield cls
    subclasses: list[type] = cls.__subclasses__()
    for sub in subclasses:
        yield from _classes(sub)


def _functions() -> Iterator[FunctionType]:
    """Yield kernels of operators, methods of optimisers, and their functions that perform one step."""
    for cls in _classes(torch.optim.Optimizer):
        yield from (value for value in vars(cls).values() if isinstance(value, FunctionType))
    for name, module in list(sys.modules.items()):
        if name.startswith("torch.optim."):
            values = list(vars(module).values())
            yield from (v for v in values if isinstance(v, FunctionType) and v.__module__ == name)
    for operator in list(native.OPDEFS.values()):
        yield from operator._backend_fns.values()


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
