"""A stand-in for torch's ``PrecompileContext`` that acts on the process's current context."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from firebrick.context.current import current, set_current
from firebrick.errors import UsageError
from firebrick.torch_api import registry

if TYPE_CHECKING:
    from firebrick.context.context import Context
    from firebrick.context.edit import Edit
    from firebrick.context.revision import Revision
    from firebrick.storage.keys import ContentKey


class _Facade(type):
    """A metaclass for the two attributes found on torch's class itself."""

    @property
    def _backend_artifacts_by_key(cls) -> dict[str, Any]:
        if (context := current()) is None:
            return registry.contents(registry.registry_class())[0]
        return context.backend_artifacts

    @property
    def _dynamo_cache_entries(cls) -> dict[str, Any]:
        if (context := current()) is None:
            return registry.contents(registry.registry_class())[1]
        return context.dynamo_cache_entries


class PrecompileContext(metaclass=_Facade):
    """A stand-in for torch's class of the same name that acts on the current context.

    Without a current context everything goes to torch's own class, in memory only, and additions to its
    interface raise `UsageError`.
    """

    current = staticmethod(current)
    set_current = staticmethod(set_current)
    dump_debug_info = staticmethod(registry.debug_dump)

    @classmethod
    def clear(cls) -> None:
        """Remove everything."""
        _target().clear()

    @classmethod
    def record_artifact(cls, artifact: Any) -> None:
        """Record a deep copy of a backend artifact under its key."""
        _target().record_artifact(artifact)

    @classmethod
    def record_dynamo_cache_entry(cls, cache_entry: Any, key: str) -> None:
        """Record a Dynamo entry itself, not a copy."""
        _target().record_dynamo_cache_entry(cache_entry, key)

    @classmethod
    def edit_artifact(cls, key: str, edit_fn: Callable[..., Any]) -> None:
        """Replace the content of an artifact, in place, by a function's result for it."""
        if key not in cls._backend_artifacts_by_key:
            raise AssertionError(f"Key {key} not found in artifacts")  # torch's own error
        _target().edit_artifact(key, edit_fn)

    @classmethod
    def serialize_artifact_by_key(cls, key: str) -> Any:
        """Return the artifact with this key, or ``None``."""
        return _target().serialize_artifact_by_key(key)

    @classmethod
    def create_cache_entries(cls) -> tuple[dict[str, Any], dict[str, Any]]:
        """Join entries and artifacts to torch's full cache entries."""
        entries: tuple[dict[str, Any], dict[str, Any]] = _target().create_cache_entries()
        return entries

    @classmethod
    def save_to_dynamo_cache(cls) -> dict[str, Any]:
        """Write the full cache entries to torch's own ``DynamoCache``."""
        info: dict[str, Any] = _target().save_to_dynamo_cache()
        return info

    @classmethod
    def edit(cls) -> AbstractContextManager[Edit]:
        """Change several artifacts and entries together; see `Context.edit`."""
        return _attached().edit()

    @classmethod
    def history(cls, key: str) -> list[Revision]:
        """Return every revision of an artifact or entry, newest first."""
        return _attached().history(key)

    @classmethod
    def revert(cls, key: str, to: ContentKey) -> None:
        """Make an earlier revision of an artifact or entry current."""
        _attached().revert(key, to)


def _target() -> Any:
    return registry.registry_class() if (context := current()) is None else context


def _attached() -> Context:
    if (context := current()) is None:
        raise UsageError("no store is attached: set_current first")
    return context
