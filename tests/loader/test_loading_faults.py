"""Libraries that cannot be loaded from memory, and facts that are damaged, cost no program its step."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from firebrick.errors import DamagedError, StoreLocked
from firebrick.loader.bundles import PENDING, SELF_TEST, Bundles
from firebrick.loader.libraries import Libraries
from firebrick.loader.wrapper_libraries import WrapperLibraries
from firebrick.reports.counters import Stats
from firebrick.reports.not_served import Miss
from firebrick.reports.refusals import refusal_of
from firebrick.storage.format import Kind
from firebrick.storage.keys import recipe_key
from firebrick.storage.store import Blob, Store
from firebrick.torch_api import shared_object
from firebrick.torch_api.library_requests import request_digest


def test_without_proc_bytes_get_a_path_in_a_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared_object, "_DESCRIPTORS", "/nowhere")
    before = len(os.listdir("/proc/self/fd"))
    with shared_object.as_file(b"library") as path:
        assert Path(path).read_bytes() == b"library"
    assert not os.path.exists(path)
    assert len(os.listdir("/proc/self/fd")) == before


def test_without_files_in_memory_too(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> int:
        raise OSError

    monkeypatch.setattr(os, "memfd_create", refuse)
    with shared_object.as_file(b"library") as path:
        assert Path(path).read_bytes() == b"library"


class Unloadable(Libraries):
    """Offers a library for everything, none of which can be loaded."""

    discarded: list[str]

    def __init__(self) -> None:
        super().__init__()
        self.discarded = []

    def loader(self, cls: Any, digest: str) -> Callable[[], Any] | None:
        def load() -> Any:
            raise ImportError("cannot open shared object file")

        return load

    def discard(self, digest: str) -> None:
        self.discarded.append(digest)


class Cache:
    """Stands for torch's cache of C++ libraries."""


def load_async(cls: type, source: str) -> Callable[[], str]:
    return lambda: f"compiled {source}"


def test_a_library_that_cannot_be_loaded_is_compiled() -> None:
    faults: list[BaseException] = []
    libraries = Unloadable()
    load = WrapperLibraries(libraries, faults.append).loading_library(load_async)(Cache, "source")
    assert load() == "compiled source"
    assert [type(fault) for fault in faults] == [ImportError]
    assert libraries.discarded == [request_digest(Cache, load_async, ("source",), {})]


def test_who_has_no_compiler_gets_the_error() -> None:
    with pytest.raises(ImportError):
        WrapperLibraries(Unloadable()).loading_library(load_async)(Cache, "source")()


def test_damage_is_told_and_a_miss_is_not(tmp_path: Path) -> None:
    told: list[BaseException] = []
    with Store.open(tmp_path / "store") as store:
        bundles = Bundles(store, Stats(), told.append)
        assert refusal_of(bundles.passed_over(Miss("guards"))).reason == "guards"
        assert told == []
        damaged = refusal_of(bundles.passed_over(DamagedError(b"k" * 32, "digest")))
        assert damaged.reason == "a part is damaged"
        assert "StoreLocked" in refusal_of(bundles.passed_over(StoreLocked("/s", "held"))).reason
        assert [type(error) for error in told] == [DamagedError, StoreLocked]


def test_a_bundle_with_damaged_facts_waits_for_a_new_test(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[BaseException] = []
    components, manifest = {"function": "f"}, Blob(Kind.BUNDLE, b"manifest")

    def damaged(*_: object) -> dict[str, Any]:
        raise DamagedError(manifest.key, "checksum")

    with Store.open(tmp_path / "store") as store:
        store.publish(recipe_key(components), components, manifest, [])
        monkeypatch.setattr(store, "facts", damaged)
        found = Bundles(store, Stats(), told.append).of(recipe_key(components))
    assert found == {manifest.key: {SELF_TEST: PENDING}}
    assert len(told) == 1
