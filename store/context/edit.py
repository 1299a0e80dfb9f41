"""Atomic edits of several names of a context."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from firebrick.context.changeset import Plan
from firebrick.context.revision import BACKEND, DYNAMO, Name
from firebrick.errors import UsageError
from firebrick.torch_api import registry

if TYPE_CHECKING:
    from firebrick.context.context import Context

DELETED: Final = object()


class Edit:
    """The private copies of one edit, created and committed by `Context.edit`.

    It belongs to the thread that opened it and to the ``with`` block. Its copies may be changed in place
    until the block ends; then the context owns them.
    """

    def __init__(self, context: Context, base: Mapping[Name, bytes]) -> None:
        self._context = context
        self._base = base
        self._values: dict[Name, Any] = {}
        self._open = True

    def artifact(self, key: str) -> Any:
        """Return the private copy of an artifact.

        Raises:
            UsageError: for a key that is not recorded.
        """
        return self._value(Name(BACKEND, key))

    def entry(self, key: str) -> Any:
        """Return the private copy of a Dynamo entry.

        Raises:
            UsageError: for a key that is not recorded.
        """
        return self._value(Name(DYNAMO, key))

    def edit_artifact(self, key: str, edit_fn: Callable[..., Any]) -> None:
        """Replace the content of an artifact by the function's result for it."""
        self.artifact(key).edit_contents(edit_fn)

    def edit_entry(self, key: str, edit_fn: Callable[[Any], Any]) -> None:
        """Replace a Dynamo entry by the function's result for it."""
        self._set(Name(DYNAMO, key), edit_fn(self.entry(key)))

    def record_artifact(self, artifact: Any) -> None:
        """Record a deep copy of an artifact under its key."""
        self._set(Name(BACKEND, artifact.key), registry.private_copy(artifact))

    def record_dynamo_cache_entry(self, cache_entry: Any, key: str) -> None:
        """Record a Dynamo entry, itself and not a copy."""
        self._set(Name(DYNAMO, key), cache_entry)

    def delete(self, key: str) -> None:
        """Remove an artifact or an entry.

        Raises:
            UsageError: the key is not recorded, or is recorded as both.
        """
        names = [n for n in (Name(BACKEND, key), Name(DYNAMO, key)) if self._has(n)]
        if len(names) != 1:
            found = "both an artifact and an entry have" if names else "nothing has"
            raise UsageError(f"{found} the key {key!r}")
        self._set(names[0], DELETED)

    def close(self) -> dict[Name, Any]:
        """End the edit and return the names it touched, with `DELETED` for removed ones."""
        self._open = False
        return self._values

    def plan(self, order: int) -> Plan:
        """Return the transaction that carries out the edit."""
        plan = Plan(self._base.get, order)
        for name, value in sorted(self._values.items(), key=lambda item: item[0].section):
            if value is DELETED:
                plan.delete(name)
            else:
                plan.put(name, value)
        return plan

    def _has(self, name: Name) -> bool:
        self._check()
        if name in self._values:
            return self._values[name] is not DELETED
        return name in self._base or self._context.unsaved(name)

    def _value(self, name: Name) -> Any:
        if not self._has(name):
            raise UsageError(f"nothing is recorded under the key {name.name!r}")
        if name not in self._values:
            self._values[name] = self._context.private(name, self._base.get(name))
        return self._values[name]

    def _set(self, name: Name, value: Any) -> None:
        self._check()
        self._values[name] = value

    def _check(self) -> None:
        if not self._open:
            raise UsageError("this edit has ended")
