"""The context `PrecompileContext` acts on. Imports no context, so that a session can set its own early."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from firebrick.context.context import Context

_chosen: Context | None = None
_of_session: Callable[[], Context | None] = lambda: None  # noqa: E731 - replaced by `ask_session`


def current() -> Context | None:
    """Return the context that `PrecompileContext` acts on in this process, if any.

    It is the one set, else that of the store Firebrick is enabled for.
    """
    return _of_session() if _chosen is None else _chosen


def set_current(context: Context | None) -> Context | None:
    """Set the context that `PrecompileContext` acts on; return the previous one."""
    global _chosen
    before, _chosen = _chosen, context
    return before


def ask_session(of_session: Callable[[], Context | None]) -> None:
    """Set the function that returns the session's context, used if none was set."""
    global _of_session
    _of_session = of_session
