"""A store's file is made smaller while others have it open, and whoever dies on the way loses nothing."""

import fcntl
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from firebrick.errors import StoreLocked, StoreNotFound
from firebrick.storage import format as fmt
from firebrick.storage.directory import Place, prepare
from firebrick.storage.format import Kind
from firebrick.storage.store import Blob, Store
from firebrick.storage.swap import opening

KEPT = [Blob(Kind.TENSOR, b"%d" % i * 2000) for i in range(10)]
GONE = [Blob(Kind.TENSOR, b"x%d" % i * 2000) for i in range(300)]

CHILD = """
import sys
from firebrick.storage import format as fmt
from firebrick.storage.format import Kind
from firebrick.storage.store import Store
fmt.LOOK_PERIOD_S = 0.0
with Store.open(sys.argv[1], durable=False) as store:
    for line in sys.stdin:
        if line.strip():
            store.put(Kind.TEXT, line.encode())
        print(len([*store.list()]), store._open._identity[1], flush=True)
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "store"
    with Store.open(path, durable=False) as store:
        store.put_many([*KEPT, *GONE])
        for blob in GONE:
            store.delete(blob.key)
    return path


@pytest.fixture
def other(path: Path) -> Iterator["Other"]:
    other = Other(path)
    yield other
    assert other.end() == 0


class Other:
    """Another process that has the store open."""

    def __init__(self, path: Path) -> None:
        command = [sys.executable, "-c", CHILD, str(path)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.ask()

    def ask(self, put: str = "") -> tuple[int, int]:
        """Let it put a text, if there is one, and tell how many blobs it sees and in which file."""
        assert self._process.stdin and self._process.stdout
        print(put, file=self._process.stdin, flush=True)
        blobs, inode = self._process.stdout.readline().split()
        return int(blobs), int(inode)

    def end(self) -> int:
        self._process.communicate(timeout=60)
        return self._process.returncode


def inode(path: Path) -> int:
    return os.stat(path / fmt.DATA_FILE).st_ino


def test_a_file_gets_as_small_as_what_is_in_it(path: Path) -> None:
    with Store.open(path, durable=False) as store:
        before, first = store.stat().bytes_on_disk, inode(path)
        freed = store.compact()
        assert inode(path) != first
        assert 0 < before - freed == store.stat().bytes_on_disk < before // 5
        assert all(store.get(blob.key).data == blob.data for blob in KEPT)
        assert store.check().clean
        assert sorted(os.listdir(path)) == [fmt.DATA_FILE, fmt.LOCK_FILE]


def test_others_go_on_to_the_new_file_when_they_read(path: Path, other: Other) -> None:
    with Store.open(path, durable=False) as store:
        store.compact()
        assert other.ask() == (10, inode(path))


def test_others_go_on_to_the_new_file_when_they_write(path: Path, other: Other) -> None:
    with Store.open(path, durable=False) as store:
        store.compact()
        assert other.ask("from another") == (11, inode(path))
        assert store.has(Blob(Kind.TEXT, b"from another\n").key)
        store.compact()
        store.put(Kind.TEXT, b"from here")
        assert other.ask() == (12, inode(path))
        assert store.check().clean


def test_a_snapshot_goes_on_to_see_the_old_file(path: Path) -> None:
    with Store.open(path, durable=False) as store, store.snapshot() as snapshot:
        views = [snapshot.get(blob.key).data for blob in KEPT]
        code = f"from firebrick.storage.store import Store\nStore.open({str(path)!r}).compact()"
        subprocess.run([sys.executable, "-c", code], check=True)
        assert [bytes(view) for view in views] == [blob.data for blob in KEPT]
        del views


def test_a_store_that_is_opened_again_after_others_compacted_it_is_the_new_one(path: Path) -> None:
    with Store.open(path, durable=False) as store:
        code = f"from firebrick.storage.store import Store\nStore.open({str(path)!r}).compact()"
        subprocess.run([sys.executable, "-c", code], check=True)
        with Store.open(path, durable=False) as again:
            assert again._open is store._open
            again.put(Kind.TEXT, b"new")
            assert store.has(Blob(Kind.TEXT, b"new").key)


def test_a_write_that_overtakes_the_copy_is_in_it(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Store.open(path, durable=False) as store:
        engine, copies = store._writable, list[int]()
        copy = engine.copy

        def copied(fd: int) -> None:
            copy(fd)
            copies.append(fd)
            if len(copies) == 1:
                store.put(Kind.TEXT, b"meanwhile")

        monkeypatch.setattr(engine, "copy", copied)
        store.compact()
        assert len(copies) == 2
        assert store.has(Blob(Kind.TEXT, b"meanwhile").key)


class Dies(BaseException):
    """Stands for the end of the process."""


@pytest.mark.parametrize("step", range(5))
def test_a_swap_that_is_cut_off_is_undone_or_finished(
    path: Path, other: Other, step: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = list[str]()

    def dying(name: str) -> None:
        real = getattr(Place, name)

        def do(place: Place, *names: str) -> None:
            if names != (fmt.COPY_FILE,):
                if len(steps) == step:
                    raise Dies
                steps.append(name)
            real(place, *names)

        monkeypatch.setattr(Place, name, do)

    for name in "rename", "flush", "unlink":
        dying(name)
    first = inode(path)
    with Store.open(path, durable=False) as store:
        with pytest.raises(Dies):
            store.compact()
        monkeypatch.undo()
        monkeypatch.setattr(fmt, "LOOK_PERIOD_S", 0.0)
        assert other.ask("written after it") == (11, inode(path))
        assert (inode(path) == first) == (step == 0)
        assert store.has(Blob(Kind.TEXT, b"written after it\n").key)
    with Store.open(path, durable=False) as store:
        assert len([*store.list()]) == 11
        assert store.check().clean
        store.gc()
        assert sorted(os.listdir(path)) == [fmt.DATA_FILE, fmt.LOCK_FILE]


def test_a_store_whose_file_was_removed_is_not_followed(path: Path) -> None:
    with Store.open(path, durable=False) as store:
        os.unlink(path / fmt.DATA_FILE)
        with pytest.raises(StoreNotFound):
            store.put(Kind.TEXT, b"x")


def test_who_opens_a_store_waits_for_who_swaps_its_files(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fmt, "LMDB_TIMEOUT_S", 0.05)
    with (
        Store.open(path, durable=False) as store,
        prepare(path, readonly=False, create=False) as place,
        opening(place),
        pytest.raises(StoreLocked, match="swaps"),
    ):
        store.compact()
    folder = os.open(path, os.O_RDONLY)
    fcntl.flock(folder, fcntl.LOCK_EX)
    with pytest.raises(StoreLocked, match="swaps"):
        Store.open(path)
    os.close(folder)


def test_a_store_above_its_limit_is_evicted_and_compacted_to_it(path: Path) -> None:
    limit = 2 << 20
    with Store.open(path, durable=False) as store:
        store.put_many(Blob(Kind.TENSOR, b"y%d" % i * 3000) for i in range(300))
        assert store.stat().bytes_on_disk > limit
        for info in store.list():
            store.delete(info.key)
        store.gc(grace=0)
    with Store.open(path, durable=False, max_bytes=limit) as store:
        store.put(Kind.TEXT, b"new")
        assert store.stat().bytes_on_disk <= limit
        assert store.stat().map_size <= limit
