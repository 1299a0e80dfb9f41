"""A pack of somebody else is believed as a whole, or not opened; and nothing in it leads outside."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from firebrick.errors import StoreDamaged
from firebrick.storage.msgpack import pack as packed
from firebrick.storage.msgpack import unpack
from firebrick.storage.pack import HEADER, MAGIC, Pack, index_digest
from firebrick.storage.seal import add_seal, seal
from firebrick.storage.store import Store
from firebrick.trust.signing import sealer
from firebrick.trust.signing_keys import SecretKey
from support.signed import NOW, RECIPE, Signed, publish


@pytest.fixture
def signed(tmp_path: Path) -> Signed:
    made = Signed(tmp_path)
    make(made, b"ours", made.shared)
    return made


def make(signed: Signed, text: bytes, path: Path, key: SecretKey | None = None, now: int = NOW) -> None:
    """Seal a bundle into a pack."""
    with Store.open(signed.root / f"made-{path.name}") as store:
        publish(store, text)
        seal(store, path, sign=sealer(key or signed.key, now=now))


def rewrite(path: Path, change: Callable[[Any], object]) -> None:
    """Change the index of a pack and recompute its digest, as an attacker does."""
    data = path.read_bytes()
    _, version, flags, place, length, _ = HEADER.unpack_from(data)
    index = unpack(data[place : place + length])
    change(index)
    new = packed(index)
    head = HEADER.pack(MAGIC, version, flags, place, len(new), index_digest(new))
    path.chmod(0o600)
    path.write_bytes(head + data[HEADER.size : place] + new + data[place + length :])


def test_a_signed_pack_serves_whoever_owns_it(signed: Signed) -> None:
    signed.shared.chmod(0o666)
    assert len(signed.served()) == 1
    assert signed.faults == []


@pytest.mark.parametrize("key", ["none", "other", "named"])
def test_a_pack_without_a_trusted_seal_is_not_opened(signed: Signed, key: str) -> None:
    evil = signed.root / "evil"
    make(signed, b"evil", evil, SecretKey.generate("ours"))
    if key == "none":
        data = evil.read_bytes()
        evil.chmod(0o600)
        _, _, _, place, length, _ = HEADER.unpack_from(data)
        evil.write_bytes(data[: place + length])
    if key == "named":
        add_seal(
            evil, lambda digest: sealer(SecretKey.generate("x"))(digest)._replace(key_id=signed.key.public.id)
        )
    assert signed.served(evil) == []
    assert "is not trusted" in signed.why()


def test_the_seal_of_one_pack_does_not_fit_another(signed: Signed) -> None:
    evil = signed.root / "evil"
    make(signed, b"evil", evil, SecretKey.generate("x"))
    ours = Pack.open(signed.shared)
    add_seal(evil, lambda digest: ours.seals[0])
    assert signed.served(evil) == []
    assert "not made with ours" in signed.why()


def test_an_older_pack_in_the_place_of_a_newer_one_is_not_believed(signed: Signed) -> None:
    older, newer = signed.root / "older", signed.root / "newer"
    shutil.copy(signed.shared, older)
    make(signed, b"mended", newer, now=NOW + 1)
    signed.shared.unlink()
    shutil.copy(newer, signed.shared)
    assert len(signed.served()) == 1
    signed.shared.unlink()
    shutil.copy(older, signed.shared)
    assert signed.served() == []
    assert "older than one that was met before" in signed.why()
    assert len(signed.served(older)) == 1  # in its own place it is


def test_a_changed_index_no_longer_has_its_seal(signed: Signed) -> None:
    rewrite(signed.shared, lambda index: index[0].update(annotations={"changed": "yes"}))
    assert signed.served() == []
    assert "not made with ours" in signed.why()


def test_values_cannot_be_exchanged_behind_the_index(signed: Signed) -> None:
    signed.shared.chmod(0o600)
    data = signed.shared.read_bytes()
    with signed.layered() as store:
        (bundle,) = store.bundles(RECIPE)
        signed.shared.write_bytes(data.replace(b"ours", b"evil"))
        with pytest.raises(Exception, match="digest is"):
            store.get(store.parts(bundle)[0])


def longer(index: Any) -> None:
    index[1]["blobs"][1][0] += 10


def negative(index: Any) -> None:
    index[1]["blobs"][1] = [-1]


def shuffled(index: Any) -> None:
    index[1]["meta"] = [[b"b", b"a"], [b"", b""]]


def twice(index: Any) -> None:
    index[1]["meta"] = [[b"a", b"a"], [b"", b""]]


def uneven(index: Any) -> None:
    index[1]["blobs"][0].append(b"\xff" * 32)


def foreign(index: Any) -> None:
    index[1]["../../etc"] = [[], []]


def lacking(index: Any) -> None:
    del index[1]["blobs"]


def typed(index: Any) -> None:
    index[1]["recipes"] = [[b"x"], [7]]


def floating(index: Any) -> None:
    index[1]["blobs"][1] = [float("inf")]


@pytest.mark.parametrize(
    "change", [longer, negative, shuffled, twice, uneven, foreign, lacking, typed, floating, list.clear]
)
def test_an_index_that_overlaps_or_has_another_form_is_refused(signed: Signed, change: Any) -> None:
    rewrite(signed.shared, change)
    with pytest.raises(StoreDamaged):
        Pack.open(signed.shared)


def test_a_pack_that_says_it_is_huge_allocates_nothing(signed: Signed) -> None:
    data = bytearray(signed.shared.read_bytes())
    signed.shared.chmod(0o600)
    for place, length in (1 << 62, 1 << 62), (64, 1 << 29), (0, 10), ((1 << 64) - 1, 1):
        HEADER.pack_into(data, 0, MAGIC, 1, 0, place, length, bytes(32))
        signed.shared.write_bytes(data)
        with pytest.raises(StoreDamaged):
            Pack.open(signed.shared)
