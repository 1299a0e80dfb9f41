"""The conformance suite of stores: subclass `StoreSuite`, and pytest runs it on your store.

The subclass says how a store is opened, and how its bytes are reached behind its back. Damage is
done there, so that nothing under test takes part in it. Every test ends with `check`, which must
find nothing, except where a test has left damage on purpose.
"""

from __future__ import annotations

import pickle
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import zstandard

from firebrick.errors import (
    BlobMissing,
    BundleMissing,
    DamagedError,
    EditConflict,
    IncompleteBundle,
    LimitExceeded,
    StillReferenced,
    StoreClosed,
    StoreReadOnly,
    UnknownKind,
    UsageError,
)
from firebrick.storage import blob as blobs
from firebrick.storage import format as fmt
from firebrick.storage.format import HEADER, KEY_BYTES, TOUCH_PERIOD_S, Kind
from firebrick.storage.keys import content_key, recipe_key
from firebrick.storage.reader import registry_key
from firebrick.storage.store import Blob, Store

Change = Callable[[bytes], bytes | None]

SMALL = Blob(Kind.CODE, b"a small one")
EMPTY = Blob(Kind.TEXT, b"")
REPEATING = Blob(Kind.WRAPPER, b"compressible " * 1000, 3)
RANDOM = Blob(Kind.TENSOR, bytes(content_key(Kind.TEXT, bytes([i]))[0] for i in range(256)) * 40)
BLOBS = [SMALL, EMPTY, REPEATING, RANDOM]
UNKNOWN = bytes(KEY_BYTES)
COMPONENTS = {"function": "f", "platform": "here"}
RECIPE = recipe_key(COMPONENTS)
MANIFEST = Blob(Kind.BUNDLE, b"manifest")


def publish(store: Store, parts: Iterable[Blob] = BLOBS, manifest: Blob = MANIFEST) -> bool:
    """Publish a bundle of these blobs under `RECIPE`."""
    parts = [*parts]
    keys = [part.key for part in parts]
    return store.publish(RECIPE, COMPONENTS, manifest, keys, parts)


def flipped(at: int) -> Change:
    """Return a change that flips the lowest bit of one byte."""
    return lambda value: value[:at] + bytes([value[at] ^ 1]) + value[at + 1 :]


class StoreSuite(ABC):
    """Test one kind of store."""

    @abstractmethod
    def open(self, path: Path, **options: Any) -> Store:
        """Open the store at a path that may not exist yet."""

    @abstractmethod
    def change(self, path: Path, database: str, key: bytes, change: Change) -> None:
        """Replace a value of a closed store without its help; a change to None removes it."""

    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        return tmp_path / "store"

    @pytest.fixture
    def store(self, path: Path) -> Iterator[Store]:
        store = self.open(path)
        yield store
        store.close()
        with self.open(path) as again:
            assert again.check().problems == []

    @pytest.fixture
    def damaged(self, path: Path) -> Iterator[Callable[[str, bytes, Change], Store]]:
        """Fill a store, damage it, and hand it back; what it ends as is the test's business."""
        opened: list[Store] = []

        def damage(database: str, key: bytes, change: Change) -> Store:
            while opened:
                opened.pop().close()
            with self.open(path) as store:
                publish(store)
                store.registry_update("context", {("section", "name"): b"value"})
                store.note(MANIFEST.key, {"seconds": 1.5})
            self.change(path, database, key, change)
            opened.append(self.open(path))
            return opened[0]

        yield damage
        for store in opened:
            store.close()

    # -- blobs

    @pytest.mark.parametrize("blob", BLOBS, ids=lambda blob: blob.kind.name)
    def test_what_was_put_is_got(self, store: Store, blob: Blob) -> None:
        key = store.put(*blob)
        assert key == content_key(blob.kind, blob.data, blob.version) == blob.key
        got = store.get(key)
        assert got == (blob.kind, blob.version, blob.data)
        assert type(got.data) is bytes
        assert store.has(key)

    @pytest.mark.parametrize("make", [bytearray, memoryview])
    def test_any_buffer_of_bytes_can_be_put(self, store: Store, make: Callable[..., Any]) -> None:
        key = store.put(RANDOM.kind, make(RANDOM.data))
        assert store.get(key).data == RANDOM.data

    def test_blobs_outlive_the_store_object(self, store: Store, path: Path) -> None:
        keys = store.put_many(BLOBS)
        store.close()
        with self.open(path) as again:
            assert [again.get(key).data for key in keys] == [blob.data for blob in BLOBS]

    def test_keys_come_back_in_the_order_of_the_blobs(self, store: Store) -> None:
        wanted = [*BLOBS, *reversed(BLOBS)]
        assert store.put_many(iter(wanted)) == [blob.key for blob in wanted]
        assert store.put_many([]) == []
        assert store.stat().blobs == len(BLOBS)

    def test_the_same_bytes_are_kept_once_for_each_kind_and_version(self, store: Store) -> None:
        variants = [Blob(Kind.CODE, b"x"), Blob(Kind.TEXT, b"x"), Blob(Kind.TEXT, b"x", 2)]
        for _ in range(2):
            store.put_many(variants)
            assert store.stat().blobs == 3
        for variant in variants:
            assert store.get(variant.key) == (variant.kind, variant.version, b"x")

    def test_a_missing_blob_is_a_miss(self, store: Store) -> None:
        assert not store.has(UNKNOWN)
        with pytest.raises(BlobMissing) as caught:
            store.get(UNKNOWN)
        assert caught.value.key == UNKNOWN

    @pytest.mark.parametrize(
        ("kind", "data", "version"),
        [
            (1, b"", 1),
            (Kind.CODE, "text", 1),
            (Kind.CODE, memoryview(bytes(8)).cast("I"), 1),
            (Kind.CODE, memoryview(bytes(8))[::2], 1),
            (Kind.CODE, b"", 0),
            (Kind.CODE, b"", 256),
        ],
        ids=["kind", "text", "items", "gaps", "version 0", "version 256"],
    )
    def test_what_is_no_blob_is_refused(self, store: Store, kind: Any, data: Any, version: int) -> None:
        with pytest.raises(UsageError):
            store.put_many([SMALL, Blob(kind, data, version)])
        assert not store.has(SMALL.key)

    def test_a_blob_that_is_too_large_is_refused(self, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(fmt, "MAX_BLOB_BYTES", 10)
        with pytest.raises(LimitExceeded) as caught:
            store.put(Kind.CODE, bytes(11))
        assert (caught.value.actual, caught.value.limit) == (11, 10)
        store.put(Kind.CODE, bytes(10))

    @pytest.mark.parametrize("key", [b"", bytes(31), bytes(33), "0" * 32, None])
    def test_what_is_no_key_is_refused(self, store: Store, key: Any) -> None:
        methods: list[Callable[[Any], object]] = [
            *(store.get, store.has, store.delete, store.bundles, store.bundle, store.parts),
            *(store.components, store.facts, store.last_use, store.touch),
        ]
        for method in methods:
            with pytest.raises(UsageError):
                method(key)

    def test_blobs_are_listed_by_key_and_kind(self, store: Store) -> None:
        store.put_many(BLOBS)
        infos = list(store.list())
        assert [info.key for info in infos] == sorted(blob.key for blob in BLOBS)
        assert {info.key: (info.kind, info.version, info.raw) for info in infos} == {
            blob.key: (blob.kind, blob.version, len(blob.data)) for blob in BLOBS
        }
        assert [info.key for info in store.list(Kind.CODE)] == [SMALL.key]
        assert list(store.list(Kind.TRITON)) == []

    def test_the_store_counts_what_it_holds(self, store: Store) -> None:
        publish(store)
        stat = store.stat()
        infos = list(store.list())
        assert (stat.blobs, stat.bundles, stat.recipes) == (len(BLOBS), 1, 1)
        assert stat.bytes_raw == sum(len(blob.data) for blob in BLOBS)
        assert stat.bytes_stored == sum(info.stored for info in infos) < stat.bytes_raw
        assert stat.bytes_on_disk > stat.bytes_stored
        report = store.check()
        assert (report.blobs, report.bundles, report.clean) == (len(BLOBS), 1, True)
        heads = HEADER.size * (len(BLOBS) + 1)
        bundle = len(MANIFEST.data) + len(BLOBS) * KEY_BYTES
        assert report.bytes == stat.bytes_stored + heads + bundle

    # -- deleting

    def test_a_deleted_blob_is_gone(self, store: Store) -> None:
        store.put_many(BLOBS)
        assert store.delete(SMALL.key)
        assert not store.delete(SMALL.key)
        assert not store.has(SMALL.key)
        assert store.has(RANDOM.key)

    def test_a_blob_in_use_is_deleted_only_by_force(self, store: Store, path: Path) -> None:
        publish(store)
        store.registry_update("c", {("s", "n"): SMALL.key})
        with pytest.raises(StillReferenced) as caught:
            store.delete(SMALL.key)
        assert caught.value.users == (f"bundle {MANIFEST.key.hex()[:12]}", "s/n of context c")
        assert store.has(SMALL.key)
        assert store.delete(SMALL.key, force=True)
        (problem,) = store.check().problems
        assert (problem.kind, problem.key) == ("missing part", MANIFEST.key)
        assert SMALL.key.hex() in problem.detail
        store.put(*SMALL)

    # -- bundles

    def test_a_published_bundle_is_found_by_its_recipe(self, store: Store) -> None:
        assert publish(store)
        assert store.bundles(RECIPE) == [MANIFEST.key]
        assert store.bundle(MANIFEST.key) == MANIFEST.data
        assert store.parts(MANIFEST.key) == sorted(blob.key for blob in BLOBS)
        assert store.components(RECIPE) == COMPONENTS
        assert list(store.recipes()) == [RECIPE]
        assert all(store.has(blob.key) for blob in BLOBS)

    def test_publishing_twice_adds_nothing(self, store: Store) -> None:
        publish(store)
        before = store.stat()
        assert not publish(store)
        assert store.stat() == before

    def test_a_recipe_collects_bundles(self, store: Store) -> None:
        manifests = [Blob(Kind.BUNDLE, bytes([i])) for i in range(20)]
        for manifest in manifests:
            assert publish(store, [SMALL], manifest)
        assert store.bundles(RECIPE) == sorted(manifest.key for manifest in manifests)
        assert list(store.recipes()) == [RECIPE]

    def test_a_bundle_may_belong_to_several_recipes(self, store: Store) -> None:
        publish(store, [SMALL])
        other = {"function": "g"}
        assert store.publish(recipe_key(other), other, MANIFEST, [SMALL.key])
        assert store.bundles(recipe_key(other)) == store.bundles(RECIPE) == [MANIFEST.key]
        assert list(store.recipes()) == sorted([RECIPE, recipe_key(other)])
        assert store.stat().bundles == 1

    @pytest.mark.parametrize("now", [-1.0, -1e9, -0.5])
    def test_a_clock_before_1970_is_no_matter(
        self, store: Store, now: float, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        publish(store)
        monkeypatch.setattr(time, "time", lambda: now)
        assert store.touch(MANIFEST.key)
        assert store.last_use(MANIFEST.key) == 0
        assert not store.touch(MANIFEST.key)
        store.note(MANIFEST.key, {"when": now})
        assert store.facts(MANIFEST.key) == {"when": now}
        monkeypatch.undo()
        assert store.touch(MANIFEST.key)

    def test_an_incomplete_bundle_is_not_published(self, store: Store) -> None:
        with pytest.raises(IncompleteBundle) as caught:
            store.publish(RECIPE, COMPONENTS, MANIFEST, [SMALL.key, RANDOM.key], [SMALL])
        assert caught.value.missing == (RANDOM.key,)
        assert not store.has(SMALL.key)
        assert store.bundles(RECIPE) == []
        assert store.components(RECIPE) is None
        with pytest.raises(BundleMissing):
            store.bundle(MANIFEST.key)

    def test_parts_may_be_in_the_store_already(self, store: Store) -> None:
        store.put(*SMALL)
        assert store.publish(RECIPE, COMPONENTS, MANIFEST, [SMALL.key])
        assert store.parts(MANIFEST.key) == [SMALL.key]

    def test_a_recipe_must_have_the_key_of_its_components(self, store: Store) -> None:
        with pytest.raises(UsageError):
            store.publish(RECIPE, {**COMPONENTS, "platform": "there"}, MANIFEST, [])
        assert list(store.recipes()) == []

    def test_a_manifest_must_be_of_kind_bundle(self, store: Store) -> None:
        with pytest.raises(UsageError):
            publish(store, manifest=Blob(Kind.GRAPH, b"manifest"))

    def test_a_bundle_has_a_limit_of_parts(self, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(fmt, "MAX_PARTS", 3)
        with pytest.raises(LimitExceeded):
            publish(store)
        assert publish(store, BLOBS[:3])

    def test_unknown_recipes_and_bundles_are_misses(self, store: Store) -> None:
        assert store.bundles(UNKNOWN) == []
        assert store.components(UNKNOWN) is None
        for method in store.bundle, store.parts:
            with pytest.raises(BundleMissing) as caught:
                method(UNKNOWN)
            assert caught.value.key == UNKNOWN

    # -- facts

    def test_the_last_note_wins(self, store: Store) -> None:
        assert store.facts(UNKNOWN) == {}
        store.note(UNKNOWN, {"seconds": 1.5, "host": "a", "old": True})
        store.note(UNKNOWN, {"seconds": 2.5, "host": "b"})
        assert store.facts(UNKNOWN) == {"seconds": 2.5, "host": "b"}

    def test_a_use_is_written_once_in_a_while(self, store: Store) -> None:
        assert store.last_use(UNKNOWN) is None
        assert store.touch(UNKNOWN, 1e9)
        assert not store.touch(UNKNOWN, 1e9 + TOUCH_PERIOD_S - 1)
        assert store.last_use(UNKNOWN) == 10**9
        assert store.touch(UNKNOWN, 1e9 + TOUCH_PERIOD_S)
        assert store.last_use(UNKNOWN) == 10**9 + TOUCH_PERIOD_S
        assert store.touch(UNKNOWN)  # now
        assert store.touch(UNKNOWN, 5)  # the clock was wrong before
        assert store.last_use(UNKNOWN) == 5

    # -- registry

    def test_names_are_set_changed_and_removed(self, store: Store) -> None:
        store.registry_update("c", {("s", "a"): b"1", ("s", "b"): b"", ("t", "a"): b"3"})
        store.registry_update("c", {("s", "a"): b"4", ("s", "b"): None, ("u", "x"): None})
        assert store.registry("c") == {("s", "a"): b"4", ("t", "a"): b"3"}
        assert list(store.registry("c")) == [("s", "a"), ("t", "a")]
        assert store.registry_get("c", "s", "a") == b"4"
        assert store.registry_get("c", "s", "b") is None
        assert store.registry("other") == {}

    def test_contexts_are_apart(self, store: Store) -> None:
        names = [f"context {i}" for i in range(10)] + ["", "ab", "a"]
        for name in names:
            store.registry_update(name, {("s", "n"): name.encode(), ("b", "c"): b"x"})
        assert store.contexts() == sorted(names)
        assert all(store.registry_get(name, "s", "n") == name.encode() for name in names)
        store.registry_update("a", {("s", "n"): None, ("b", "c"): None})
        assert store.contexts() == sorted({*names} - {"a"})

    def test_names_may_be_of_any_length(self, store: Store) -> None:
        context, section, name = "c" * 1000, "s" * 1000, "ü" * 1000
        store.registry_update(context, {(section, name): b"v" * 5000})
        assert store.registry(context) == {(section, name): b"v" * 5000}
        assert store.contexts() == [context]

    def test_an_update_is_refused_if_others_were_faster(self, store: Store) -> None:
        store.registry_update("c", {("s", "a"): b"1"}, expect={("s", "a"): None})
        with pytest.raises(EditConflict) as caught:
            store.registry_update(
                "c",
                {("s", "a"): b"2", ("s", "b"): b"2"},
                blobs=[SMALL],
                expect={("s", "a"): b"0", ("t", "z"): b"", ("s", "b"): None},
            )
        assert caught.value.context == "c"
        assert caught.value.names == ("s/a", "t/z")
        assert store.registry("c") == {("s", "a"): b"1"}
        assert not store.has(SMALL.key)
        store.registry_update("c", {("s", "a"): b"2"}, blobs=[SMALL], expect={("s", "a"): b"1"})
        assert store.registry_get("c", "s", "a") == b"2"
        assert store.has(SMALL.key)

    # -- snapshots

    def test_a_snapshot_does_not_see_later_writes(self, store: Store) -> None:
        publish(store)
        with store.snapshot() as snapshot:
            store.delete(SMALL.key, force=True)
            publish(store, [RANDOM], Blob(Kind.BUNDLE, b"another"))
            store.registry_update("c", {("s", "n"): b"v"})
            assert snapshot.get(SMALL.key).data == SMALL.data
            assert snapshot.has(SMALL.key)
            assert snapshot.bundles(RECIPE) == [MANIFEST.key]
            assert snapshot.bundle(MANIFEST.key) == MANIFEST.data
            assert snapshot.registry("c") == {}
        assert not store.has(SMALL.key)
        store.put(*SMALL)

    def test_a_snapshot_hands_out_views_without_copies(self, store: Store) -> None:
        store.put_many(BLOBS)
        with store.snapshot() as snapshot:
            view = snapshot.get(RANDOM.key).data
            assert isinstance(view, memoryview)
            assert view.readonly
            assert view == RANDOM.data
            assert snapshot.get(REPEATING.key).data == REPEATING.data
            copy = bytes(view)
        assert copy == RANDOM.data
        with pytest.raises(ValueError, match="released"):
            view[0]

    def test_a_view_that_outlives_its_snapshot_is_reported(self, store: Store) -> None:
        store.put_many(BLOBS)
        snapshot = store.snapshot()
        held = pickle.PickleBuffer(snapshot.get(RANDOM.key).data)
        with pytest.raises(UsageError):
            snapshot.close()
        snapshot.close()
        store.close()
        assert bytes(held) == RANDOM.data
        held.release()

    def test_a_snapshot_outlives_its_store(self, store: Store, path: Path) -> None:
        store.put(*RANDOM)
        snapshot = store.snapshot()
        store.close()
        assert snapshot.get(RANDOM.key).data == RANDOM.data
        snapshot.close()
        with pytest.raises(StoreClosed):
            snapshot.get(RANDOM.key)
        with self.open(path) as again:
            assert again.get(RANDOM.key).data == RANDOM.data

    def test_an_exception_ends_a_snapshot_and_is_kept(self, store: Store) -> None:
        store.put(*SMALL)
        with pytest.raises(KeyError, match="mine"), store.snapshot() as snapshot:
            raise KeyError("mine")
        with pytest.raises(StoreClosed):
            snapshot.has(SMALL.key)

    # -- refusals

    def writes(self, store: Store) -> list[Callable[[], object]]:
        """List calls that would change the store."""
        return [
            lambda: store.put(*SMALL),
            lambda: store.put_many([]),
            lambda: store.delete(SMALL.key),
            lambda: publish(store),
            lambda: store.note(MANIFEST.key, {}),
            lambda: store.registry_update("c", {}),
        ]

    def test_a_store_for_reading_refuses_to_write(self, store: Store, path: Path) -> None:
        publish(store)
        store.close()
        with self.open(path, readonly=True) as readonly:
            assert readonly.get(RANDOM.key).data == RANDOM.data
            assert readonly.check().clean
            for write in self.writes(readonly):
                with pytest.raises(StoreReadOnly):
                    write()
            assert not readonly.touch(MANIFEST.key)

    def test_a_closed_store_refuses_everything(self, store: Store) -> None:
        store.close()
        store.close()
        calls: list[Callable[[], object]] = [
            *self.writes(store),
            *(lambda m=method: m(UNKNOWN) for method in (store.get, store.has, store.bundles)),
            *(store.list, store.recipes, store.contexts, store.check, store.stat, store.snapshot),
        ]
        for call in calls:
            with pytest.raises(StoreClosed):
                call()

    # -- damage

    @pytest.mark.parametrize("blob", [SMALL, Blob(*REPEATING), EMPTY], ids=["raw", "zstd", "empty"])
    def test_no_flipped_bit_is_ever_returned(self, path: Path, blob: Blob) -> None:
        with self.open(path) as store:
            store.put(*blob)
            (info,) = store.list()
        for at in range(HEADER.size + info.stored):
            self.change(path, "blobs", blob.key, flipped(at))
            with self.open(path) as store:
                with pytest.raises(DamagedError) as caught:
                    store.get(blob.key)
                assert caught.value.key == blob.key
                assert [problem.key for problem in store.check().problems] == [blob.key]
            self.change(path, "blobs", blob.key, flipped(at))
        with self.open(path) as store:
            assert store.get(blob.key).data == blob.data
            assert store.check().clean

    @pytest.mark.parametrize(
        "change",
        [
            lambda value: b"",
            lambda value: value[: HEADER.size - 1],
            lambda value: value[:-1],
            lambda value: value + b"\0",
            lambda value: bytes(len(value)),
            lambda value: value[:16] + (2**63).to_bytes(8, "little") + value[24:],
            lambda value: value[:8] + (2**63).to_bytes(8, "little") + value[16:],
        ],
        ids=["empty", "header", "short", "long", "zeros", "raw length", "stored length"],
    )
    @pytest.mark.parametrize("blob", [SMALL, REPEATING], ids=["raw", "zstd"])
    def test_damage_is_found_and_healed_by_putting_again(
        self, damaged: Callable[..., Store], blob: Blob, change: Change
    ) -> None:
        store = damaged("blobs", blob.key, change)
        with pytest.raises(DamagedError), store.snapshot() as snapshot:
            snapshot.get(blob.key)
        kinds = [problem.kind for problem in store.check().problems]
        assert kinds == ["damaged", "missing part"]
        assert store.put(*blob) == blob.key
        assert store.get(blob.key).data == blob.data
        assert store.check().clean

    @pytest.mark.parametrize(("states", "said"), [(True, 1 << 24), (False, -1)])
    def test_a_frame_of_another_size_is_refused_before_it_is_unpacked(
        self, damaged: Callable[..., Store], states: bool, said: int
    ) -> None:
        frame = zstandard.ZstdCompressor(write_content_size=states).compress(bytes(1 << 24))
        head = HEADER.pack(fmt.MAGIC, SMALL.kind, 1, fmt.FLAG_ZSTD, len(frame), 100)
        store = damaged("blobs", SMALL.key, lambda _: head + frame)
        with pytest.raises(DamagedError) as caught:
            store.get(SMALL.key)
        assert caught.value.reason == f"raw length is 100, but the frame says {said}"

    def test_a_blob_under_the_key_of_another_is_damage(self, damaged: Callable[..., Store]) -> None:
        store = damaged("blobs", SMALL.key, lambda _: blobs.encode_blob(RANDOM))
        with pytest.raises(DamagedError):
            store.get(SMALL.key)

    def test_an_intact_blob_of_an_unknown_kind_is_refused_but_no_damage(self, path: Path) -> None:
        key = content_key(200, b"later")  # type: ignore[arg-type]
        value = HEADER.pack(b"FBRK", 200, 1, 0, 5, 5) + b"later"
        self.open(path).close()
        self.change(path, "blobs", key, lambda _: value)
        with self.open(path) as store:
            with pytest.raises(UnknownKind) as caught:
                store.get(key)
            assert caught.value.kind == 200
            assert list(store.list()) == []
            assert store.check().clean

    @pytest.mark.parametrize("at", range(HEADER.size + len(MANIFEST.data)))
    def test_a_damaged_manifest_is_found_and_healed(self, damaged: Callable[..., Store], at: int) -> None:
        store = damaged("bundles", MANIFEST.key, flipped(at))
        with pytest.raises(DamagedError):
            store.bundle(MANIFEST.key)
        kinds = {problem.kind for problem in store.check().problems}
        assert kinds == {"damaged", "dangling recipe"}
        publish(store)
        assert store.bundle(MANIFEST.key) == MANIFEST.data
        assert store.check().clean

    def test_a_damaged_list_of_parts_is_found_and_healed(self, damaged: Callable[..., Store]) -> None:
        start = HEADER.size + len(MANIFEST.data)
        changes: list[Change] = [
            *map(flipped, range(start, start + 2 * fmt.KEY_BYTES)),
            lambda value: value[:-1],
            lambda value: value[: -fmt.KEY_BYTES],  # a list that is shorter, and otherwise right
            lambda value: value[:start] + value[-fmt.KEY_BYTES :] + value[start : -fmt.KEY_BYTES],
            lambda value: value + value[-fmt.KEY_BYTES :],
            flipped(8),  # of the manifest's length, which tells where the list begins
        ]
        for change in changes:
            store = damaged("bundles", MANIFEST.key, change)
            with pytest.raises(DamagedError):
                store.parts(MANIFEST.key)
            with pytest.raises(DamagedError), store.snapshot() as snapshot:
                snapshot.parts(MANIFEST.key)
            assert "damaged" in {problem.kind for problem in store.check().problems}
            publish(store)
            assert store.parts(MANIFEST.key) == sorted(blob.key for blob in BLOBS)
            assert store.check().clean

    def test_a_damaged_check_of_parts_is_found_and_healed(self, damaged: Callable[..., Store]) -> None:
        for at in range(HEADER.size + 2 * fmt.CHECK_BYTES):
            store = damaged("names", fmt.NAME_PARTS + MANIFEST.key, flipped(at))
            with pytest.raises(DamagedError):
                store.parts(MANIFEST.key)
            assert not store.check().clean
            publish(store)
            assert store.check().clean

    def test_a_list_of_parts_of_an_earlier_version_is_compared_with_what_is_there(
        self, damaged: Callable[..., Store]
    ) -> None:
        check = fmt.NAME_PARTS + MANIFEST.key
        store = damaged("names", check, lambda _: None)
        assert store.parts(MANIFEST.key) == sorted(blob.key for blob in BLOBS)
        assert store.check().clean
        store = damaged("bundles", MANIFEST.key, flipped(HEADER.size + len(MANIFEST.data)))
        with pytest.raises(DamagedError):
            store.parts(MANIFEST.key)
        assert not publish(store)  # it was there, and gets its check
        with store.snapshot() as snapshot:
            assert snapshot._txn.record("names", check)
        assert store.check().clean

    def test_a_recipe_without_its_bundle_is_reported(self, damaged: Callable[..., Store]) -> None:
        store = damaged("bundles", MANIFEST.key, lambda _: None)
        with pytest.raises(DamagedError) as caught:
            store.bundles(RECIPE)
        assert caught.value.key == RECIPE
        (problem,) = store.check().problems
        assert (problem.kind, problem.key) == ("dangling recipe", RECIPE)
        publish(store)
        assert store.check().clean

    @pytest.mark.parametrize("at", range(fmt.KEY_BYTES))
    def test_a_damaged_name_of_a_bundle_is_found_and_healed(
        self, damaged: Callable[..., Store], at: int
    ) -> None:
        store = damaged("recipes", RECIPE, flipped(at))
        with pytest.raises(DamagedError):
            store.bundles(RECIPE)
        assert [problem.kind for problem in store.check().problems] == ["dangling recipe"]
        assert publish(store)
        assert store.bundles(RECIPE) == [MANIFEST.key]
        assert store.check().clean

    def test_a_recipe_without_components_is_reported(self, damaged: Callable[..., Store]) -> None:
        store = damaged("components", RECIPE, lambda _: None)
        assert list(store.recipes()) == []
        (problem,) = store.check().problems
        assert (problem.kind, problem.key) == ("missing components", RECIPE)
        publish(store)
        assert store.check().clean

    def test_components_under_another_key_are_reported(
        self, damaged: Callable[..., Store], path: Path
    ) -> None:
        body = blobs.encode_record("components", RECIPE, b"")  # the components of no recipe
        store = damaged("components", RECIPE, lambda _: body)
        (problem,) = store.check().problems
        assert (problem.kind, problem.key) == ("damaged", RECIPE)

    @pytest.mark.parametrize(
        ("database", "key", "reads"),
        [
            ("components", RECIPE, [lambda store: store.components(RECIPE)]),
            ("clock", b"n" + MANIFEST.key, [lambda store: store.facts(MANIFEST.key)]),
            (
                "registry",
                registry_key("context", "section", "name"),
                [
                    lambda store: store.registry("context"),
                    lambda store: store.registry_get("context", "section", "name"),
                    lambda store: store.contexts(),
                ],
            ),
        ],
        ids=["components", "facts", "registry"],
    )
    def test_a_damaged_record_is_never_believed(
        self,
        damaged: Callable[..., Store],
        path: Path,
        database: str,
        key: bytes,
        reads: list[Callable[[Store], object]],
    ) -> None:
        values: list[bytes] = []

        def keep(value: bytes) -> bytes:
            values.append(value)
            return value

        store = damaged(database, key, keep)
        for at in range(len(values[0])):
            store.close()
            self.change(path, database, key, flipped(at))
            with self.open(path) as store:
                for read in reads:
                    with pytest.raises(DamagedError):
                        read(store)
                assert [problem.key for problem in store.check().problems] == [key]
            self.change(path, database, key, flipped(at))
