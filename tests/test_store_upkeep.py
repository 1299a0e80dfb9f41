"""What is deleted, pinned and collected, and what stays."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from firebrick.errors import BundleMissing, StillReferenced
from firebrick.storage.format import Kind
from firebrick.storage.keys import ContentKey, recipe_key
from firebrick.storage.msgpack import pack
from firebrick.storage.store import Blob, Store

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
