"""What is recorded with a key is signed as it is published, and nothing else is."""

from pathlib import Path

import pytest

from firebrick.settings import PULL_REQUEST, Settings
from firebrick.storage.store import Store
from firebrick.trust.guard import Judge, SignaturePolicy
from firebrick.trust.recording import signing
from firebrick.trust.signing import sign_store, verdicts
from support.signed import COMPONENTS, RECIPE, Signed, publish


@pytest.fixture
def signed(tmp_path: Path) -> Signed:
    return Signed(tmp_path)


def test_what_is_recorded_is_believed_without_a_second_step(signed: Signed) -> None:
    with signing(signed.key).open(signed.shared) as store:
        bundle = publish(store, b"ours")
        store.registry_update("c", {("s", "n"): b"ours", ("s", "gone"): None})
    with Store.open(signed.shared) as store, store.snapshot() as snapshot:
        assert {found.reason for found in verdicts(snapshot.view, Judge(signed.folder), signed.shared)} == {
            ""
        }
    assert signed.served() == [bundle]


def test_a_second_bundle_is_signed_beside_the_first_and_what_others_planted_is_not(signed: Signed) -> None:
    with signing(signed.key).open(signed.shared) as store:
        first = publish(store, b"first")
    with Store.open(signed.shared) as store:
        planted = publish(store, b"evil")
    with signing(signed.key).open(signed.shared) as store:
        second = publish(store, b"second")
    assert sorted(signed.served()) == sorted([first, second])
    assert planted not in signed.served()


def test_what_was_withdrawn_is_not_signed_again(signed: Signed) -> None:
    with signing(signed.key).open(signed.shared) as store:
        withdrawn = publish(store, b"first")
        store.delete(withdrawn, force=True)
        kept = publish(store, b"mended")
    with Store.open(signed.shared) as store:
        publish(store, b"first")
    assert signed.served() == [kept]


def test_what_somebody_else_published_is_signed_by_who_records_the_same(signed: Signed) -> None:
    with Store.open(signed.shared) as store:
        bundle = publish(store, b"ours")
    assert signed.served() == []
    with signing(signed.key).open(signed.shared) as store:
        assert publish(store, b"ours") == bundle
    assert signed.served() == [bundle]


def test_what_is_signed_already_is_not_written_again(signed: Signed) -> None:
    with signing(signed.key).open(signed.shared) as store:
        for _ in range(2):
            publish(store, b"ours")
            store.registry_update("c", {("s", "n"): b"ours"})
        with store.snapshot() as snapshot:
            before = snapshot.view.number  # type: ignore[attr-defined]
        publish(store, b"ours")
        store.registry_update("c", {("s", "n"): b"ours"})
        with store.snapshot() as snapshot:
            assert snapshot.view.number == before  # type: ignore[attr-defined]


def test_a_layered_store_signs_as_well(signed: Signed) -> None:
    with Store.open(signed.shared) as store:
        publish(store, b"below", COMPONENTS | {"options": "z"})
        sign_store(store, signed.key)
    with signed.layered(own=SignaturePolicy.REQUIRE, kind=signing(signed.key)) as store:
        bundle = publish(store, b"mine")
        assert store.bundles(RECIPE) == [bundle]
    assert signed.faults == []


@pytest.mark.parametrize("name", ["GITHUB_EVENT_NAME", *PULL_REQUEST])
def test_ci_of_a_pull_request_does_not_write(name: str) -> None:
    told = {name: "pull_request_target" if name.startswith("GITHUB") else "17"}
    assert Settings.read(told).readonly
    assert not Settings.read(told | {"FIREBRICK_RECORD": "1"}).readonly
    assert not Settings.read(told, readonly=False).readonly
    assert not Settings.read({name: "false" if name in PULL_REQUEST else "push"}).readonly


def test_the_variables_of_ci_are_those_that_their_makers_document() -> None:
    assert {*PULL_REQUEST} == {
        "CI_MERGE_REQUEST_IID", "SYSTEM_PULLREQUEST_PULLREQUESTID", "BUILDKITE_PULL_REQUEST",
        "CIRCLE_PULL_REQUEST", "TRAVIS_PULL_REQUEST", "CHANGE_ID", "DRONE_PULL_REQUEST", "BITBUCKET_PR_ID",
    }  # fmt: skip
