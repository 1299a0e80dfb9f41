"""A state machine of two contexts on one store.

The invariant with teeth: after every step both contexts equal plain dictionaries that got the same
operations, and a context opened afresh equals what was committed, with every revision of every
name still readable. A write that is lost, torn, or visible in memory only breaks it at once; so
does a revision that drops out of the history when the two contexts write the same name in turn.
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import shutil
import tempfile
from collections.abc import Iterator
from typing import Any, NamedTuple

import hypothesis.strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from firebrick.context.context import Context
from firebrick.errors import EditConflict, UsageError
from firebrick.storage.store import Store
from support.contexts import BACKENDS, KEYS, small_artifact, small_entry


class Change(NamedTuple):
    """One operation inside an edit."""

    verb: str
    key: str


class _Stop(Exception):
    """Raised inside the body of an edit on purpose."""


class ContextMachine(RuleBasedStateMachine):
    """Drive two contexts of one store against plain dictionaries.

    A subclass may give another store with `open_store`.
    """

    contexts_used = st.integers(0, 1)
    keys = st.sampled_from(KEYS)
    numbers = st.integers(0, 3)
    changes = st.lists(
        st.builds(Change, st.sampled_from(["record", "edit", "delete"]), keys),
        min_size=1,
        max_size=4,
    )

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.mkdtemp(prefix="firebrick-machine-")
        self.store = self.open_store(self.folder + "/store")
        self.contexts = [Context.open(self.store, "machine") for _ in range(2)]
        self.memory: list[dict[str, Any]] = [{}, {}]
        self.disk: dict[str, Any] = {}
        self.seen: dict[str, list[tuple[Any, Any]]] = {}  # key -> values, with what they name
        self.unique = 1000

    def open_store(self, path: str) -> Store:
        """Return the store to test, new and empty."""
        return Store.open(path, durable=False)

    def teardown(self) -> None:
        """Check the store as a whole and remove it."""
        try:
            report = self.store.check()
            if report.problems:
                raise RuntimeError(f"the store is damaged: {report.problems}")
        finally:
            self.store.close()
            shutil.rmtree(self.folder)

    # Helpers.

    def mapping(self, i: int, key: str) -> dict[str, Any]:
        """Return the mapping of a context that a key belongs to."""
        return _mapping(self.contexts[i], key)

    def make(self, key: str, number: int) -> Any:
        """Return a value for a key, the same for the same number."""
        if key in BACKENDS:
            return small_artifact(key, {"number": number, "text": "x" * number})
        return small_entry(number, BACKENDS[: number % 3])

    def commit(self, key: str, value: Any) -> None:
        """Change what the store should hold."""
        self.disk[key] = copy.deepcopy(value)
        past = self.seen.setdefault(key, [])
        named = [self.disk.get(b) for b in sorted(getattr(value, "backend_ids", ()))]
        if (value, named) not in past:
            past.append(copy.deepcopy((value, named)))

    def forget(self, key: str) -> None:
        """Change what the store should hold."""
        self.disk.pop(key, None)
        self.seen.pop(key, None)

    def put(self, i: int, key: str, value: Any) -> None:
        """Change what the store and a context should hold."""
        self.commit(key, value)
        self.memory[i][key] = copy.deepcopy(value)

    # Rules.

    @initialize(start=st.sets(keys, min_size=2))
    def start(self, start: set[str]) -> None:
        """Begin with names that both contexts know and that have a past."""
        for number in (0, 1):
            for key in sorted(start):
                self.record(0, key, number)
        self.refresh(1)

    @rule(i=contexts_used, key=keys, number=numbers)
    def record(self, i: int, key: str, number: int) -> None:
        """Record as torch does."""
        value = self.make(key, number)
        if key in BACKENDS:
            self.contexts[i].record_artifact(value)
        else:
            self.contexts[i].record_dynamo_cache_entry(value, key)
        self.put(i, key, value)

    @rule(i=contexts_used, number=numbers, keys=st.sets(st.sampled_from(BACKENDS)))
    def update(self, i: int, number: int, keys: set[str]) -> None:
        """Set several artifacts at once."""
        values = {key: self.make(key, number) for key in sorted(keys)}
        self.contexts[i].backend_artifacts.update(values)
        for key, value in values.items():
            self.put(i, key, value)

    @rule(i=contexts_used, key=keys, number=numbers)
    def setdefault(self, i: int, key: str, number: int) -> None:
        """Set a value only where there is none."""
        value = self.make(key, number)
        got = self.mapping(i, key).setdefault(key, value)
        if key not in self.memory[i]:
            self.put(i, key, value)
        _same(got, self.memory[i][key])

    @rule(i=contexts_used, key=keys, verb=st.sampled_from(["del", "pop", "default"]))
    def delete(self, i: int, key: str, verb: str) -> None:
        """Remove a name, there or not."""
        mapping, there = self.mapping(i, key), key in self.memory[i]
        expected = self.memory[i].pop(key, None)
        if there:
            self.forget(key)
        with _raises(None if there or verb == "default" else KeyError):
            if verb == "del":
                del mapping[key]
            elif verb == "pop":
                _same(mapping.pop(key), expected)
            else:
                _same(mapping.pop(key, None), expected)

    @rule(i=contexts_used)
    def popitem(self, i: int) -> None:
        """Remove the artifact that came last."""
        keys = [key for key in self.memory[i] if key in BACKENDS]
        if not keys:
            with _raises(KeyError):
                self.contexts[i].backend_artifacts.popitem()
            return
        _same(self.contexts[i].backend_artifacts.popitem(), (keys[-1], self.memory[i][keys[-1]]))
        del self.memory[i][keys[-1]]
        self.forget(keys[-1])

    @rule(i=contexts_used, key=st.sampled_from(BACKENDS))
    def edit_artifact(self, i: int, key: str) -> None:
        """Edit an artifact in place, as torch does."""
        if key not in self.memory[i]:
            with _raises(UsageError):
                self.contexts[i].edit_artifact(key, _edited)
            return
        self.contexts[i].edit_artifact(key, _edited)
        value = copy.deepcopy(self.memory[i][key])
        value.edit_contents(_edited)
        self.put(i, key, value)

    @rule(i=contexts_used, whole=st.booleans())
    @precondition(lambda self: len(self.disk) > 3)
    def clear(self, i: int, whole: bool) -> None:
        """Remove everything, or every artifact."""
        (self.contexts[i] if whole else self.contexts[i].backend_artifacts).clear()
        doomed = KEYS if whole else BACKENDS
        for key in doomed:
            self.memory[i].pop(key, None)
            self.forget(key)

    @rule(
        i=contexts_used,
        changes=changes,
        end=st.sampled_from(["commit", "commit", "stop", "conflict"]),
    )
    def edit(self, i: int, changes: list[Change], end: str) -> None:
        """Edit several names together; let it succeed, raise, or meet another writer."""
        after = copy.deepcopy(self.disk)
        errors: dict[str, type[Exception]] = {"stop": _Stop, "conflict": EditConflict}
        rival = changes[0].key
        with _raises(errors.get(end)), self.contexts[i].edit() as edit:
            for change in changes:
                self._change(edit, change, after)
            if end == "stop":
                raise _Stop
            if end == "conflict":
                self.unique += 1
                self.record(1 - i, rival, self.unique)
        if end == "commit":
            touched = dict.fromkeys(change.key for change in changes)
            for key in sorted(touched, key=KEYS.index):  # an entry is encoded after its backends
                if key in after:
                    self.commit(key, after[key])
                else:
                    self.forget(key)
            for key in touched:
                if key in after:
                    self.memory[i][key] = copy.deepcopy(after[key])
                else:
                    self.memory[i].pop(key, None)

    def _change(self, edit: Any, change: Change, after: dict[str, Any]) -> None:
        verb, key = change
        if verb != "record" and key not in after:
            with _raises(UsageError):
                edit.delete(key)
            verb = "record"
        if verb == "delete":
            edit.delete(key)
            del after[key]
            return
        if verb == "record":
            self.unique += 1
            after[key] = self.make(key, self.unique)
            if key in BACKENDS:
                edit.record_artifact(after[key])
            else:
                edit.record_dynamo_cache_entry(copy.deepcopy(after[key]), key)
        elif key in BACKENDS:
            edit.edit_artifact(key, _edited)
            after[key].edit_contents(_edited)
        else:
            edit.edit_entry(key, _edited_entry)
            after[key] = _edited_entry(after[key])

    @rule(i=contexts_used, data=st.data())
    @precondition(lambda self: self.disk)
    def revert(self, i: int, data: st.DataObject) -> None:
        """Make an earlier revision current."""
        key = data.draw(st.sampled_from(sorted(self.disk)))
        place = data.draw(st.integers(0, len(self.seen[key]) - 1))
        to = self.contexts[i].history(key)[-1 - place]
        self.contexts[i].revert(key, to.key)
        self.disk[key] = copy.deepcopy(self.seen[key][place][0])
        self.memory[i][key] = copy.deepcopy(self.disk[key])

    @rule(i=contexts_used)
    def refresh(self, i: int) -> None:
        """See what the other context wrote."""
        self.contexts[i].refresh()
        self._agree(i)

    @rule(i=contexts_used)
    def reopen(self, i: int) -> None:
        """Close a context and open it again."""
        self.contexts[i].close()
        self.contexts[i] = Context.open(self.store, "machine")
        self._agree(i)

    def _agree(self, i: int) -> None:
        order = [*self.contexts[i].backend_artifacts, *self.contexts[i].dynamo_cache_entries]
        _same(set(order), set(self.disk))
        self.memory[i] = {key: copy.deepcopy(self.disk[key]) for key in order}

    # Invariants.

    @invariant()
    def contexts_equal_their_models(self) -> None:
        """Compare both contexts, and one opened afresh, with plain dictionaries."""
        with Context.open(self.store, "machine") as fresh:
            for context, model in zip([*self.contexts, fresh], [*self.memory, self.disk], strict=True):
                for mapping in (context.backend_artifacts, context.dynamo_cache_entries):
                    expected = {k: v for k, v in model.items() if _mapping(context, k) is mapping}
                    _same(mapping, expected)
                    _same(len(mapping), len(expected))
                    if context is not fresh:
                        _same(list(mapping), list(expected))

    @invariant()
    def histories_are_whole(self) -> None:
        """Find every content that a name has had in its history, each behind its parent."""
        context = self.contexts[0]
        for key in KEYS:
            history = context.history(key)
            _same(len(history), len(self.seen.get(key, ())))
            known = {revision.key for revision in history}
            _same(sum(revision.current for revision in history), int(key in self.disk))
            for revision in history:
                _same(revision.parent is None, revision is history[-1])
                _same(revision.parent in known, revision is not history[-1])
                _same(self.store.has(revision.content), True)


def _mapping(context: Context, key: str) -> dict[str, Any]:
    return context.backend_artifacts if key in BACKENDS else context.dynamo_cache_entries


def _edited(content: dict[str, Any]) -> dict[str, Any]:
    return {**content, "edits": content.get("edits", 0) + 1}


def _edited_entry(entry: Any) -> Any:
    return dataclasses.replace(entry, fn_name=entry.fn_name + "_")


def _same(actual: object, expected: object) -> None:
    if actual != expected:
        raise RuntimeError(f"{actual!r} instead of {expected!r}")


@contextlib.contextmanager
def _raises(expected: type[Exception] | None) -> Iterator[None]:
    if expected is None:
        yield
        return
    try:
        yield
    except expected:
        pass
    else:
        raise RuntimeError(f"{expected} was not raised")
