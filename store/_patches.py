"""Replace attributes of other modules, and put them back."""

from __future__ import annotations

import inspect
from typing import Any


class Patches:
    """Attributes that were replaced, in order. Not thread-safe: the owner holds a lock."""

    def __init__(self) -> None:
        self._undo: list[tuple[Any, str, Any]] = []

    def set(self, owner: Any, name: str, value: Any) -> None:
        """Replace an attribute, keeping the object that stood there (a descriptor as it is)."""
        computed = object()
        original = inspect.getattr_static(owner, name, computed)
        self._undo.append((owner, name, getattr(owner, name) if original is computed else original))
        setattr(owner, name, value)

    def undo(self) -> None:
        """Put everything back, last first."""
        while self._undo:
            owner, name, original = self._undo.pop()
            setattr(owner, name, original)
