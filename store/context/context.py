"""The persistent mirror of torch's ``PrecompileContext``: write-through, history and edits.

Source followed: ``torch/_dynamo/precompile_context.py`` of torch 2.11 to 2.14.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from firebrick.context.current import current, set_current
from firebrick.context.revision import (
    BACKEND,
    DYNAMO,
    KINDS,
    Name,
    Record,
    Revision,
    past,
    unpack_revision,
)
from firebrick.context.state import Memory, OnFault, named
from firebrick.context.torch_facade import PrecompileContext
from firebrick.errors import InternalError, UsageError
from firebrick.storage.keys import ContentKey
from firebrick.storage.store import Store
from firebrick.torch_api import registry

if TYPE_CHECKING:
    from firebrick.context.edit import Edit

__all__ = ["Context", "PrecompileContext", "Revision", "current", "set_current"]


class Context(Memory):
    """A named registry of artifacts and Dynamo entries in a store.

    Its two mappings are dictionaries that can replace torch's own. Names are known at once, values are read
    from the store on first access, and every change is written through in one transaction. A write overtaken
    by another process is rebuilt on top of the other's, so the history has both; the last write is current.
    Other processes' changes become visible with `refresh`.

    Faults: without `on_fault` they raise and change nothing in memory. With it they are passed to it instead:
    a failed write leaves the value in memory only, an unreadable value is gone, and a failed removal lasts
    until `refresh`. `edit`, `revert` and `history` always raise, and so does `refresh` when the store cannot
    be read at all.

    Threads: any number; one lock per context guards memory and is held while a change is written, but not
    while the body of an edit or an `edit_fn` runs. After a fork the child must open a context of its own. The
    store is borrowed and must stay open longer than the context.

    Attributes:
        backend_artifacts: backend id -> artifact.
        dynamo_cache_entries: id of a compiled function -> its Dynamo entry.
        on_fault: called with each ignored fault, in the thread that met it.
    """

    @classmethod
    def open(cls, store: Store, name: str = "default", *, on_fault: OnFault | None = None) -> Self:
        """Open a context of a store; one never written to is empty.

        Raises:
            UsageError: the name is empty.
            StoreError: the store cannot be read.
            CodecError: a registry value cannot be read, and `on_fault` is not given.
        """
        return cls(store, name, on_fault)

    def close(self) -> None:
        """Release the store, which stays open; values in memory stay readable."""
        self._borrowed = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Context {self.name!r} of {self._path}>"

    # The interface of torch's class.

    def record_artifact(self, artifact: Any) -> None:
        """Record a deep copy of a backend artifact under its key."""
        self.write(BACKEND, {artifact.key: registry.private_copy(artifact)})

    def record_dynamo_cache_entry(self, cache_entry: Any, key: str) -> None:
        """Record a Dynamo entry itself, not a copy."""
        self.write(DYNAMO, {key: cache_entry})

    def edit_artifact(self, key: str, edit_fn: Callable[..., Any]) -> None:
        """Replace the content of an artifact, in place, by a function's result for it.

        If the write raises, the artifact gets its old content object back, but changes the function made
        inside that object stay. `edit` works on a copy instead.

        Raises:
            UsageError: the key is not recorded.
        """
        if key not in self.backend_artifacts:
            raise UsageError(f"nothing is recorded under the key {key!r}")
        artifact = self.backend_artifacts[key]
        before = artifact.content
        artifact.edit_contents(edit_fn)
        try:
            self.write(BACKEND, {key: artifact})
        except BaseException:
            artifact.content = before
            raise

    def serialize_artifact_by_key(self, key: str) -> Any:
        """Return the artifact with this key, or ``None``; it stays shared with the context."""
        return self.backend_artifacts.get(key)

    def create_cache_entries(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Join entries and artifacts to torch's full cache entries, as torch does.

        torch marks code whose artifact is missing as bypassed, in place; that is written through.

        Returns:
            The full entries by key, and a description fit for JSON.
        """
        entries = self.dynamo_cache_entries
        before = {key: _bypassed(entry) for key, entry in entries.items()}
        result: tuple[dict[str, Any], dict[str, Any]]
        result = registry.run_on("create_cache_entries", self.backend_artifacts, entries)
        changed = {k: e for k, e in entries.items() if before.get(k) not in (None, _bypassed(e))}
        if changed:
            entries.update(changed)
        return result

    def save_to_dynamo_cache(self) -> dict[str, Any]:
        """Write the full cache entries to torch's own ``DynamoCache``; return the description."""
        info: dict[str, Any] = registry.run_on(
            "save_to_dynamo_cache",
            self.backend_artifacts,
            self.dynamo_cache_entries,
            create_cache_entries=self.create_cache_entries,
        )
        return info

    @staticmethod
    def dump_debug_info(dynamo_entries: dict[str, Any], backend_artifacts: dict[str, Any]) -> dict[str, Any]:
        """Return torch's description of entries and artifacts, fit for JSON."""
        return registry.debug_dump(dynamo_entries, backend_artifacts)

    # Additions to torch's interface.

    @contextmanager
    def edit(self) -> Iterator[Edit]:
        """Change several artifacts and entries together: all of it, or nothing.

        The edit works on private copies of the store's contents at its start. When the block ends all changes
        are committed in one transaction, and only then made in memory, as new objects. If the block raises, a
        value cannot be encoded, the store cannot write or another writer changed the same names, nothing
        changes in memory or on disk.

        Raises:
            EditConflict: another thread or process changed names that the edit touched.
            UsageError: the thread is already inside an edit of this context.
        """
        from firebrick.context.edit import DELETED, Edit

        thread = threading.get_ident()
        if thread in self._editing:
            raise UsageError(f"edits of the context {self.name} cannot be nested")
        self._editing.add(thread)
        try:
            edit = Edit(self, named(self.store.registry(self.name)))
            try:
                yield edit
            finally:
                values = edit.close()
            with self._lock:
                plan = edit.plan(self._order)
                plan.commit(self.store, self.name, always=True)
                self._adopt(plan)
                for name, value in values.items():
                    mirror = self._mirrors[name.section]
                    if value is DELETED:
                        mirror.drop(name.name)
                    else:
                        mirror.keep(name.name, value)
        finally:
            self._editing.discard(thread)

    def history(self, key: str) -> list[Revision]:
        """Return every revision of an artifact or entry in the store, newest first.

        Returns:
            An empty list if the key is not recorded.

        Raises:
            NotFoundError, DamagedError, CodecError: a revision cannot be read.
        """
        name = self._name(key)
        data = self._get(name)
        if data is None:
            return []
        record = Record.unpack(data)
        revisions = []
        for revision, content in reversed(record.log):
            fields = unpack_revision(bytes(self.store.get(revision).data))
            if (fields["section"], fields["content"]) != (name.section, content):
                raise InternalError(f"{key}: the log contradicts its revision {revision.hex()}")
            current = revision == record.revision
            beside = record.beside if current else past(name, revision, self._get)
            when = beside.when / 1000
            revisions.append(Revision(revision, fields["parent"], content, when, current))
        return revisions

    def revert(self, key: str, to: ContentKey) -> None:
        """Make an earlier revision of an artifact or entry current; no revision is lost.

        Args:
            key: of the artifact or entry.
            to: `Revision.key` of one of its revisions.

        Raises:
            UsageError: the key is not recorded or never had this revision.
        """
        with self._lock:
            name = self._name(key)
            self._adopt(self._commit(lambda plan: plan.revert(name, to)))
            self._mirrors[name.section].keep(name.name)

    def _name(self, key: str) -> Name:
        names = [name for section in KINDS if self._get(name := Name(section, key)) is not None]
        if len(names) > 1:
            raise UsageError(f"both an artifact and an entry have the key {key!r}")
        return names[0] if names else Name(BACKEND, key)


def _bypassed(entry: Any) -> list[bool]:
    return [code.bypassed for code in entry.codes]
