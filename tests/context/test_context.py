"""A context is a dictionary that outlives its process and remembers every content."""

from __future__ import annotations

import copy
import json
import pickle
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from firebrick.context.context import Context, PrecompileContext, Revision, current, set_current
from firebrick.errors import (
    UsageError,
)
from firebrick.storage.format import Kind
from firebrick.storage.msgpack import unpack
from firebrick.storage.store import Store
from firebrick.torch_api import registry
from support.context_machine import ContextMachine
from support.contexts import BACKENDS, ENTRIES, small_artifact, small_entry
from support.places import ROOT

KEY, OTHER, THIRD = BACKENDS
ENTRY = ENTRIES[0]


def everything(context: Context) -> tuple[dict[str, Any], dict[str, Any]]:
    return context.backend_artifacts.copy(), context.dynamo_cache_entries.copy()


def blobs(store: Store) -> set[bytes]:
    return {info.key for info in store.list()}


TestStateMachine = ContextMachine.TestCase
TestStateMachine.settings = settings(
    max_examples=30,
    stateful_step_count=20,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)


class TestMappings:
    @pytest.fixture
    def values(self, context: Context) -> dict[str, Any]:
        values = {key: small_artifact(key, {"n": n}) for n, key in enumerate(BACKENDS)}
        context.backend_artifacts.update(values)
        return values

    @pytest.mark.parametrize("again", [False, True], ids=["kept", "opened again"])
    def test_they_read_as_dictionaries(
        self, store: Store, context: Context, values: dict[str, Any], again: bool
    ) -> None:
        def mapping() -> dict[str, Any]:
            return (Context.open(store) if again else context).backend_artifacts

        assert mapping() == values
        assert values == mapping()
        assert mapping() == values
        assert mapping() == mapping()
        assert mapping() != {}
        assert list(mapping()) == list(values)
        assert len(mapping()) == 3
        assert list(reversed(mapping())) == list(reversed(values))
        assert KEY in mapping()
        assert "other" not in mapping()
        assert mapping()[KEY] == values[KEY]
        assert mapping().get(KEY) == values[KEY]
        assert mapping().get("other") is None
        assert mapping().get("other", 1) == 1
        assert list(mapping().items()) == list(values.items())
        assert list(mapping().values()) == list(values.values())
        assert repr(mapping()) == repr(values)
        with pytest.raises(KeyError):
            mapping()["other"]
        for plain in (
            copy.copy(mapping()),
            copy.deepcopy(mapping()),
            pickle.loads(pickle.dumps(mapping())),
            mapping().copy(),
            dict(mapping()),
            {**mapping()},
            mapping() | {},
            {} | mapping(),
        ):
            assert type(plain) is dict
            assert plain == values
        target: dict[str, Any] = {}
        target.update(mapping())
        assert target == values
        with pytest.raises(TypeError):
            hash(mapping())

    def test_names_are_known_at_once_and_values_are_read_once(
        self,
        store: Store,
        context: Context,
        values: dict[str, Any],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        reads: list[bytes] = []
        get = Store.get
        monkeypatch.setattr(Store, "get", lambda self, key: reads.append(key) or get(self, key))
        fresh = Context.open(store).backend_artifacts
        assert list(fresh) == list(values)
        assert len(fresh) == 3
        assert KEY in fresh
        assert reads == []
        assert fresh[KEY] is fresh[KEY]
        assert len(reads) == 1

    @pytest.mark.parametrize(
        "change",
        [
            lambda m: m.update({KEY: small_artifact(KEY, 7), OTHER: small_artifact(OTHER, 8)}),
            lambda m: m.__ior__({KEY: small_artifact(KEY, 7)}),
            lambda m: m.setdefault(KEY, small_artifact(KEY, 7)),
            lambda m: m.__setitem__(KEY, small_artifact(KEY, 7)),
            lambda m: m.__delitem__(KEY),
            lambda m: m.pop(KEY),
            lambda m: m.popitem(),
            lambda m: m.clear(),
        ],
        ids=["update", "ior", "setdefault", "set", "del", "pop", "popitem", "clear"],
    )
    def test_a_change_is_one_transaction(
        self,
        store: Store,
        context: Context,
        values: dict[str, Any],
        change: Any,
        writes: list[dict[Any, Any]],
    ) -> None:
        model = dict(values)
        for mapping in (model, context.backend_artifacts):
            change(mapping)
        assert len(writes) == (model != values)
        assert context.backend_artifacts == model
        fresh = Context.open(store).backend_artifacts
        assert fresh == model
        assert list(fresh) == list(model)

    def test_an_artifact_is_kept_under_its_own_key_only(self, context: Context) -> None:
        with pytest.raises(UsageError, match="cannot be"):
            context.backend_artifacts[KEY] = small_artifact(OTHER, 1)
        assert context.backend_artifacts == {}

    def test_pickling_a_mapping_keeps_no_store(self, values: Any, context: Context) -> None:
        assert b"firebrick" not in pickle.dumps(context.backend_artifacts)


class TestDocument:
    TEXT = (ROOT / "docs" / "context.md").read_text()

    def test_has_an_example_that_runs(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (example,) = re.findall(r"^```python\n(.*?)^```$", self.TEXT, re.DOTALL | re.MULTILINE)
        monkeypatch.chdir(tmp_path)
        exec(example, {})
        with Store.open(tmp_path / "store") as store:
            assert list(Context.open(store, "training").backend_artifacts) == ["__compiled_fn_1"]

    def test_lists_the_fields_of_what_is_stored(self, store: Store, context: Context) -> None:
        context.record_artifact(small_artifact(KEY, 1))
        value = unpack(store.registry_get("default", "backend", KEY) or b"")
        for fields, head in ((value, "field"), (unpack(value["beside"]), "field of `beside`")):
            table = self.TEXT.partition(f"| {head} |")[2].partition("\n\n")[0]
            assert set(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)) == set(fields)


class TestParts:
    def test_are_known_of_what_was_written_here_and_is_there(self, store: Store, context: Context) -> None:
        context.record_artifact(small_artifact(KEY, {"text": "x" * 10_000}))
        content, parts = context.stored(KEY) or (b"", ())
        assert content == context.history(KEY)[0].content
        assert [store.get(part).kind for part in parts] == [Kind.TEXT]
        assert context.stored(OTHER) is None
        rival = Context.open(store)
        assert rival.stored(KEY) is None
        rival.record_artifact(small_artifact(KEY, 1))
        context.refresh()
        assert context.stored(KEY) is None


class TestHistory:
    def test_keeps_every_content_with_its_parent(self, store: Store, context: Context) -> None:
        for n in range(4):
            context.record_artifact(small_artifact(KEY, n))
        history = context.history(KEY)
        assert [r.parent for r in history] == [*(r.key for r in history[1:]), None]
        assert [r.current for r in history] == [True, False, False, False]
        assert [r.when for r in history] == sorted((r.when for r in history), reverse=True)
        assert all(store.get(r.content).kind is Kind.BACKEND for r in history)
        assert all(store.get(r.key).kind is Kind.REVISION for r in history)
        assert Context.open(store).history(KEY) == history
        assert context.history("other") == []

    def test_goes_back_and_on_from_there(self, store: Store, context: Context) -> None:
        for n in range(3):
            context.record_artifact(small_artifact(KEY, n))
        newest, _, oldest = context.history(KEY)
        context.revert(KEY, oldest.key)
        for each in (context, Context.open(store)):
            assert each.backend_artifacts[KEY] == small_artifact(KEY, 0)
            assert [r.current for r in each.history(KEY)] == [False, False, True]
        context.edit_artifact(KEY, lambda n: n + 10)
        branch = context.history(KEY)[0]
        assert branch.parent == oldest.key
        assert len(context.history(KEY)) == 4
        context.revert(KEY, newest.key)
        assert Context.open(store).backend_artifacts[KEY] == small_artifact(KEY, 2)
        times = {r.key: r.when for r in context.history(KEY)}
        assert times[newest.key] == newest.when
        assert times[oldest.key] == oldest.when

    def test_gives_an_entry_its_own_names_back(self, store: Store, context: Context) -> None:
        entries = [small_entry(n, (KEY, OTHER), resume=n) for n in range(2)]
        for entry in entries:
            context.record_dynamo_cache_entry(entry, ENTRY)
        context.revert(ENTRY, context.history(ENTRY)[-1].key)
        assert context.dynamo_cache_entries[ENTRY] == entries[0]
        assert Context.open(store).dynamo_cache_entries[ENTRY] == entries[0]

    def test_is_not_written_to_by_what_is_there_already(
        self, store: Store, context: Context, writes: list[Any]
    ) -> None:
        context.record_artifact(small_artifact(KEY, 1))
        context.record_dynamo_cache_entry(small_entry(1, (KEY,)), ENTRY)
        before, registered = blobs(store), store.registry("default")
        for each in (context, Context.open(store)):
            each.record_artifact(small_artifact(KEY, 1))
            each.record_dynamo_cache_entry(small_entry(1, (KEY,)), ENTRY)
            each.edit_artifact(KEY, lambda content: content)
        assert len(writes) == 2
        assert (blobs(store), store.registry("default")) == (before, registered)

    def test_refuses_a_revision_that_is_not_of_the_name(self, context: Context) -> None:
        context.record_artifact(small_artifact(KEY, 1))
        context.record_artifact(small_artifact(OTHER, 2))
        (foreign,) = context.history(OTHER)
        for key in (KEY, "other"):
            with pytest.raises(UsageError, match="never had"):
                context.revert(key, foreign.key)

    def test_ends_when_the_name_is_removed(self, store: Store, context: Context) -> None:
        for n in range(3):
            context.record_artifact(small_artifact(KEY, n))
            context.record_artifact(small_artifact(OTHER, n))
        del context.backend_artifacts[KEY]
        assert context.history(KEY) == []
        assert len(context.history(OTHER)) == 3
        context.clear()
        assert store.registry("default") == {}


class TestNames:
    def test_of_one_kind_differ_and_come_back(self, store: Store, context: Context) -> None:
        """Two backends with one content, one that is not recorded, and the resume function."""
        context.record_artifact(small_artifact(KEY, "same"))
        context.record_artifact(small_artifact(OTHER, "same"))
        context.record_dynamo_cache_entry(small_entry(4, (KEY, OTHER, THIRD), resume=9), ENTRY)
        value = unpack(store.registry_get("default", "dynamo", ENTRY) or b"")
        names = unpack(value["beside"])["names"]
        content = context.history(KEY)[0].content.hex()[:32]
        assert names == {
            f"__compiled_fn_{content}": KEY,
            f"__compiled_fn_{content}_2": OTHER,
            "__compiled_fn_?3": THIRD,
            "__resume_at_4_?0": "__resume_at_4_9",
        }
        for name in names.values():
            assert all(name.encode() not in bytes(store.get(b.key).data) for b in store.list())
        assert Context.open(store).dynamo_cache_entries == context.dynamo_cache_entries


class TestFacade:
    def test_acts_on_the_current_context(self, store: Store, context: Context) -> None:
        assert set_current(context) is None
        try:
            assert current() is context
            assert PrecompileContext.current() is context
            assert PrecompileContext._backend_artifacts_by_key is context.backend_artifacts
            assert PrecompileContext._dynamo_cache_entries is context.dynamo_cache_entries
            PrecompileContext.record_artifact(small_artifact(KEY, 1))
            PrecompileContext.record_dynamo_cache_entry(small_entry(1, (KEY,)), ENTRY)
            PrecompileContext.edit_artifact(KEY, lambda content: content + 1)
            assert PrecompileContext.serialize_artifact_by_key(KEY).content == 2
            with PrecompileContext.edit() as edit:
                edit.edit_artifact(KEY, lambda content: content + 1)
            history = PrecompileContext.history(KEY)
            assert [type(r) for r in history] == [Revision] * 3
            PrecompileContext.revert(KEY, history[-1].key)
            assert Context.open(store).backend_artifacts[KEY].content == 1
            entries, info = PrecompileContext.create_cache_entries()
            assert entries[ENTRY].dynamo is context.dynamo_cache_entries[ENTRY]
            assert entries[ENTRY].backends == {KEY: small_artifact(KEY, 1)}
            assert json.loads(json.dumps(info))["backends"] == [KEY]
            assert info == PrecompileContext.dump_debug_info(*reversed(everything(context)))
            PrecompileContext.clear()
            assert everything(Context.open(store)) == ({}, {})
        finally:
            assert set_current(None) is context

    def test_without_one_is_torchs_own(self, monkeypatch: pytest.MonkeyPatch) -> None:
        torch_class = registry.registry_class()
        for attribute in ("_backend_artifacts_by_key", "_dynamo_cache_entries"):
            monkeypatch.setattr(torch_class, attribute, {})
            assert getattr(PrecompileContext, attribute) is getattr(torch_class, attribute)
        PrecompileContext.record_artifact(small_artifact(KEY, 1))
        assert torch_class.serialize_artifact_by_key(KEY) == small_artifact(KEY, 1)
        for call in (
            lambda: PrecompileContext.edit().__enter__(),
            lambda: PrecompileContext.history(KEY),
            lambda: PrecompileContext.revert(KEY, bytes(32)),
        ):
            with pytest.raises(UsageError, match="no store"):
                call()
        PrecompileContext.clear()
        assert torch_class._backend_artifacts_by_key == {}
