"""What is deleted, pinned and collected, and what stays."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from firebrick.errors import BundleMissing, StillReferenced, StoreFull, StoreLocked, UsageError
from firebrick.storage.format import Kind
from firebrick.storage.keys import ContentKey, recipe_key
from firebrick.storage.msgpack import pack
from firebrick.storage.store import Blob, Store
from support.places import ROOT

SHARED = Blob(Kind.TEXT, b"what two bundles need")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "store", durable=False) as store:
        yield store
        assert store.check().problems == []
        assert store.indexed


def publish(store: Store, name: str, *more: Blob) -> tuple[bytes, ContentKey, Blob]:
    """Publish a bundle with one blob of its own and a shared one; return recipe, bundle and its own blob."""
    components = {"function.module": "m", "function.name": name}
    recipe, own, manifest = (
        recipe_key(components),
        Blob(Kind.CODE, name.encode()),
        Blob(Kind.BUNDLE, name.encode()),
    )
    parts = [own, SHARED, *more]
    store.publish(recipe, components, manifest, [part.key for part in parts], parts)
    return recipe, manifest.key, own


def test_a_deleted_bundle_goes_with_its_recipe_and_what_was_noted(store: Store) -> None:
    recipe, bundle, _ = publish(store, "f")
    other, kept, _ = publish(store, "g")
    store.note(bundle, {"seconds": 1.0})
    store.touch(bundle)
    assert store.delete(bundle)
    assert not store.delete(bundle)
    assert list(store.recipes()) == [other]
    assert store.bundles(recipe) == []
    assert store.recipes_of("m", "f") == []
    assert (store.facts(bundle), store.last_use(bundle)) == ({}, None)
    assert store.bundles(other) == [kept]


def test_a_deleted_bundle_leaves_its_recipe_with_the_others(store: Store) -> None:
    recipe, bundle, _ = publish(store, "f")
    other = Blob(Kind.BUNDLE, b"a later one")
    components = store.components(recipe)
    assert components
    store.publish(recipe, components, other, [SHARED.key])
    assert store.delete(bundle)
    assert store.bundles(recipe) == [other.key]


def test_a_deleted_recipe_leaves_the_bundles_that_others_name(store: Store) -> None:
    recipe, bundle, _ = publish(store, "f")
    components = {"another": "recipe"}
    store.publish(recipe_key(components), components, Blob(Kind.BUNDLE, b"f"), store.parts(bundle))
    assert store.delete(recipe)
    assert store.bundles(recipe) == []
    assert store.bundles(recipe_key(components)) == [bundle]
    assert store.delete(recipe_key(components))
    with pytest.raises(BundleMissing):
        store.bundle(bundle)


def test_a_pinned_bundle_is_deleted_by_force_only(store: Store) -> None:
    recipe, bundle, _ = publish(store, "f")
    with pytest.raises(BundleMissing):
        store.pin(recipe)
    assert store.pin(bundle)
    assert not store.pin(bundle)
    assert store.pins() == [bundle]
    for key in bundle, recipe:
        with pytest.raises(StillReferenced, match="a pin"):
            store.delete(key)
    assert store.unpin(bundle)
    assert not store.unpin(bundle)
    store.pin(bundle)
    assert store.delete(recipe, force=True)
    assert store.pins() == []


def test_what_nothing_needs_is_collected_after_its_grace(store: Store) -> None:
    _, bundle, own = publish(store, "f")
    publish(store, "g")
    alone = store.put(Kind.TEXT, b"put, and never published")
    store.delete(bundle)
    assert store.gc()[:2] == (0, 0)
    assert store.has(own.key) and store.has(alone)
    collected = store.gc(grace=0)
    assert (collected.blobs, collected.waiting) == (2, 0)
    assert not store.has(own.key) and not store.has(alone)
    assert store.has(SHARED.key)
    assert store.gc(grace=0).blobs == 0


def test_what_a_context_names_is_kept_with_what_that_names(store: Store) -> None:
    leaf, stray = Blob(Kind.TENSOR, b"leaf"), Blob(Kind.TENSOR, b"stray")
    inner = Blob(Kind.GRAPH, pack(["inner", leaf.key]))
    root = Blob(Kind.BACKEND, pack({"children": [inner.key, 1]}))
    store.registry_update("c", {("s", "n"): b"any form " + root.key + b"!"}, blobs=[leaf, stray, inner, root])
    assert store.gc(grace=0).blobs == 1
    assert all(store.has(blob.key) for blob in (leaf, inner, root))
    with pytest.raises(StillReferenced):
        store.delete(root.key)
    assert store.delete_context("c")
    assert not store.delete_context("c")
    assert store.contexts() == []
    assert store.gc(grace=0).blobs == 3


def test_what_others_come_to_need_meanwhile_stays(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    from firebrick.storage import collector

    alone = Blob(Kind.TEXT, b"about to be used")
    store.put(*alone)
    look = collector.unneeded_blobs

    def looked(engine: object) -> dict[bytes, int]:
        found = look(engine)  # type: ignore[arg-type]
        assert alone.key in found
        publish(store, "f", alone)
        return found

    monkeypatch.setattr(collector, "unneeded_blobs", looked)
    assert store.gc(grace=0).blobs == 0
    assert store.has(alone.key)


def test_a_part_that_is_collected_before_it_is_published_is_put_again(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = Blob(Kind.TEXT, b"there, when it is looked for")
    store.put(*alone)
    encode = Store._encode

    def encoded(self: Store, items: object) -> object:
        result = encode(self, items)  # type: ignore[arg-type]
        store.gc(grace=0)
        return result

    with monkeypatch.context() as patch:
        patch.setattr(Store, "_encode", encoded)
        for write in (
            lambda: publish(store, "f", alone),
            lambda: store.put_many([alone, Blob(Kind.TEXT, b"new")]),
            lambda: store.registry_update("c", {("s", "n"): alone.key}, blobs=[alone]),
        ):
            for bundle in store.bundles(recipe_key({"function.module": "m", "function.name": "f"})):
                store.delete(bundle)
            patch.setattr(Store, "_encode", encoded)
            write()
            assert store.has(alone.key)
            patch.setattr(Store, "_encode", encode)
            store.delete_context("c")


def test_collecting_works_in_short_transactions(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    from firebrick.storage import format as fmt
    from firebrick.storage import slices

    store.put_many([Blob(Kind.TEXT, b"%d" % i) for i in range(100)])
    engine, writes = store._open, list[object]()
    write = engine.write
    monkeypatch.setattr(fmt, "SLICE_S", 0.0)
    monkeypatch.setattr(slices, "PAUSE_S", 0.0)
    monkeypatch.setattr(engine, "write", lambda body, **more: writes.append(body) or write(body, **more))
    assert store.gc(grace=0).blobs == 100
    assert len(writes) >= 100


MIB = 1 << 20


def fill(store: Store, count: int, size: int = 64 << 10, start: int = 0) -> list[ContentKey]:
    """Publish bundles, each of its own bytes; the later the more seconds of compilation it stands for."""
    keys = []
    for number in range(start, start + count):
        data = number.to_bytes(4, "little") * (size // 4)
        _, bundle, _ = publish(store, str(number), Blob(Kind.TENSOR, data))
        store.note(bundle, {"seconds": 1.0 + number, "when": 1e9})
        keys.append(bundle)
    return keys


def there(store: Store, keys: list[ContentKey]) -> list[int]:
    with store.snapshot() as snapshot:
        return [number for number, key in enumerate(keys) if key in {*bundles(snapshot)}]


def bundles(store: Store) -> Iterator[ContentKey]:
    for recipe in store.recipes():
        yield from store.bundles(recipe)


def test_what_saves_least_goes_first_and_pins_stay(store: Store) -> None:
    keys = fill(store, 20)
    store.pin(keys[0])
    evicted = store.evict(MIB)
    left = there(store, keys)
    assert evicted.bundles == 20 - len(left)
    assert left == [0, *range(20 - len(left) + 1, 20)]
    assert 10 < len(left) < 20


def test_what_was_not_used_for_long_goes_before_what_saves_less(store: Store) -> None:
    keys = fill(store, 20)
    for key in keys[:5]:
        store.touch(key)
    store.evict(MIB)
    assert there(store, keys)[:5] == [0, 1, 2, 3, 4]


def test_a_store_keeps_to_its_limit_while_it_is_filled(tmp_path: Path) -> None:
    path = tmp_path / "bounded"
    with Store.open(path, durable=False, max_bytes=2 * MIB) as store:
        for number in range(0, 100, 4):
            fill(store, 4, start=number)
            assert sum(file.stat().st_blocks * 512 for file in path.iterdir()) <= 2 * MIB
        assert store.evicted > 70
        assert [*bundles(store)]
        assert store.check().clean


def test_what_is_larger_than_the_limit_is_refused_and_nothing_is_evicted(tmp_path: Path) -> None:
    with Store.open(tmp_path / "bounded", durable=False, max_bytes=2 * MIB) as store:
        keys = fill(store, 5)
        with pytest.raises(StoreFull, match="do not fit"):
            store.put(Kind.TENSOR, bytes(3 * MIB))
        assert len(there(store, keys)) == 5


def test_pins_alone_leave_no_room(tmp_path: Path) -> None:
    with Store.open(tmp_path / "bounded", durable=False, max_bytes=2 * MIB) as store:
        pinned = 0
        with pytest.raises(StoreFull):
            for number in range(100):
                (key,) = fill(store, 1, start=number)
                store.pin(key)
                pinned += 1
        assert len(store.pins()) == len([*bundles(store)]) == pinned > 5
        store.unpin(store.pins()[0])
        fill(store, 1, start=1000)


def test_a_full_disk_is_met_by_evicting(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = fill(store, 20)
    engine = store._open
    write, refused = engine.write, []

    def full(body: object, **more: object) -> object:
        if "publish" in getattr(body, "__qualname__", "") and len(refused) < 2:
            refused.append(body)
            raise StoreFull(store.path, "no space left on device")
        return write(body, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(engine, "write", full)
    fill(store, 1, start=100)
    assert refused
    assert len(there(store, keys)) < 20
    assert store.evicted


@pytest.mark.parametrize("size", [1, 2 * MIB - 1, -1])
def test_a_limit_that_no_store_fits_is_refused(tmp_path: Path, size: int) -> None:
    with pytest.raises(UsageError, match="max_bytes"):
        Store.open(tmp_path / "bounded", max_bytes=size)
    assert not (tmp_path / "bounded").exists()


def test_writers_in_several_processes_keep_to_one_limit(tmp_path: Path) -> None:
    churn = ROOT / "benchmarks" / "churn.py"
    options = "--max-bytes 2097152 --bundle 32768 --times 3 --writers 2 --readers 2".split()
    done = subprocess.run(
        [sys.executable, str(churn), *options], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads(done.stdout)
    assert report["most_bytes_on_disk"] <= report["max_bytes"]
    assert report["evicted"] and report["reads"] and report["kept"]


def test_what_others_come_to_need_while_the_clock_jumps_stays(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    from firebrick.storage import collector, journal

    alone = Blob(Kind.TEXT, b"about to be used")
    store.put(*alone)
    look = collector.unneeded_blobs

    def looked(engine: object) -> dict[bytes, int]:
        found = look(engine)  # type: ignore[arg-type]
        publish(store, "f", alone)
        now = journal._now()
        monkeypatch.setattr(journal, "_now", lambda: now + 7200)
        for number in range(9):  # each drops an entry of the journal that seems old
            store.put(Kind.TEXT, b"%d" % number)
        return found

    monkeypatch.setattr(collector, "unneeded_blobs", looked)
    with pytest.raises(StoreLocked, match="clock"):
        store.gc(grace=0)
    assert store.has(alone.key)
    monkeypatch.setattr(collector, "unneeded_blobs", look)
    assert store.gc(grace=0).blobs == 9
    assert store.has(alone.key)
