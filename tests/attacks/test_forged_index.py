"""Whoever can write to a layer, but has no trusted key, cannot make a recipe lead to bytes of their own."""

import os
import shutil
from pathlib import Path

import pytest

from firebrick.errors import Untrusted
from firebrick.storage.format import META_SIGNATURE
from firebrick.storage.keys import recipe_key
from firebrick.storage.store import Store
from firebrick.trust import guard
from firebrick.trust.folder import TrustFolder
from firebrick.trust.guard import Judge, SignaturePolicy
from firebrick.trust.signing import sign_store, verdicts
from firebrick.trust.signing_keys import SecretKey, parse_secret
from firebrick.trust.statements import RECIPE as KIND
from firebrick.trust.statements import Statement, prefix_of, record_key, sign
from support.signed import COMPONENTS, NOW, RECIPE, Signed, part_of, publish

REGISTRY = {("s", "n"): b"ours"}


@pytest.fixture
def signed(tmp_path: Path) -> Signed:
    """Give a shared store with a bundle and a value, both signed with a trusted key."""
    made = Signed(tmp_path)
    with Store.open(made.shared) as store:
        publish(store, b"ours")
        store.registry_update("c", REGISTRY)
        assert sign_store(store, made.key, now=NOW) == 2
    return made


def attack(signed: Signed) -> Store:
    """Open the shared store as the attacker does, who may write to it."""
    return Store.open(signed.shared)


def signatures(store: Store) -> dict[bytes, bytes]:
    with store.snapshot() as snapshot:
        return {
            key: snapshot.view.record("meta", key) or b""
            for key, _ in snapshot.view.items("meta", prefix=META_SIGNATURE)
        }


def test_what_is_signed_is_served(signed: Signed) -> None:
    with signed.layered() as store:
        (bundle,) = store.bundles(RECIPE)
        assert store.get(store.parts(bundle)[0]).data == b"ours"
        assert store.registry("c") == REGISTRY
    assert signed.faults == []


def test_a_planted_library_with_recomputed_keys_is_not_among_the_bundles(signed: Signed) -> None:
    with attack(signed) as store:
        planted = publish(store, b"evil")
        assert store.check().clean  # a digest is not authentication
    assert planted not in signed.served()
    assert "not among those that are signed" in signed.why()
    assert planted in signed.served(policy=SignaturePolicy.WARN)
    assert "not among those that are signed" in signed.why()


def test_a_bundle_that_replaces_the_signed_one_is_not_served(signed: Signed) -> None:
    with attack(signed) as store:
        (old,) = store.bundles(RECIPE)
        store.delete(old, force=True)
        publish(store, b"evil")
    assert signed.served() == []


def test_other_bytes_under_the_key_of_a_signed_part_are_damage(signed: Signed) -> None:
    with attack(signed) as store:
        key = part_of(b"ours")

        def body(txn) -> None:
            value = bytes(txn.get("blobs", key))
            txn.put("blobs", key, value.replace(b"ours", b"evil"))

        store._writable.write(body)
    with signed.layered() as store, pytest.raises(Exception, match="digest is"):
        store.get(key)


def test_a_value_of_the_registry_cannot_be_exchanged(signed: Signed) -> None:
    with attack(signed) as store:
        store.registry_update("c", {("s", "n"): b"evil", ("s", "new"): b"evil"})
    with signed.layered() as store:
        assert store.registry_get("c", "s", "n") is None
        assert "another value" in signed.why()
        assert store.registry_get("c", "s", "new") is None
        assert "not signed" in signed.why()


def test_a_stripped_signature_is_none(signed: Signed) -> None:
    with attack(signed) as store:
        keys = [*signatures(store)]
        store._writable.write(lambda txn: [txn.delete("meta", key) for key in keys])
    assert signed.served() == []
    assert "it is not signed" in signed.why()
    assert len(signed.served(policy=SignaturePolicy.WARN)) == 1


def test_a_key_of_the_attackers_own_is_not_trusted(signed: Signed) -> None:
    with attack(signed) as store:
        planted = publish(store, b"evil")
        sign_store(store, SecretKey.generate("ours"), now=NOW + 1)  # names are for people
    assert planted not in signed.served()


def test_a_signature_that_names_a_trusted_key_must_be_made_with_it(signed: Signed) -> None:
    with attack(signed) as store:
        planted = publish(store, b"evil")
        forged = sign(Statement(KIND, RECIPE, (planted,), NOW + 1), SecretKey.generate("x"))
        forged = forged._replace(key_id=signed.key.public.id)
        store.attach({record_key(forged): forged.pack()})
    assert signed.served() == []
    assert "not made with ours" in signed.why()


def test_a_signature_of_another_recipe_does_not_fit(signed: Signed) -> None:
    other = COMPONENTS | {"options": "y"}
    with attack(signed) as store:
        publish(store, b"evil", other)
        (body,) = [body for key, body in signatures(store).items() if key.startswith(prefix_of(KIND, RECIPE))]
        key = prefix_of(KIND, recipe_key(other)) + signed.key.public.id
        store.attach({key: body})
    with signed.layered() as store:
        assert store.bundles(recipe_key(other)) == []
    assert "not made with" in signed.why()


@pytest.mark.parametrize("body", [b"", b"\xc0", b"\x94\x90\x01\x00\xc4\x01x", b"\xdd\xff\xff\xff\xff"])
def test_a_signature_of_another_form_is_none(signed: Signed, body: bytes) -> None:
    with attack(signed) as store:
        store.attach(dict.fromkeys(signatures(store), body))
    assert signed.served() == []
    assert "not signed" in signed.why()


def test_an_older_state_is_not_believed_once_a_newer_one_was_met(signed: Signed, tmp_path: Path) -> None:
    shutil.copytree(signed.shared, tmp_path / "old")
    with attack(signed) as store:
        (withdrawn,) = store.bundles(RECIPE)
        store.delete(withdrawn, force=True)
        kept = publish(store, b"mended")
        sign_store(store, signed.key, now=NOW + 1)
    assert signed.served() == [kept]
    shutil.rmtree(signed.shared)
    shutil.copytree(tmp_path / "old", signed.shared)
    assert signed.served() == []
    assert "older than one that was met before" in signed.why()


def test_what_was_taken_back_is_not_believed_on_the_strength_of_its_old_signature(signed: Signed) -> None:
    with attack(signed) as store:
        (withdrawn,) = store.bundles(RECIPE)
        before = signatures(store)
        store.delete(withdrawn, force=True)
        kept = publish(store, b"mended")
        rotated = signed.trusted("next")
        sign_store(store, rotated, now=NOW + 1)
        publish(store, b"ours")  # the attacker puts it back
        store.attach(before)  # with the signature that it had
    assert signed.served() == [kept]


def test_a_revoked_key_is_believed_no_longer_and_a_rotated_one_is(signed: Signed) -> None:
    with signed.layered() as store:
        assert len(store.bundles(RECIPE)) == 1
        signed.folder.revoke(signed.key.public)
        assert store.bundles(RECIPE) == []  # in a process that runs, too
        assert "ours is revoked" in signed.why()
    rotated = signed.trusted("next")
    with attack(signed) as store:
        sign_store(store, rotated)
    assert len(signed.served()) == 1


def test_a_signature_expires(signed: Signed, monkeypatch) -> None:
    with attack(signed) as store:
        sign_store(store, signed.key, now=NOW, expires=NOW + 10)
    judge = Judge(signed.folder, clock=lambda: NOW + 9)
    with attack(signed) as store, store.snapshot() as snapshot:
        assert {verdict.reason for verdict in verdicts(snapshot.view, judge, signed.shared)} == {""}
    monkeypatch.setattr(guard.time, "time", lambda: NOW + 11)
    assert signed.served() == []
    assert "expired" in signed.why()


def test_the_folder_of_keys_believes_nobody_once_others_can_write_to_it(signed: Signed) -> None:
    for path in signed.folder.path / "trusted", signed.folder.path:
        path.chmod(path.stat().st_mode | 0o022)
        assert signed.served() == []
        assert "others may write to it" in signed.why()
        path.chmod(0o700 if path.is_dir() else 0o600)
    trusted = signed.folder.path / "trusted"
    trusted.rename(trusted.with_name("real"))
    trusted.symlink_to("real")
    assert signed.served() == []


def test_without_keys_nothing_of_a_layer_that_requires_them_is_served(tmp_path: Path, signed: Signed) -> None:
    shutil.rmtree(signed.folder.path)
    assert signed.served() == []
    assert "is not trusted" in signed.why()


def test_a_secret_key_is_for_its_owner_and_shows_nothing(signed: Signed) -> None:
    assert (signed.folder.path / "ours.key").stat().st_mode & 0o777 == 0o600
    assert signed.key.raw.hex() not in repr(signed.key)
    with pytest.raises(Exception, match="NAME:BASE64") as caught:
        parse_secret("ours:" + "A" * 42)
    assert "AAAA" not in str(caught.value)


def test_torn_marks_are_passed_over_and_the_others_count(signed: Signed) -> None:
    assert len(signed.served()) == 1
    marks = signed.folder.path / "marks"
    whole = marks.read_bytes()
    marks.write_bytes(b"torn" + whole + whole[:7])
    with attack(signed) as store:
        sign_store(store, signed.key)
        lower = sign(Statement(KIND, RECIPE, tuple(store.bundles(RECIPE)), NOW - 1), signed.key)
        store.attach({record_key(lower): lower.pack()})
    judge = Judge(TrustFolder(signed.folder.path))
    with pytest.raises(Untrusted, match="older"):
        judge.newest(iter([lower]), "it", os.fspath(signed.shared), RECIPE)


def test_the_own_store_can_require_signatures_as_well(signed: Signed) -> None:
    with Store.open(signed.root / "private") as store:
        publish(store, b"mine")
    with signed.layered(own=SignaturePolicy.REQUIRE) as store:
        assert len(store.bundles(RECIPE)) == 1
    assert "not signed" in signed.why()


def test_a_signer_does_not_follow_a_version_that_an_attacker_wrote(signed: Signed) -> None:
    huge = Statement(KIND, RECIPE, (), (1 << 63) - 1)
    with attack(signed) as store:
        forged = sign(huge, SecretKey.generate("x"))._replace(key_id=signed.key.public.id)
        store.attach({record_key(forged): forged.pack()})
        assert sign_store(store, signed.key, now=NOW + 5) == 2
    assert len(signed.served()) == 1
