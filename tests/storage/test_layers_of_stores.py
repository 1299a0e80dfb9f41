"""A private store on top of others: look-ups go down, writes stay on top, nothing is copied."""

from pathlib import Path

import pytest

from firebrick.errors import BlobMissing, EditConflict, StoreReadOnly, UsageError
from firebrick.storage.format import Kind
from firebrick.storage.seal import seal
from firebrick.storage.store import Store
from firebrick.trust.guard import SignaturePolicy
from firebrick.trust.opening import LayerName, layer_name, with_layers
from support.signed import COMPONENTS, RECIPE, Signed, part_of, publish

NONE = SignaturePolicy.NONE


@pytest.fixture(params=["directory", "pack"])
def signed(tmp_path: Path, request) -> Signed:
    """Give a layer with a bundle and a value, as a directory and as a pack."""
    made = Signed(tmp_path)
    folder = tmp_path / "made"
    with Store.open(folder) as store:
        publish(store, b"theirs")
        store.registry_update("c", {("s", "n"): b"theirs"})
        if request.param == "pack":
            seal(store, made.shared, contexts=["c"])
    if request.param == "directory":
        folder.rename(made.shared)
    return made


def test_a_bundle_of_a_lower_layer_is_served_and_not_copied(signed: Signed) -> None:
    with signed.layered(policy=NONE) as store:
        (bundle,) = store.bundles(RECIPE)
        assert store.bundle(bundle) == b"manifest of theirs"
        assert store.parts(bundle) == [part_of(b"theirs")]
        assert store.get(part_of(b"theirs")).data == b"theirs"
        assert store.facts(bundle) == {"when": 1.0}
        assert store.components(RECIPE) == COMPONENTS
        assert list(store.recipes()) == store.recipes_of("m", "f") == [RECIPE]
        assert store.indexed
        assert not store.touch(bundle)
        with store.snapshot() as snapshot:
            assert bytes(snapshot.get(part_of(b"theirs")).data) == b"theirs"
    with Store.open(signed.root / "private") as own:
        assert own.stat().blobs == own.stat().bundles == 0
    assert signed.faults == []


def test_bundles_of_all_layers_are_those_of_the_recipe(signed: Signed) -> None:
    with signed.layered(policy=NONE) as store:
        mine = publish(store, b"mine")
        assert len(store.bundles(RECIPE)) == 2
        assert store.check().clean
    with Store.open(signed.root / "private") as own:
        assert own.bundles(RECIPE) == [mine]


def test_what_is_published_is_whole_in_the_top_even_if_a_lower_layer_has_parts_of_it(signed: Signed) -> None:
    with signed.layered(policy=NONE) as store:
        publish(store, b"theirs")
    with Store.open(signed.root / "private") as own:
        assert own.get(part_of(b"theirs")).data == b"theirs"
        assert own.check().clean


def test_the_upper_value_of_a_name_counts_and_edits_compare_with_what_is_seen(signed: Signed) -> None:
    with signed.layered(policy=NONE) as store:
        assert store.registry_get("c", "s", "n") == b"theirs"
        assert store.contexts() == ["c"]
        with pytest.raises(EditConflict):
            store.registry_update("c", {("s", "n"): b"mine"}, expect={("s", "n"): None})
        store.registry_update("c", {("s", "n"): b"mine"}, expect={("s", "n"): b"theirs"})
        assert store.registry("c") == {("s", "n"): b"mine"}
        store.registry_update("c", {("s", "n"): None})
        assert store.registry_get("c", "s", "n") == b"theirs"


def test_lower_layers_are_never_written_to(signed: Signed) -> None:
    with signed.layered(policy=NONE, readonly=False) as store:
        publish(store, b"mine")
        store.gc(grace=0)
    with Store.open(signed.shared, readonly=True) as shared:
        assert shared.stat().bundles == 1
    with signed.layered(policy=NONE, readonly=True) as store, pytest.raises(StoreReadOnly):
        store.put(Kind.TEXT, b"x")


def test_a_layer_that_is_missing_is_said_and_the_others_serve(signed: Signed) -> None:
    assert len(signed.served(signed.root / "nothing", signed.shared, policy=NONE)) == 1
    assert "nothing" in signed.why()


def test_nothing_is_found_where_no_layer_has_it(signed: Signed) -> None:
    with signed.layered(policy=NONE) as store, pytest.raises(BlobMissing):
        store.get(bytes(32))


def test_a_store_is_no_layer_below_itself_and_keeps_no_keys(signed: Signed) -> None:
    for folder, below in (
        (signed.folder, "private"),
        (type(signed.folder)(signed.root / "private" / "k"), "x"),
    ):
        top = Store.open(signed.root / "private")
        with top, pytest.raises(UsageError):
            with_layers(top, [LayerName(str(signed.root / below))], NONE, folder, signed.faults.append)


def test_a_layer_requires_signatures_unless_it_is_told_otherwise() -> None:
    assert layer_name("/a").policy is SignaturePolicy.REQUIRE
    assert layer_name("/a#warn") == LayerName("/a", SignaturePolicy.WARN)
    with pytest.raises(UsageError, match="maybe"):
        layer_name("/a#maybe")
