"""Damage of the tree that LMDB follows: no read of it kills the process, and another file takes its place."""

import os
import random
import signal
from pathlib import Path

import pytest

from firebrick.errors import FirebrickError, StoreDamaged, StoreError
from firebrick.storage import format as fmt
from firebrick.storage import lmdb_api
from firebrick.storage.format import Kind
from firebrick.storage.quarantine import set_aside
from firebrick.storage.store import Store
from support.faults import child, doing
from support.io_trace import in_child

PAGE = 4096
TREE = (1, 2)  # LMDB's flags of branches and leaves


@pytest.fixture
def path(tmp_path: Path) -> Path:
    rng = random.Random(5)
    with Store.open(tmp_path / "store") as store:
        for number in range(30):
            store.put_many([(Kind.TEXT, rng.randbytes(rng.choice((50, 600, 9000)))) for _ in range(20)])
            store.registry_update("context", {("section", str(number)): b"value"})
    return tmp_path / "store"


def read(path: Path) -> int:
    """Read whatever can be read, and count it."""
    found = 0
    try:
        with Store.open(path) as store:
            keys = [info.key for info in store.list()]
            for act in [*(lambda key=key: store.get(key) for key in keys), lambda: store.registry("context")]:
                try:
                    act()
                    found += 1
                except FirebrickError:
                    continue
    except FirebrickError:
        pass
    return found


def pages(data: bytes) -> list[int]:
    """Return the offsets of branches and leaves, free ones among them."""
    return [
        at
        for at in range(2 * PAGE, len(data), PAGE)
        if int.from_bytes(data[at : at + 8], "little") == at // PAGE and data[at + 10] in TREE
    ]


def damage(path: Path, kind: int, offset: int, new: bytes) -> None:
    """Write the same bytes into every page of a kind."""
    data = bytearray((path / fmt.DATA_FILE).read_bytes())
    for at in pages(bytes(data)):
        if data[at + 10] == kind:
            data[at + offset : at + offset + len(new)] = new
    (path / fmt.DATA_FILE).write_bytes(data)


@pytest.mark.parametrize("far", [b"\xf0\xff", b"\xf8\x0f", b"\x00\x80"])
@pytest.mark.parametrize("kind", TREE)
def test_a_pointer_that_leads_out_of_its_page_does_not_kill_a_reader(
    path: Path, kind: int, far: bytes
) -> None:
    for number in range(4):
        damage(path, kind, 16 + 2 * number, far)
        assert in_child(lambda: read(path)) == 0


def margin(path: Path) -> int:
    with Store.open(path, readonly=True) as store:
        return os.stat(path / fmt.DATA_FILE).st_size - store._open.top.map_facts()[1]


def test_there_are_zeros_behind_the_last_page_that_take_no_room(path: Path) -> None:
    assert margin(path) >= fmt.MARGIN_BYTES // 2
    data = os.stat(path / fmt.DATA_FILE)
    assert data.st_blocks * 512 <= data.st_size - fmt.MARGIN_BYTES // 2
    with Store.open(path) as store:
        store.put(Kind.TEXT, os.urandom(3 * fmt.MARGIN_BYTES))
        store.put(Kind.TEXT, os.urandom(fmt.MARGIN_BYTES // 3))
        assert margin(path) >= fmt.MARGIN_BYTES // 2
        store.compact()
    assert margin(path) >= fmt.MARGIN_BYTES // 2
    os.truncate(path / fmt.DATA_FILE, os.stat(path / fmt.DATA_FILE).st_size - margin(path))
    Store.open(path).close()  # as an earlier version left it
    assert margin(path) >= fmt.MARGIN_BYTES // 2


@pytest.mark.parametrize("readonly", [False, True])
def test_a_file_that_becomes_shorter_while_it_is_open_is_read_no_more(path: Path, readonly: bool) -> None:
    with Store.open(path, readonly=readonly) as store:
        keys = [info.key for info in store.list()]
        os.truncate(path / fmt.DATA_FILE, 4 * PAGE)
        with pytest.raises(StoreDamaged, match="made it"):
            store.get(keys[0])


def test_a_sound_file_stays(path: Path) -> None:
    before = read(path)
    assert set_aside(str(path)) == ""
    assert read(path) == before
    assert {file.name for file in path.iterdir()} == {fmt.DATA_FILE, fmt.LOCK_FILE}


def test_a_damaged_file_is_kept_under_another_name_and_an_empty_one_begun(path: Path) -> None:
    damage(path, TREE[1], 12, b"\xff\xff")
    damaged = (path / fmt.DATA_FILE).read_bytes()
    assert set_aside(str(path), most=1) == ""
    assert "page" in set_aside(str(path))
    assert (path / fmt.DAMAGED_FILE).read_bytes() == damaged
    with Store.open(path) as store:
        assert store.check().clean
        assert store.stat().blobs == 0
        store.gc()
    assert not (path / fmt.DAMAGED_FILE).exists()


def test_who_has_the_damaged_file_open_goes_on_to_the_new_one(path: Path) -> None:
    with Store.open(path) as store:
        key = next(iter(store.list())).key
        damage(path, TREE[0], 12, b"\xff\xff")
        assert store.set_aside()
        new = store.put(Kind.TEXT, b"new")
        assert store.has(new)
        assert not store.has(key)


@pytest.mark.parametrize("offset", [24, 4050])
def test_a_branch_that_leads_look_ups_astray_is_damage(path: Path, offset: int) -> None:
    damage(path, TREE[0], offset, bytes(46))
    assert lmdb_api.verify(str(path))
    assert set_aside(str(path))


def test_a_value_that_reaches_into_its_neighbour_is_damage(path: Path) -> None:
    data = bytearray((path / fmt.DATA_FILE).read_bytes())
    for at in pages(bytes(data)):
        nodes = sorted(
            int.from_bytes(data[place : place + 2], "little")
            for place in range(at + 16, at + int.from_bytes(data[at + 12 : at + 14], "little"), 2)
        )
        if data[at + 10] == TREE[1] and len(nodes) > 2:
            data[at + nodes[0]] ^= 0x40
    (path / fmt.DATA_FILE).write_bytes(data)
    assert lmdb_api.verify(str(path))


def test_what_is_no_file_of_lmdb_is_not_touched(path: Path) -> None:
    (path / fmt.DATA_FILE).write_bytes(b"nonsense" * 2000)
    assert set_aside(str(path)) == ""
    assert (path / fmt.DATA_FILE).read_bytes() == b"nonsense" * 2000


def test_a_failure_of_the_system_is_no_damage(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(5, "input/output error")

    before = read(path)
    monkeypatch.setattr("lmdb.verify.verify", fail)
    with pytest.raises(StoreError):
        set_aside(str(path))
    monkeypatch.undo()
    assert read(path) == before


READ = """
store = Store.open(argv[0])
snapshot = store.snapshot()
[*snapshot.list()]
print("ready", flush=True)
signal.pause()
"""


def test_a_file_in_which_a_reader_died_is_verified_before_it_is_used(path: Path) -> None:
    with doing(READ, path):
        pass  # killed
    before = read(path)
    assert before > 100
    with doing(READ, path):
        pass
    damage(path, TREE[1], 12, b"\xff\xff")
    with pytest.raises(StoreDamaged):
        Store.open(path)


def test_a_reader_that_ended_well_leaves_no_doubt(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    process = child("store = Store.open(argv[0])\n[*store.list()]\nstore.close()", path)
    assert process.wait(60) == 0
    process.communicate()
    monkeypatch.setattr(lmdb_api, "_refuse_unsound", lambda *_: pytest.fail("verified"))
    assert read(path) > 100


def test_a_length_that_kills_its_reader_kills_no_second_one(path: Path) -> None:
    data = bytearray((path / fmt.DATA_FILE).read_bytes())
    for at in pages(bytes(data)):  # lengths of values that lie in pages of their own: 3.6 GB
        for place in range(at + 16, at + int.from_bytes(data[at + 12 : at + 14], "little"), 2):
            node = at + int.from_bytes(data[place : place + 2], "little")
            if data[at + 10] == TREE[1] and data[node + 4] & 1:
                data[node + 3] = 215
    (path / fmt.DATA_FILE).write_bytes(data)
    assert in_child(lambda: read(path)) in (0, -signal.SIGBUS)
    assert in_child(lambda: read(path)) == 0
    with pytest.raises(StoreDamaged):
        Store.open(path)
    assert set_aside(str(path))
    assert read(path) == 1
