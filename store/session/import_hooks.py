"""Minimal hooks installed when ``torch._dynamo`` is imported; the rest waits for the first Inductor backend.

``_optimize``, which ``torch.compile`` calls, is wrapped; backends other than Inductor pass through. The first
Inductor backend imports Inductor and installs the other hooks (`compiler_hooks`); a start served by the lean
lane never gets there. torch's artifact registry and the context are one from now on.
"""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from firebrick import torch_api
from firebrick.base.patches import Patches
from firebrick.reports.events import FULL, LEFT, OTHER_BACKEND, Event, Function
from firebrick.torch_api import native, registry

if TYPE_CHECKING:
    from firebrick.session.compiler_hooks import Hooks
    from firebrick.session.session import Session


class LazyHooks:
    """The hooks of one session until Inductor is needed, which then install the others. Thread-safe.

    Raises:
        Unsupported: this torch is not supported.
    """

    def __init__(self, session: Session) -> None:
        torch_api.check_minor()
        self._session = session
        self._recording = session.recording
        self._patches = Patches()
        self._undo_mirror: Callable[[], None] | None = None
        self._hooks: Hooks | None = None
        self._lock = threading.RLock()

    def start(self) -> None:
        """Wrap the entry of ``torch.compile``, and unite torch's registry with the context."""
        from firebrick.torch_api.dynamo_modules import eval_frame

        if self._session.entry is not None:
            self._session.entry.on_dynamo_imported()
        for name in ("_optimize", "_optimize_assert"):
            self._patches.set(eval_frame, name, self._optimizing(getattr(eval_frame, name)))
        if self._recording:
            _, context = self._session.opened()
            self._undo_mirror = registry.mirror_onto(registry.registry_class(), context)

    def flush(self) -> None:
        """Store functions that wait for a backward graph that has not run."""
        if self._hooks is not None:
            self._hooks.flush()

    def remove(self) -> None:
        """Restore torch."""
        with self._lock:
            if self._hooks is not None:
                self._hooks.remove()
            if self._undo_mirror is not None:
                self._undo_mirror()
            self._patches.undo()

    @property
    def hooks(self) -> Hooks:
        """The other hooks, made on first access."""
        with self._lock:
            if self._hooks is None:
                from firebrick.session.compiler_hooks import Hooks

                self._hooks = Hooks(self._session)
            return self._hooks

    def _optimizing(self, original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def optimize(rebuild_ctx: Any, backend: Any = "inductor", *args: Any, **kwargs: Any) -> Any:
            arguments = (rebuild_ctx, backend, *args)
            if type(backend) is native.InductorBackend and not kwargs.get("disable"):
                made = self.hooks.optimize(original, arguments, kwargs)
                if self._session.entry is not None:
                    self._session.entry.on_compiled(backend, made)
                return made
            if self._hooks is None:  # otherwise each frame is reported
                name = getattr(backend, "compiler_name", None) or getattr(backend, "__name__", str(backend))
                function = Function("", f"torch.compile(backend={name!r:.60})")
                self._session.stats.record(Event(function, FULL, LEFT, *OTHER_BACKEND))
            with self._hooks.paused() if self._hooks is not None else contextlib.nullcontext():
                return original(*arguments, **kwargs)

        return optimize
