"""A data file that somebody else made is verified before LMDB maps it, by an LMDB that is hardened."""

import os
from pathlib import Path

import lmdb.verify
import pytest

from firebrick.errors import StoreDamaged, StoreLocked, StoreUntrusted
from firebrick.storage import lmdb_api
from firebrick.storage.format import Kind
from firebrick.storage.store import Store

PAGE = 4096


@pytest.fixture
def left(tmp_path: Path) -> Path:
    """Leave a store as an archive or a clone leaves it: open to others."""
    path = tmp_path / "store"
    with Store.open(path) as store:
        store.put_many([(Kind.TEXT, os.urandom(600)) for _ in range(200)])
        store.put(Kind.TEXT, os.urandom(20_000))
    (path / "lock.mdb").unlink()
    path.chmod(0o755)
    return path


def twist(path: Path) -> None:
    """Give a page in the middle of the file a lower bound behind its end."""
    with open(path / "data.mdb", "r+b") as file:
        file.seek(10 * PAGE + 12)
        file.write(b"\xff\xff")


BRANCH, LEAF, OVERFLOW = 1, 2, 4  # LMDB's flags of pages
OWN = -1  # the number of the page itself

# What is crafted: kind of page; offset in the page, or in its first node; width; number
CRAFTED = {
    "a lower bound behind the page": (LEAF, 12, 2, 0xFFFF),
    "an upper bound behind the page": (LEAF, 14, 2, 0xFFFF),
    "a pointer behind the page": (LEAF, 16, 2, 0xFFF0),
    "a pointer into the head of the page": (LEAF, 16, 2, 2),
    "a value of 4 GiB": (LEAF, "node", 4, 0xFFFFFFFF),
    "a key of 64 KiB": (LEAF, "key", 2, 0xFFFF),
    "a page below itself": (BRANCH, "node", 4, OWN),
    "a page of no file": (BRANCH, "node", 4, 0xFFFFFFF0),
    "a meta page below": (BRANCH, "node", 4, 0),
    "a pointer of a branch behind the page": (BRANCH, 18, 2, 0xFFF0),
    "a value of 2^31 pages": (OVERFLOW, 12, 4, 1 << 31),
    "another kind of page": (LEAF, 10, 2, OVERFLOW),
    "a page that is being written": (LEAF, 10, 2, LEAF | 0x10),
}


def craft(path: Path, kind: int, place: int | str, width: int, number: int) -> None:
    """Change every page of a kind, as some are free."""
    data = bytearray((path / "data.mdb").read_bytes())
    for page in range(2 * PAGE, len(data), PAGE):
        if int.from_bytes(data[page : page + 8], "little") != page // PAGE or data[page + 10] != kind:
            continue
        node = page + int.from_bytes(data[page + 16 : page + 18], "little")
        at = node if place == "node" else node + 6 if place == "key" else page + int(place)
        data[at : at + width] = (page // PAGE if number == OWN else number).to_bytes(width, "little")
    (path / "data.mdb").write_bytes(data)


@pytest.mark.parametrize("name", CRAFTED)
def test_each_kind_of_crafted_page_is_found_before_lmdb_sees_it(left: Path, name: str, monkeypatch) -> None:
    craft(left, *CRAFTED[name])
    monkeypatch.setattr(lmdb_api, "open_environment", lambda *_, **__: pytest.fail("LMDB opened the file"))
    with pytest.raises(StoreDamaged, match="others may have written it"):
        Store.open(left, readonly=True)


def test_a_sound_file_of_others_is_served(left: Path) -> None:
    with Store.open(left, readonly=True) as store:
        assert store.stat().blobs == 201


def test_crafted_pages_are_found_before_lmdb_sees_them(left: Path, monkeypatch) -> None:
    twist(left)
    monkeypatch.setattr(lmdb_api, "open_environment", lambda *_, **__: pytest.fail("LMDB opened the file"))
    with pytest.raises(StoreDamaged, match="others may have written it"):
        Store.open(left, readonly=True)


def test_an_unhardened_lmdb_does_not_open_a_file_of_others(left: Path, monkeypatch) -> None:
    monkeypatch.setattr(lmdb_api, "is_hardened", lambda: False)
    with pytest.raises(StoreUntrusted):
        Store.open(left, readonly=True)
    left.chmod(0o700)
    Store.open(left, readonly=True).close()  # a private folder is this user's own work


def test_the_wheels_of_py_lmdb_are_hardened() -> None:
    assert lmdb_api.is_hardened()


def test_a_file_exchanged_between_verifying_and_opening_is_not_used(left: Path, monkeypatch) -> None:
    verify = lmdb.verify.verify

    def then_exchange(path: str) -> list[str]:
        found: list[str] = verify(path)
        (left / "new").write_bytes((left / "data.mdb").read_bytes())
        os.replace(left / "new", left / "data.mdb")
        return found

    monkeypatch.setattr(lmdb.verify, "verify", then_exchange)
    with pytest.raises(StoreLocked, match="while it was verified"):
        Store.open(left, readonly=True)


def test_an_own_private_store_is_not_verified_at_each_start(left: Path, monkeypatch) -> None:
    left.chmod(0o700)
    monkeypatch.setattr(lmdb.verify, "verify", lambda path: pytest.fail("verified"))
    Store.open(left, readonly=True).close()
