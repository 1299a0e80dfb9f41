"""Errors that say why a bundle does not serve a frame; a hit imports no other wording."""

from __future__ import annotations

from collections.abc import Iterable

from firebrick.reports.events import Change

Changes = Iterable[tuple[str, str | None, str | None]]


class Miss(Exception):
    """A bundle does not serve a frame; the message is the reason.

    Args:
        reason: in words.
        code: stable name of the reason, one of `firebrick.reports.events.CODES`.
        changes: (what, stored value, present value) of the differences; values are texts.
    """

    def __init__(self, reason: str, *, code: str = "error", changes: Changes = ()) -> None:
        super().__init__(reason)
        self.code = code
        self.changes = tuple(Change(*change) for change in changes)


class ObjectChanged(Exception):
    """A guarded object has changed; the guards will not pass in this process.

    Args:
        reason: in words.
        changes: the differences, with the stored and present values as texts.
    """

    code = "object"

    def __init__(self, reason: str, *changes: Change) -> None:
        super().__init__(reason)
        self.changes = changes


class GuardsNotApplicable(Exception):
    """The guards cannot be built or pass now, but may at another call.

    Args:
        reason: in words.
        changes: the differences, with the stored and present values as texts.
    """

    code = "value"

    def __init__(self, reason: str, *changes: Change) -> None:
        super().__init__(reason)
        self.changes = changes
