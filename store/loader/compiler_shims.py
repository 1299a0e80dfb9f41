"""Make functions of ``torch.compiler`` work without the compiler until something else imports it.

``disable`` marks functions; libraries call it at import. A marked function has torch's marks from the start,
so that Dynamo, once imported, recognises it. Until then it is called with the frame evaluation hook disabled;
afterwards torch's own wrapper runs. ``cudagraph_mark_step_begin`` tells torch's CUDA graphs that their
outputs may be overwritten; without such graphs it does nothing.

Source followed: ``disable`` of ``torch/compiler/__init__.py`` and ``torch/_dynamo/decorators.py``,
``DisableContext`` of ``torch/_dynamo/eval_frame.py``.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from types import FunctionType
from typing import Any

from firebrick.torch_api import compiler_free as api


def defer_disable(original: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap ``torch.compiler.disable``; anything but a plain function is left to torch."""

    @functools.wraps(original)
    def disable(fn: Any = None, recursive: bool = True, *, reason: str | None = None) -> Any:
        if api.dynamo() is None:
            if fn is None and not recursive:
                return functools.partial(disable, recursive=False, reason=reason)
            if type(fn) is FunctionType and api.ORIGINAL not in vars(fn):
                return _marked(fn, recursive, reason, original)
        return original(fn, recursive, reason=reason)

    return disable


def _marked(fn: FunctionType, recursive: bool, reason: str | None, original: Callable[..., Any]) -> Any:
    real: Callable[..., Any] | None = None

    def own() -> Callable[..., Any]:
        nonlocal real
        if real is None and api.dynamo() is not None:
            real = original(fn, recursive, reason=reason)
        return real or fn

    @functools.wraps(fn)
    def untraced(*args: Any, **kwargs: Any) -> Any:
        return own()(*args, **kwargs)

    @functools.wraps(fn)
    def skipped(*args: Any, **kwargs: Any) -> Any:
        return own()(*args, **kwargs)

    function: Any = untraced if recursive else skipped
    if recursive:
        api.never_trace(function.__code__)
    else:
        api.skip_frames(function.__code__)
        api.skip_frames(own.__code__)
    vars(function).update(api.disable_marks(function, fn, recursive, reason))
    return function


def defer_mark_step(original: Callable[[], None]) -> Callable[[], None]:
    """Wrap ``torch.compiler.cudagraph_mark_step_begin``."""

    @functools.wraps(original)
    def cudagraph_mark_step_begin() -> None:
        if "torch._inductor.cudagraph_trees" in sys.modules:
            original()

    return cudagraph_mark_step_begin
