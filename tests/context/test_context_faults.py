"""Faults of the store stay out of the program, and nothing wrong is read or written over."""

from __future__ import annotations

import copy
import threading
from pathlib import Path
from typing import Any

import pytest

from firebrick.context.context import Context
from firebrick.errors import (
    BlobMissing,
    CodecError,
    DamagedError,
    DecodeError,
    EncodeError,
    FirebrickError,
    StoreClosed,
    StoreFull,
    StoreReadOnly,
    UnknownVersion,
    UsageError,
)
from firebrick.storage.msgpack import pack, unpack
from firebrick.storage.store import Store
from support.contexts import BACKENDS, ENTRIES, small_artifact, small_entry

KEY, OTHER, THIRD = BACKENDS
ENTRY = ENTRIES[0]


def broken(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every write fail from now on."""

    def full(self: Store, *args: Any, **more: Any) -> None:
        raise StoreFull(self.path, "no space left on device")

    monkeypatch.setattr(Store, "registry_update", full)


def everything(context: Context) -> tuple[dict[str, Any], dict[str, Any]]:
    return context.backend_artifacts.copy(), context.dynamo_cache_entries.copy()


class TestFaults:
    def test_raise_and_leave_memory_alone(
        self, store: Store, context: Context, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        context.record_artifact(small_artifact(KEY, [1]))
        before = copy.deepcopy(everything(context))
        for value in (lambda: 0, {"deep": [lambda: 0]}):
            with pytest.raises(CodecError):
                context.record_artifact(small_artifact(OTHER, value))
        with pytest.raises(EncodeError):
            context.record_dynamo_cache_entry("no entry", ENTRY)
        assert everything(context) == before
        broken(monkeypatch)
        for change in (
            lambda: context.record_artifact(small_artifact(OTHER, 1)),
            lambda: context.record_dynamo_cache_entry(small_entry(1), ENTRY),
            lambda: context.edit_artifact(KEY, lambda content: [*content, 2]),
            lambda: context.backend_artifacts.pop(KEY),
            context.clear,
        ):
            with pytest.raises(StoreFull):
                change()
            assert everything(context) == before

    def test_are_handed_over_and_memory_goes_on(
        self, store: Store, context: Context, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        faults: list[BaseException] = []
        context.on_fault = faults.append
        context.record_artifact(small_artifact(KEY, [1]))
        with monkeypatch.context() as patch:
            broken(patch)
            context.record_artifact(small_artifact(OTHER, 1))
            context.edit_artifact(KEY, lambda content: [*content, 2])
            context.record_dynamo_cache_entry(small_entry(1), ENTRY)
        assert [type(fault) for fault in faults] == [StoreFull] * 3
        expected = {KEY: small_artifact(KEY, [1, 2]), OTHER: small_artifact(OTHER, 1)}
        assert everything(context) == (expected, {ENTRY: small_entry(1)})
        context.refresh()
        assert everything(context) == (expected, {ENTRY: small_entry(1)})
        assert everything(Context.open(store)) == ({KEY: small_artifact(KEY, [1])}, {})
        with context.edit() as edit:  # which takes what was not saved along
            edit.edit_artifact(KEY, lambda content: [*content, 3])
            edit.edit_artifact(OTHER, lambda content: content + 1)
        stored = Context.open(store).backend_artifacts
        assert [a.content for a in stored.values()] == [[1, 2, 3], 2]

    def test_a_deposit_stays_out_of_memory_unless_it_can_not_be_written(
        self, store: Store, context: Context, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        faults: list[BaseException] = []
        context.on_fault = faults.append
        written, kept = small_artifact(KEY, [1]), small_artifact(OTHER, [2])
        context.deposit(KEY, written)
        assert context.backend_artifacts.in_memory() == {}
        assert context.stored(KEY) is not None
        with monkeypatch.context() as patch:
            broken(patch)
            context.deposit(OTHER, kept)
        assert [type(fault) for fault in faults] == [StoreFull]
        assert context.backend_artifacts.in_memory() == {OTHER: small_artifact(OTHER, [2])}
        written.content.append(9)
        kept.content.append(9)  # the caller goes on with what it deposited
        assert [a.content for a in context.backend_artifacts.values()] == [[1], [2]]
        assert Context.open(store).backend_artifacts == {KEY: small_artifact(KEY, [1])}

    def test_a_deposit_that_has_no_encoding_says_what_has_none_and_is_no_fault(
        self, store: Store, context: Context
    ) -> None:
        faults: list[BaseException] = []
        context.on_fault = faults.append
        with pytest.raises(CodecError, match="lock"):
            context.deposit(KEY, small_artifact(KEY, [threading.Lock]))
        assert faults == []
        assert context.stored(KEY) is None
        assert KEY in context.backend_artifacts.in_memory()

    def test_of_a_store_that_is_read_only(self, tmp_path: Path, store: Store, context: Context) -> None:
        context.record_artifact(small_artifact(KEY, 1))
        with Store.open(store.path, readonly=True) as readonly:
            reader = Context.open(readonly)
            assert reader.backend_artifacts == context.backend_artifacts
            with pytest.raises(StoreReadOnly):
                reader.record_artifact(small_artifact(OTHER, 1))
            reader.record_artifact(small_artifact(KEY, 1))  # is there already

    def test_in_reading_make_the_value_go_and_recording_heals_it(self, store: Store) -> None:
        Context.open(store).record_artifact(small_artifact(KEY, 1))
        faults: list[BaseException] = []
        strict, opened = Context.open(store), Context.open(store, on_fault=faults.append)
        (revision,) = strict.history(KEY)
        store.delete(revision.content, force=True)
        with pytest.raises(BlobMissing):
            strict.backend_artifacts[KEY]
        assert KEY in opened.backend_artifacts
        assert opened.backend_artifacts.get(KEY) is None
        assert [type(fault) for fault in faults] == [BlobMissing]
        assert KEY not in opened.backend_artifacts
        assert opened.backend_artifacts == {}
        opened.refresh()
        assert KEY in opened.backend_artifacts
        opened.record_artifact(small_artifact(KEY, 1))
        assert Context.open(store).backend_artifacts == {KEY: small_artifact(KEY, 1)}

    @pytest.mark.parametrize(
        ("spoil", "error"),
        [
            (lambda value: {**value, "v": 2}, UnknownVersion),
            (lambda value: {**value, "log": b""}, DecodeError),
            (lambda value: {**value, "log": value["log"][:-1]}, DecodeError),
            (lambda value: {**value, "log": bytes(64)}, DecodeError),
            (lambda value: {**value, "beside": b"\xc0"}, DecodeError),
            (lambda value: {k: v for k, v in value.items() if k != "content"}, DecodeError),
            (lambda value: list(value), DecodeError),
        ],
        ids=["newer", "no log", "odd log", "foreign log", "beside", "field", "no map"],
    )
    def test_of_one_registry_value_hide_that_name_only(
        self, store: Store, context: Context, spoil: Any, error: type[FirebrickError]
    ) -> None:
        context.record_artifact(small_artifact(KEY, 1))
        context.record_artifact(small_artifact(OTHER, 2))
        name = ("backend", KEY)
        value = unpack(store.registry("default")[name])
        store.registry_update("default", {name: pack(spoil(value))})
        with pytest.raises(error):
            Context.open(store)
        faults: list[BaseException] = []
        opened = Context.open(store, on_fault=faults.append)
        assert opened.backend_artifacts == {OTHER: small_artifact(OTHER, 2)}
        opened.record_artifact(small_artifact(KEY, 3))  # never over what is not understood
        assert [type(fault) for fault in faults] == [error, error]
        opened.clear()
        assert store.registry("default") == {}

    def test_of_a_damaged_registry_leave_memory_and_other_names(
        self, store: Store, context: Context, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def damaged(self: Store, context: str) -> None:
            raise DamagedError(b"key", "checksum")

        faults: list[BaseException] = []
        context.record_artifact(small_artifact(KEY, 1))
        with monkeypatch.context() as patch:
            patch.setattr(Store, "registry", damaged)
            with pytest.raises(DamagedError):
                context.refresh()
            context.on_fault = faults.append
            context.refresh()
            assert context.backend_artifacts == {KEY: small_artifact(KEY, 1)}
            opened = Context.open(store, on_fault=faults.append)
            assert opened.backend_artifacts == {}
            opened.record_artifact(small_artifact(OTHER, 2))
        assert [type(fault) for fault in faults] == [DamagedError] * 2
        assert [*Context.open(store).backend_artifacts] == [KEY, OTHER]

    def test_fields_of_a_newer_writer_are_passed_over(self, store: Store, context: Context) -> None:
        context.record_artifact(small_artifact(KEY, 1))
        name = ("backend", KEY)
        value = unpack(store.registry("default")[name])
        store.registry_update("default", {name: pack({**value, "later": 1})})
        assert Context.open(store).backend_artifacts == context.backend_artifacts

    def test_of_use(self, store: Store, context: Context) -> None:
        with pytest.raises(UsageError):
            Context.open(store, "")
        with pytest.raises(UsageError, match="nothing is recorded"):
            context.edit_artifact("other", lambda content: content)
        context.record_artifact(small_artifact(KEY, 1))
        with Context.open(store) as closed:
            pass
        for use in (
            lambda: closed.backend_artifacts[KEY],
            lambda: closed.record_artifact(small_artifact(OTHER, 1)),
            lambda: closed.history(KEY),
        ):
            with pytest.raises(StoreClosed):
                use()
