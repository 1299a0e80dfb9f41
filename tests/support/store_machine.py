"""A state machine of a store against plain dictionaries, with aborts, kills and reopening.

The invariant with teeth: after every step a fresh look at the store equals the dictionaries, entry
by entry and byte by byte. A write that is lost, torn, or half there after an exception or a kill
breaks it at once; so does one that a crashed process has left behind.

Subclass `StoreMachine` with the `open` of your store. It needs `os.fork`.
"""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from firebrick.errors import EditConflict, IncompleteBundle, StillReferenced
from firebrick.storage.format import Kind
from firebrick.storage.keys import ContentKey, recipe_key
from firebrick.storage.store import Blob, Store

DATA = st.builds(lambda byte, size: bytes([byte]) * size, st.integers(0, 2), st.integers(0, 9000))
BLOBS = st.builds(Blob, st.sampled_from([Kind.CODE, Kind.TENSOR, Kind.WRAPPER]), DATA, st.integers(1, 2))
COMPONENTS = st.dictionaries(st.sampled_from("ab"), st.sampled_from("12"))
MANIFESTS = st.integers(0, 3).map(lambda i: Blob(Kind.BUNDLE, b"manifest %d" % i))
NAMES = st.tuples(st.sampled_from("st"), st.sampled_from("ab"))
CHANGES = st.dictionaries(NAMES, st.none() | st.binary(max_size=3))


class Killed(Exception):
    """Stands for any exception inside a transaction."""


class StoreMachine(RuleBasedStateMachine):
    """Run the same operations on a store and on dictionaries."""

    keys: Bundle[ContentKey] = Bundle("keys")

    def open(self, path: Path) -> Store:
        """Open the store at a path that may not exist yet."""
        return Store.open(path, durable=False)

    @initialize()
    def start(self) -> None:
        memory = "/dev/shm" if os.path.isdir("/dev/shm") else None
        self.root = Path(tempfile.mkdtemp(prefix="firebrick-machine-", dir=memory))
        self.store = self.open(self.root / "store")
        self.blobs: dict[bytes, Blob] = {}
        self.published: dict[bytes, tuple[Blob, list[bytes]]] = {}
        self.recipes: dict[bytes, set[bytes]] = {}
        self.registry: dict[tuple[str, str], bytes] = {}

    def teardown(self) -> None:
        if hasattr(self, "root"):
            try:
                assert self.store.check().problems == []
            finally:
                self.store.close()
                shutil.rmtree(self.root)

    # -- writing

    @rule(target=keys, blob=BLOBS)
    def put(self, blob: Blob) -> ContentKey:
        key = self.store.put(*blob)
        self.blobs[key] = blob
        return key

    @rule(blobs=st.lists(BLOBS, max_size=4))
    def put_many(self, blobs: list[Blob]) -> None:
        self.blobs.update(zip(self.store.put_many(blobs), blobs, strict=True))

    @rule(key=keys)
    def delete(self, key: ContentKey) -> None:
        used = any(key in parts for _, parts in self.published.values())
        if used and key in self.blobs:
            with pytest.raises(StillReferenced):
                self.store.delete(key)
        else:
            assert self.store.delete(key) == (self.blobs.pop(key, None) is not None)

    @rule(components=COMPONENTS, manifest=MANIFESTS, blobs=st.lists(BLOBS, max_size=3))
    def publish(self, components: dict[str, str], manifest: Blob, blobs: list[Blob]) -> None:
        recipe, bundle = recipe_key(components), manifest.key
        _, parts = self.published.setdefault(bundle, (manifest, [blob.key for blob in blobs]))
        known = self.recipes.setdefault(recipe, set())
        new = self.store.publish(recipe, components, manifest, [ContentKey(part) for part in parts], blobs)
        assert new == (bundle not in known)
        known.add(bundle)
        self.blobs.update((blob.key, blob) for blob in blobs)

    @rule(changes=CHANGES, blobs=st.lists(BLOBS, max_size=2))
    def update(self, changes: dict[tuple[str, str], bytes | None], blobs: list[Blob]) -> None:
        expect = {name: self.registry.get(name) for name in changes}
        self.store.registry_update("context", changes, blobs=blobs, expect=expect)
        self.blobs.update((blob.key, blob) for blob in blobs)
        self.registry.update(changes)  # type: ignore[arg-type]
        self.registry = {name: value for name, value in self.registry.items() if value is not None}

    # -- writes that fail must leave nothing behind

    @rule(components=COMPONENTS, blobs=st.lists(BLOBS, min_size=1, max_size=3))
    def publish_without_a_part(self, components: dict[str, str], blobs: list[Blob]) -> None:
        manifest = Blob(Kind.BUNDLE, b"never whole")
        parts = [*(blob.key for blob in blobs), ContentKey(bytes(32))]
        with pytest.raises(IncompleteBundle):
            self.store.publish(recipe_key(components), components, manifest, parts, blobs)

    @rule(changes=CHANGES, blob=BLOBS)
    def update_in_conflict(self, changes: dict[tuple[str, str], bytes | None], blob: Blob) -> None:
        expect = {("s", "a"): self.registry.get(("s", "a"), b"") + b"!"}
        with pytest.raises(EditConflict):
            self.store.registry_update("context", changes, blobs=[blob], expect=expect)

    @rule(blobs=st.lists(BLOBS, min_size=1, max_size=3))
    def abort(self, blobs: list[Blob]) -> None:
        with pytest.raises(Killed):
            self.store._writable.write(self._scribble(blobs, self._raise))

    @rule(blobs=st.lists(BLOBS, min_size=1, max_size=3))
    def kill_before_the_commit(self, blobs: list[Blob]) -> None:
        self._in_child(lambda: self.store._writable.write(self._scribble(blobs, self._kill)))

    @rule(blobs=st.lists(BLOBS, min_size=1, max_size=3))
    def kill_after_the_commit(self, blobs: list[Blob]) -> None:
        self._in_child(lambda: self.store.put_many(blobs))
        self.blobs.update((blob.key, blob) for blob in blobs)

    @rule()
    def kill_a_reader(self) -> None:
        self._in_child(self.store.snapshot)

    def _scribble(self, blobs: list[Blob], end: Callable[[], None]) -> Callable[[Any], None]:
        def body(txn: Any) -> None:
            for blob in blobs:
                txn.put("blobs", blob.key, b"torn")
                txn.put("bundles", blob.key, b"torn")
            txn.delete("meta", b"format")
            end()

        return body

    @staticmethod
    def _raise() -> None:
        raise Killed

    @staticmethod
    def _kill() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def _in_child(self, action: Callable[[], object]) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of forks with threads
            pid = os.fork()
        if not pid:
            try:
                action()
                self._kill()
            finally:
                os._exit(1)
        _, status = os.waitpid(pid, 0)
        assert os.WIFSIGNALED(status), "the child failed"

    # -- looking

    @rule()
    def reopen(self) -> None:
        self.store.close()
        self.store = self.open(self.root / "store")

    @precondition(lambda self: hasattr(self, "root"))
    @invariant()
    def the_store_equals_the_dictionaries(self) -> None:
        with self.store.snapshot() as snapshot:
            assert [info.key for info in snapshot.list()] == sorted(self.blobs)
            for key, blob in self.blobs.items():
                got = snapshot.get(key)
                assert (got.kind, got.data, got.version) == blob
            for key, (manifest, parts) in self.published.items():
                assert snapshot.bundle(key) == manifest.data
                assert snapshot.parts(key) == sorted({*parts})
            assert list(snapshot.recipes()) == sorted(self.recipes)
            for recipe, bundles in self.recipes.items():
                assert snapshot.bundles(recipe) == sorted(bundles)
            assert snapshot.registry("context") == self.registry
