"""Replace attributes of other modules, and put them back."""

from __future__ import annotations

import inspect
from typing import Any

_ABSENT = object()


class Patches:
    """Replaced attributes, in order. Not thread-safe: the owner holds a lock."""

    def __init__(self) -> None:
        self._undo: list[tuple[Any, str, Any]] = []

    def set(self, owner: Any, name: str, value: Any) -> None:
        """Replace an attribute, keeping the old object (a descriptor unbound).

        An attribute that a class inherits or lacks becomes its own until the undo.
        """
        if isinstance(owner, type) and name not in vars(owner):
            original: Any = _ABSENT
        else:
            computed = object()
            original = inspect.getattr_static(owner, name, computed)
            if original is computed:
                original = getattr(owner, name)
        self._undo.append((owner, name, original))
        setattr(owner, name, value)

    def undo(self) -> None:
        """Restore everything, last first."""
        while self._undo:
            owner, name, original = self._undo.pop()
            if original is _ABSENT:
                delattr(owner, name)
            else:
                setattr(owner, name, original)
