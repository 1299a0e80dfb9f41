"""The in-memory state of a context, and its transfer to the store and back."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final

from firebrick.context.mapping import Mirror
from firebrick.context.revision import BACKEND, DYNAMO, KINDS, PAST, Name, Record
from firebrick.errors import (
    DamagedError,
    EditConflict,
    EncodeError,
    ForbiddenGlobal,
    LimitExceeded,
    StoreClosed,
    UsageError,
)
from firebrick.storage.keys import ContentKey
from firebrick.storage.store import Store
from firebrick.torch_api import registry

if TYPE_CHECKING:
    from firebrick.context.changeset import Plan

# Of a write that others keep overtaking; each failure means that one of them succeeded.
_ATTEMPTS: Final = 100
_REFUSED: Final = (EncodeError, ForbiddenGlobal, LimitExceeded)  # the value has no encoding

OnFault = Callable[[BaseException], None]


class Memory:
    """Two mappings, the registry values behind them, and one lock for everything.

    The base of `Context`; its public methods are for mappings and edits.
    """

    def __init__(self, store: Store, name: str, on_fault: OnFault | None = None) -> None:
        if not name:
            raise UsageError("a context must have a name")
        self.name = name
        self.on_fault = on_fault
        self.on_written: Callable[[int], None] | None = None  # called with the raw bytes of each commit
        self._borrowed: Store | None = store
        self._path = store.path
        self._lock = threading.RLock()
        self._editing: set[int] = set()  # threads inside an edit
        self._known: dict[Name, bytes] = {}  # registry values that memory reflects
        self._suspects: set[Name] = set()  # unreadable names, to be written in full
        self._parts: dict[Name, tuple[ContentKey, tuple[ContentKey, ...]]] = {}  # written here
        self._order = 0
        self.backend_artifacts = Mirror(self, BACKEND)
        self.dynamo_cache_entries = Mirror(self, DYNAMO)
        self._mirrors = {BACKEND: self.backend_artifacts, DYNAMO: self.dynamo_cache_entries}
        self.refresh()

    @property
    def store(self) -> Store:
        """The underlying store.

        Raises:
            StoreClosed: after `close`.
        """
        if self._borrowed is None:
            raise StoreClosed(self._path, f"the context {self.name} was closed")
        return self._borrowed

    def refresh(self) -> None:
        """Reread the registry and forget values that others changed.

        Values that a fault kept from the store stay, unless another writer changed their names. Names in
        memory keep their positions; new ones come last.
        """
        with self._lock:
            try:
                values = named(self.store.registry(self.name))
            except DamagedError as error:
                self._pass_over(error)
                return  # memory stays as it is, and other names can be written
            fresh: dict[Name, bytes] = {}
            orders: dict[Name, int] = {}
            for name, data in values.items():
                if name.section in KINDS:
                    try:
                        orders[name] = Record.unpack(data).order
                    except Exception as error:
                        self._pass_over(error)
                        continue
                    fresh[name] = data
            for name in self._known.keys() - fresh.keys():
                self._mirrors[name.section].drop(name.name)
            for name in sorted(fresh, key=lambda name: (orders[name], name)):
                mirror = self._mirrors[name.section]
                if name.name not in mirror or self._known.get(name) != fresh[name]:
                    mirror.keep(name.name)
            self._known = fresh
            self._order = max(orders.values(), default=-1) + 1

    def read(self, section: str, key: str) -> Any:
        """Return a value, reading it from the store unless it is in memory.

        Raises:
            KeyError: the name is gone, or the value cannot be read and faults are ignored.
        """
        name = Name(section, key)
        mirror = self._mirrors[section]
        with self._lock:
            if not mirror.lazy(key):
                return mirror[key]
            try:
                value = _read_value(self.store, name, self._known[name])
            except Exception as error:
                self._suspects.add(name)
                self._pass_over(error)
                mirror.drop(key)
                raise KeyError(key) from error
            mirror.keep(key, value)
            return value

    def write(self, section: str, values: Mapping[str, Any]) -> None:
        """Set values in the store and in memory, in one transaction."""

        def build(plan: Plan) -> None:
            for key, value in values.items():
                plan.put(Name(section, key), value)

        with self._lock:
            self._through(build)
            for key, value in values.items():
                self._mirrors[section].keep(key, value)

    def deposit(self, key: str, artifact: Any) -> None:
        """Write an artifact through, keeping it out of memory until it is read.

        Memory keeps a copy only if it cannot be written: the caller continues to use the artifact.

        Raises:
            EncodeError, ForbiddenGlobal, LimitExceeded: it has no encoding; they name the object and its
                path. Memory holds it.
        """
        name = Name(BACKEND, key)
        with self._lock:
            try:
                written = self._through(lambda plan: plan.put(name, artifact), raises=_REFUSED)
            except _REFUSED:
                self.backend_artifacts.keep(key, registry.private_copy(artifact))
                raise
            if written:
                self.backend_artifacts.keep(key)
            else:
                self.backend_artifacts.keep(key, registry.private_copy(artifact))

    def remove(self, names: Iterable[tuple[str, str]]) -> None:
        """Remove names from the store and from memory, in one transaction."""
        removed = [Name(*name) for name in names]

        def build(plan: Plan) -> None:
            for name in removed:
                plan.delete(name)

        with self._lock:
            self._through(build)
            for name in removed:
                self._mirrors[name.section].drop(name.name)

    def stored(self, key: str) -> tuple[ContentKey, tuple[ContentKey, ...]] | None:
        """Return the content key of an artifact written here, and those of its children.

        Returns:
            ``None`` for an artifact that is not in the store, or that another process wrote.
        """
        name = Name(BACKEND, key)
        with self._lock:
            if name not in self._known or name not in self._parts:
                return None
            current = self._parts[name][0] == Record.unpack(self._known[name]).content
            return self._parts[name] if current else None

    def clear(self, section: str | None = None) -> None:
        """Remove everything, including history, in memory and in the store, in one transaction.

        Args:
            section: the only section to clear; ``None`` for both.
        """
        sections = [section] if section else list(KINDS)
        doomed = {*sections, *(PAST[each] for each in sections)}

        def build(plan: Plan) -> None:
            for name in named(self.store.registry(self.name)):
                if name.section in doomed:
                    plan.erase(name)

        with self._lock:
            self._through(build)
            for each in sections:
                self._mirrors[each].empty()

    def unsaved(self, name: Name) -> bool:
        """Tell whether a name is only in memory because a fault kept it from the store."""
        return name.name in self._mirrors[name.section] and name not in self._known

    def private(self, name: Name, data: bytes | None) -> Any:
        """Return a private copy of a registry value's content, for an edit to change.

        It is copied from memory if memory has the same content, else read from the store.
        """
        mirror = self._mirrors[name.section]
        with self._lock:
            known = name.name in mirror and self._known.get(name) == data
            if known and not mirror.lazy(name.name):
                return registry.private_copy(mirror[name.name])
            if data is None:
                raise UsageError(f"nothing is recorded under the key {name.name!r}")
            return _read_value(self.store, name, data)

    def _through(self, build: Callable[[Plan], None], *, raises: tuple[type[Exception], ...] = ()) -> bool:
        try:
            plan = self._commit(build)
        except raises:
            raise
        except Exception as error:
            self._pass_over(error)
            return False
        self._adopt(plan)
        return True

    def _commit(self, build: Callable[[Plan], None]) -> Plan:
        from firebrick.context.changeset import Plan

        for attempt in range(_ATTEMPTS):
            plan = Plan(self._get, self._order, self._suspects)
            build(plan)
            try:
                plan.commit(self.store, self.name)
                break
            except EditConflict:
                if attempt == _ATTEMPTS - 1:
                    raise
        return plan

    def _adopt(self, plan: Plan) -> None:
        self._order = plan.order
        self._parts |= plan.parts
        if self.on_written is not None:
            self.on_written(sum(len(blob.data) for blob in plan.blobs))
        for name, data in (plan.expect | plan.changes).items():
            self._suspects.discard(name)
            if data is None:
                self._known.pop(name, None)
            elif name.section in KINDS:
                self._known[name] = data

    def _pass_over(self, error: Exception) -> None:
        if self.on_fault is None:
            raise error
        self.on_fault(error)

    def _get(self, name: Name) -> bytes | None:
        return self.store.registry_get(self.name, *name)


def named(values: Mapping[tuple[str, str], bytes]) -> dict[Name, bytes]:
    """Return the contents of a registry, keyed by `Name`."""
    return {Name(*name): value for name, value in values.items()}


def _read_value(store: Store, name: Name, data: bytes) -> Any:
    from firebrick.context.changeset import (
        read_value,  # a program that never compiles neither reads nor writes
    )

    return read_value(store, name, data)
