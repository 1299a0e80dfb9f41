"""A sealed pack: one file, the same bytes for the same entries, opened without a write."""

import json
import os
import stat
from pathlib import Path

import pytest

from firebrick.errors import (
    DamagedError,
    StoreDamaged,
    StoreNotFound,
    StorePermissionError,
    StoreReadOnly,
    StoreVersionError,
    UsageError,
)
from firebrick.storage.format import Kind
from firebrick.storage.pack import HEADER, MEDIA_TYPE, Pack
from firebrick.storage.seal import oci_manifest, seal
from firebrick.storage.store import Store
from support.signed import RECIPE, part_of, publish

OTHER = {"function.module": "m", "function.name": "g"}


@pytest.fixture
def store(tmp_path: Path):
    """Give a store with two bundles and a context."""
    with Store.open(tmp_path / "store") as store:
        publish(store, b"one" * 400)
        publish(store, b"two", OTHER)
        named = store.put(Kind.TEXT, b"named")
        store.put(Kind.TEXT, b"needed by nothing")
        store.registry_update("c", {("s", "n"): bytes(named)})
        store.registry_update("private", {("s", "n"): b"x"})
        yield store


@pytest.fixture
def pack(store, tmp_path: Path) -> Path:
    path = tmp_path / "model.pack"
    seal(store, path, contexts=["c"], annotations={"model": "m"})
    return path


def test_a_pack_reads_as_the_store_that_it_was_made_from(store, pack: Path) -> None:
    with Store.open(pack, readonly=True) as sealed:
        assert [*sealed.recipes()] == [*store.recipes()]
        for recipe in store.recipes():
            assert sealed.bundles(recipe) == store.bundles(recipe)
            assert sealed.components(recipe) == store.components(recipe)
            for bundle in store.bundles(recipe):
                assert sealed.bundle(bundle) == store.bundle(bundle)
                assert sealed.facts(bundle) == store.facts(bundle)
                assert [sealed.get(key) for key in sealed.parts(bundle)] == [
                    store.get(key) for key in store.parts(bundle)
                ]
        assert sealed.registry("c") == store.registry("c")
        assert sealed.contexts() == ["c"]
        assert sealed.stat().blobs == 3
        assert sealed.stat().bytes_on_disk >= pack.stat().st_size
        with pytest.raises(StoreReadOnly):
            sealed.put(Kind.TEXT, b"x")


def test_the_same_entries_give_the_same_bytes(store, pack: Path, tmp_path: Path) -> None:
    seal(store, tmp_path / "again", contexts=["c"], annotations={"model": "m"})
    assert (tmp_path / "again").read_bytes() == pack.read_bytes()


def test_a_selection_has_what_its_recipes_need_and_nothing_else(store, tmp_path: Path) -> None:
    seal(store, tmp_path / "part", recipes=[RECIPE])
    with Store.open(tmp_path / "part", readonly=True) as sealed:
        assert [*sealed.recipes()] == [RECIPE] == sealed.recipes_of("m", "f")
        assert [info.key for info in sealed.list()] == [part_of(b"one" * 400)]
        assert sealed.recipes_of("m", "g") == []
    with pytest.raises(UsageError, match="no recipe"):
        seal(store, tmp_path / "none", recipes=[bytes(32)])
    assert not (tmp_path / "none").exists()


def test_a_pack_is_read_only_from_the_start_and_never_replaced(store, pack: Path) -> None:
    assert stat.S_IMODE(pack.stat().st_mode) == 0o444
    with pytest.raises(UsageError, match="never changed"):
        seal(store, pack)
    with pytest.raises(StoreReadOnly):
        Store.open(pack)
    assert [file for file in os.listdir(pack.parent) if file.startswith(".")] == []


def test_every_changed_byte_of_a_pack_is_found(pack: Path, tmp_path: Path) -> None:
    data = pack.read_bytes()
    for at in range(0, len(data), 7):
        path = tmp_path / "changed"
        path.unlink(missing_ok=True)
        path.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
        with pytest.raises((StoreDamaged, StoreVersionError)):
            Pack.open(path, everything=True)


def test_every_shorter_pack_is_refused(pack: Path, tmp_path: Path) -> None:
    data = pack.read_bytes()
    for length in range(0, len(data), 5):
        (tmp_path / "short").write_bytes(data[:length])
        with pytest.raises((StoreDamaged, StoreVersionError)):
            Pack.open(tmp_path / "short")


def test_a_value_is_compared_with_its_key_when_it_is_read(pack: Path, tmp_path: Path) -> None:
    data = bytearray(pack.read_bytes())
    data[HEADER.size + 24] ^= 1  # the first byte behind the first value's header
    (tmp_path / "changed").write_bytes(data)
    with Store.open(tmp_path / "changed", readonly=True) as sealed:
        first = next(iter(sorted(info.key for info in sealed.list())))
        with pytest.raises(DamagedError):
            sealed.get(first)
        assert not sealed.check().clean


def test_a_file_that_shrinks_while_it_is_open_is_an_error_and_no_signal(pack: Path) -> None:
    with Store.open(pack, readonly=True) as sealed:
        pack.chmod(0o600)
        os.truncate(pack, HEADER.size)
        with pytest.raises(DamagedError):
            sealed.get(part_of(b"two"))


def test_what_is_no_pack_is_refused_by_what_it_is(pack: Path, tmp_path: Path) -> None:
    (tmp_path / "text").write_text("hello")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to(pack)
    for name, error in ("text", StoreVersionError), ("none", StoreNotFound), ("pipe", StorePermissionError):
        with pytest.raises(error):
            Pack.open(tmp_path / name)
    with pytest.raises(StorePermissionError, match="symbolic link"):
        Store.open(tmp_path / "link", readonly=True)


def test_others_may_not_write_to_a_pack_whose_seal_is_not_asked_for(pack: Path) -> None:
    pack.chmod(0o666)
    with pytest.raises(StorePermissionError, match="seal"):
        Pack.open(pack)
    Pack.open(pack, foreign=True).release()


def test_a_pack_names_its_media_type_and_has_a_manifest_for_registries(pack: Path) -> None:
    opened = Pack.open(pack, everything=True)
    assert opened.manifest["mediaType"] == MEDIA_TYPE
    assert opened.manifest["counts"] == {"blobs": 3, "bundles": 2, "recipes": 2, "registry": 1}
    opened.release()
    manifest = json.loads(json.dumps(oci_manifest(pack)))
    assert manifest["artifactType"] == manifest["layers"][0]["mediaType"] == MEDIA_TYPE
    assert manifest["layers"][0]["size"] == pack.stat().st_size
    assert manifest["annotations"] == {"model": "m"}
