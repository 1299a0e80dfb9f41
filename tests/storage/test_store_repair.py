"""A check that goes on where it stopped, and repairs that drop what is broken and nothing else."""

from collections.abc import Callable
from pathlib import Path

import lmdb
import pytest

from firebrick.errors import DamagedError, StoreDamaged, UsageError
from firebrick.loader.bundles import Bundles
from firebrick.reports.counters import Stats
from firebrick.reports.events import NOTICE
from firebrick.storage import format as fmt
from firebrick.storage.check import Problem
from firebrick.storage.format import DATABASES, Kind
from firebrick.storage.keys import content_key, recipe_key
from firebrick.storage.reader import function_prefix, registry_key
from firebrick.storage.store import Blob, Store

SHARED = Blob(Kind.TEXT, b"shared")
NAMES = ["f", "g", "h"]


def components(name: str) -> dict[str, str]:
    return {"function.module": "m", "function.name": name}


def own(name: str) -> Blob:
    return Blob(Kind.CODE, name.encode() * 100)


def manifest(name: str) -> Blob:
    return Blob(Kind.BUNDLE, name.encode())


def publish(store: Store, name: str) -> None:
    parts = [own(name), SHARED]
    recipe = recipe_key(components(name))
    store.publish(recipe, components(name), manifest(name), [part.key for part in parts], parts)
    store.note(manifest(name).key, {"seconds": 1.0})


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "store"
    with Store.open(path, durable=False) as store:
        for name in NAMES:
            publish(store, name)
        store.pin(manifest("h").key)
        store.registry_update("c", {("s", "f"): own("f").key, ("s", "x"): b"x"})
    return path


def damage(path: Path, database: str, key: bytes, change: Callable[[bytes], bytes | None]) -> None:
    """Change a value behind the store's back; a change to None removes it."""
    with lmdb.Environment(str(path), max_dbs=9, map_size=1 << 30, sync=False) as env:
        dup = DATABASES[database]
        handle = env.open_db(database.encode(), create=False, dupsort=dup, dupfixed=dup)
        with env.begin(write=True, db=handle) as txn:
            value = change(txn.get(key, b""))
            assert txn.delete(key)
            if value is not None:
                txn.put(key, value)


def flip(value: bytes) -> bytes:
    return value[:-1] + bytes([value[-1] ^ 1])


def remove(value: bytes) -> None:
    return None


def left(store: Store) -> list[str]:
    """Name the bundles that are found by their recipes, whole."""
    found = []
    for name in NAMES:
        for bundle in store.bundles(recipe_key(components(name))):
            assert store.bundle(bundle) == name.encode()
            assert all(store.get(part) for part in store.parts(bundle))
            found.append(name)
    return found


RECIPE = recipe_key(components("f"))
BUNDLE = manifest("f").key


@pytest.mark.parametrize(
    ("database", "key", "change", "kept"),
    [
        ("blobs", own("f").key, flip, ["g", "h"]),
        ("blobs", own("f").key, remove, ["g", "h"]),
        ("blobs", SHARED.key, flip, []),
        ("bundles", BUNDLE, flip, ["g", "h"]),
        ("bundles", BUNDLE, lambda value: bytes(len(value)), ["g", "h"]),
        ("bundles", BUNDLE, remove, ["g", "h"]),
        ("recipes", RECIPE, flip, ["g", "h"]),
        ("components", RECIPE, flip, ["g", "h"]),
        ("components", RECIPE, remove, ["g", "h"]),
        ("names", fmt.NAME_PARTS + BUNDLE, flip, ["g", "h"]),
        ("names", function_prefix("m", "f") + RECIPE, flip, NAMES),
        ("names", fmt.NAMES_RECIPE + BUNDLE + RECIPE, flip, NAMES),
        ("clock", fmt.CLOCK_NOTE + BUNDLE, flip, NAMES),
        ("meta", fmt.META_PIN + manifest("h").key, flip, NAMES),
        ("registry", registry_key("c", "s", "x"), flip, NAMES),
    ],
    ids=lambda value: getattr(value, "__name__", None) if callable(value) else None,
)
def test_a_repair_drops_what_is_broken_and_nothing_else(
    path: Path, database: str, key: bytes, change: Callable[[bytes], bytes | None], kept: list[str]
) -> None:
    damage(path, database, key, change)
    with Store.open(path, durable=False) as store:
        report = store.check()
        assert not report.clean
        repaired = store.repair(report.problems)
        assert any(repaired)
        assert store.check().clean
        assert left(store) == kept
        assert ("s", "x") in store.registry("c") or database == "registry"
        assert (("s", "f") in store.registry("c")) == (key != own("f").key or change is remove)
        assert store.indexed or database == "recipes"
        assert store.pins() == [manifest("h").key] * ("h" in kept)
        for name in NAMES:
            publish(store, name)
        assert left(store) == NAMES
        assert store.repair(report.problems) == (0, 0, 0)
        assert left(store) == NAMES


def test_a_broken_structure_is_not_mended_in_place(path: Path) -> None:
    with Store.open(path, durable=False) as store, pytest.raises(StoreDamaged):
        store.repair([Problem("structure", b"", "page 7")])


def test_a_check_goes_on_where_it_stopped(path: Path) -> None:
    damage(path, "blobs", own("f").key, flip)
    damage(path, "clock", fmt.CLOCK_NOTE + BUNDLE, flip)
    with Store.open(path, durable=False) as store:
        whole = store.check()
        problems, calls, token = list[Problem](), 0, ""
        blobs = bundles = 0
        while not calls or token:
            report = store.check(seconds=0.0, token=token)
            problems += report.problems
            blobs += report.blobs
            bundles += report.bundles
            calls, token = calls + 1, report.token
        assert calls > 10
        assert problems == whole.problems
        assert (blobs, bundles) == (whole.blobs, whole.bundles) == (4, 3)
        assert whole.token == ""


@pytest.mark.parametrize("token", ["nowhere", "blobs xyz"])
def test_what_is_no_token_is_refused(path: Path, token: str) -> None:
    with Store.open(path, durable=False) as store, pytest.raises(UsageError, match="token"):
        store.check(token=token)


def test_a_manifest_of_another_schema_is_found_and_dropped(path: Path) -> None:
    broken = Blob(Kind.BUNDLE, b"\xc0", fmt.MANIFEST_VERSION)
    assert content_key(broken.kind, broken.data, broken.version) == broken.key
    with Store.open(path, durable=False) as store:
        store.publish(RECIPE, components("f"), broken, [SHARED.key])
        (first, *_) = problems = store.check().problems
        assert (first.kind, first.key, first.database) == ("damaged", broken.key, "bundles")
        store.repair(problems)
        assert store.check().clean
        assert left(store) == NAMES


@pytest.mark.parametrize("part", [own("f"), SHARED], ids=["own", "shared"])
def test_a_damaged_blob_that_is_met_is_dropped_with_its_bundles_and_told(path: Path, part: Blob) -> None:
    damage(path, "blobs", part.key, flip)
    told, stats = list[BaseException](), Stats()
    with Store.open(path, durable=False) as store:
        bundles = Bundles(store, stats, told.append)
        with pytest.raises(DamagedError) as caught:
            store.get(part.key)
        bundles.passed_over(caught.value)  # by the lane that can do without it
        assert stats.damaged == 0
        bundles.passed_over(caught.value, drop=True)
        assert left(store) == (["g", "h"] if part != SHARED else [])
        assert store.check().clean
        assert (stats.damaged, len(told)) == (1, 2)
        (event,) = stats.events.told()
        assert (event.outcome, event.code) == (NOTICE, "damaged")
        assert part.key.hex() in event.reason
        publish(store, "f")
        assert "f" in left(store)


def test_what_is_sound_is_not_dropped_by_who_says_it_is_damaged(path: Path) -> None:
    with Store.open(path, durable=False) as store:
        for key in own("f").key, BUNDLE, RECIPE:
            assert store.drop_damaged(key) == (0, 0, 0)
        assert left(store) == NAMES
