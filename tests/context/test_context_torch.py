"""A mirrored registry of torch does what torch's own does, and outlives the process."""

from __future__ import annotations

import copy
import importlib
import inspect
import json
import tempfile
from collections.abc import Iterator
from contextvars import ContextVar
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from firebrick.context.context import Context
from firebrick.context.revision import KINDS, Record
from firebrick.errors import StoreFull
from firebrick.storage.store import Store
from firebrick.torch_api import registry
from support.contexts import BACKENDS, ENTRIES, run_script, small_artifact, small_entry

pytestmark = pytest.mark.compiles

KEY, OTHER, _ = BACKENDS
ENTRY = ENTRIES[0]


def registry_like_torchs() -> Any:
    """A class that is torch's but for contents of its own."""
    contents = {"_backend_artifacts_by_key": {}, "_dynamo_cache_entries": {}}
    return type("Registry", (registry.registry_class(),), contents)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "store", durable=False) as store:
        yield store
        assert store.check().problems == []


def everything(context: Context) -> tuple[dict[str, Any], dict[str, Any]]:
    return context.backend_artifacts.copy(), context.dynamo_cache_entries.copy()


def apply(registry_class: Any, verb: str, key: str, entry: str, number: int) -> Any:
    """Do one operation on a class and return what it returned or raised."""
    artifacts, entries = registry.contents(registry_class)
    try:
        match verb:
            case "record":
                return registry_class.record_artifact(small_artifact(key, [number]))
            case "record entry":
                value = small_entry(number, BACKENDS[: number + 1])
                return registry_class.record_dynamo_cache_entry(value, key=entry)
            case "edit":
                return registry_class.edit_artifact(key, lambda content: [*content, number])
            case "get":
                return copy.deepcopy(registry_class.serialize_artifact_by_key(key))
            case "join":
                return copy.deepcopy(registry_class.create_cache_entries())
            case "describe":
                return registry_class.dump_debug_info(entries, artifacts)
            case "pop":
                return artifacts.pop(key, None)
            case "delete":
                del entries[entry]
            case "clear" if number == 0:
                return registry_class.clear()
    except (AssertionError, KeyError) as error:
        return type(error)


operations = st.tuples(
    st.sampled_from(["record", "record entry", "edit", "get", "join", "describe", "pop", "delete", "clear"]),
    st.sampled_from(BACKENDS),
    st.sampled_from(ENTRIES),
    st.integers(0, 2),
)


@given(st.lists(operations, max_size=15))
@settings(max_examples=40, deadline=None)
def test_a_mirrored_class_equals_torchs_own_after_every_step(steps: list[Any]) -> None:
    own, mirrored = registry_like_torchs(), registry_like_torchs()
    with tempfile.TemporaryDirectory() as folder, Store.open(folder, durable=False) as store:
        context = Context.open(store)
        undo = registry.mirror_onto(mirrored, context)
        for step in steps:
            assert apply(own, *step) == apply(mirrored, *step)
            expected = registry.contents(own)
            for actual in (
                registry.contents(mirrored),
                everything(context),
                everything(Context.open(store)),
            ):
                assert actual == expected
                assert [list(mapping) for mapping in actual] == [*map(list, expected)]
        undo()
        assert registry.contents(mirrored) == registry.contents(own)


def test_what_torch_had_recorded_is_taken_over_and_undone(store: Store) -> None:
    mirrored, context = registry_like_torchs(), Context.open(store)
    context.record_artifact(small_artifact(OTHER, "stored"))
    apply(mirrored, "record", KEY, ENTRY, 1)
    apply(mirrored, "record entry", KEY, ENTRY, 1)
    methods = ("clear", "edit_artifact", "create_cache_entries")
    own = [inspect.getattr_static(mirrored, method) for method in methods]
    undo = registry.mirror_onto(mirrored, context)
    artifacts, entries = registry.contents(mirrored)
    assert artifacts is context.backend_artifacts
    assert entries is context.dynamo_cache_entries
    expected = {OTHER: small_artifact(OTHER, "stored"), KEY: small_artifact(KEY, [1])}
    assert Context.open(store).backend_artifacts == expected
    assert list(Context.open(store).dynamo_cache_entries) == [ENTRY]
    undo()
    assert [inspect.getattr_static(mirrored, method) for method in methods] == own
    artifacts, entries = registry.contents(mirrored)
    assert type(artifacts) is type(entries) is dict
    assert artifacts == expected
    mirrored.clear()
    undo()
    assert registry.contents(mirrored) == ({}, {})
    assert Context.open(store).backend_artifacts == expected


def test_torch_does_not_notice_a_store_that_fails(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    own, mirrored = registry_like_torchs(), registry_like_torchs()
    faults: list[BaseException] = []
    registry.mirror_onto(mirrored, Context.open(store, on_fault=faults.append))

    def full(self: Store, *args: Any, **more: Any) -> None:
        raise StoreFull(self.path)

    monkeypatch.setattr(Store, "registry_update", full)
    for verb in ("record", "edit", "record entry", "join", "get", "clear", "describe"):
        step = (verb, KEY, ENTRY, 0)
        assert apply(own, *step) == apply(mirrored, *step)
        assert registry.contents(mirrored) == registry.contents(own)
    assert {type(fault) for fault in faults} == {StoreFull}


PROGRAM = """
import torch

def run(x):
    y = torch.sin(x)
    torch._dynamo.graph_break()
    return y + torch.cos(x)
"""

COMPILE = """
    import json, torch, torch._dynamo
    sys.path.insert(0, sys.argv[2])
    import program
    from firebrick.torch_api import registry
    torch._dynamo.config.caching_precompile = True
    torch_class = registry.registry_class()
    undo = registry.mirror_onto(torch_class, context)
    result = torch.compile(program.run)(torch.arange(8.0)).tolist()
    undo()
    names = [[*mapping] for mapping in registry.contents(torch_class)]
    print(json.dumps([result, *names]))
"""

COPY = """
    sys.path.insert(0, sys.argv[2])
    import program
    copy = Context.open(store, "copy")
    for artifact in context.backend_artifacts.values():
        copy.record_artifact(artifact)
    for key, entry in context.dynamo_cache_entries.items():
        copy.record_dynamo_cache_entry(entry, key)
"""

LOAD = """
    import json, torch, torch._dynamo
    sys.path.insert(0, sys.argv[2])
    import program
    torch._dynamo.config.caching_precompile = True
    context.save_to_dynamo_cache()
    result = torch.compile(program.run)(torch.arange(8.0)).tolist()
    counters = torch._dynamo.utils.counters
    print(json.dumps([
        result, counters["dynamo_cache"]["dynamo_cache_hit"], counters["stats"]["unique_graphs"]
    ]))
"""


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, list[Any]]:
    """A store that a process compiled into, its program, and what it saw."""
    folder = tmp_path_factory.mktemp("compiled")
    (folder / "program.py").write_text(PROGRAM)
    printed = run_script(COMPILE, folder / "store", folder)
    return folder / "store", folder, json.loads(printed)


def test_real_artifacts_are_all_in_the_store(compiled: tuple[Path, Path, list[Any]]) -> None:
    path, _, (_, backends, entries) = compiled
    assert len(backends) == 2
    assert len(entries) == 1
    with Store.open(path) as store:
        context = Context.open(store)
        assert list(context.backend_artifacts) == backends
        assert list(context.dynamo_cache_entries) == entries
        assert store.check().problems == []


def test_real_artifacts_come_back_whole_in_another_process(
    compiled: tuple[Path, Path, list[Any]],
) -> None:
    """What is read back, recorded under another name, gives the same bytes of everything."""
    path, folder, _ = compiled
    run_script(COPY, path, folder)
    with Store.open(path) as store:
        first, copy = (
            {
                name: (record.content, record.beside.names, record.beside.volatile)
                for name, value in store.registry(context).items()
                if name[0] in KINDS and (record := Record.unpack(value))
            }
            for context in ("default", "copy")
        )
    assert len(first) == 3
    assert any(volatile for _, _, volatile in first.values())
    assert copy == first


def test_real_artifacts_run_in_another_process_without_a_compilation(
    compiled: tuple[Path, Path, list[Any]],
) -> None:
    path, folder, (result, _, _) = compiled
    assert json.loads(run_script(LOAD, path, folder)) == [result, 1, 0]


UNSET = object()


@pytest.mark.parametrize(
    ("entry", "read"),
    [
        (SimpleNamespace(user_override=UNSET), lambda entry: entry.user_override),
        (
            SimpleNamespace(user_override=ContextVar("set", default=UNSET)),
            lambda entry: entry.user_override.get(),
        ),
    ],
    ids=["one value for all threads, as in torch 2.11", "one for each thread"],
)
def test_precompile_is_off_for_a_block_and_leaves_no_trace(monkeypatch, entry, read):
    config = importlib.import_module("torch._dynamo.config")
    monkeypatch.setitem(config._config, "caching_precompile", entry)
    with registry.without_precompile():
        assert read(entry) is False
    assert read(entry) is UNSET
