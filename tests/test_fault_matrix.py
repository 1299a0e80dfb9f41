"""Every fault of the storage against opening and putting, publishing, and reading.

Each meeting ends in the right result or in an error of the tree, and the store is whole afterwards.
"""

import contextlib
import errno
import fcntl
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import lmdb
import pytest

from firebrick.errors import (
    DamagedError,
    FirebrickError,
    StoreDamaged,
    StoreError,
    StoreFull,
    StoreLocked,
    StoreNotFound,
    StorePermissionError,
    StoreReadOnly,
)
from firebrick.storage import format as fmt
from firebrick.storage import lmdb_api
from firebrick.storage.format import Kind
from firebrick.storage.keys import recipe_key
from firebrick.storage.store import Blob, Store
from support.faults import (
    HOLD_BYTE,
    HOLD_MUTEX,
    child,
    doing,
    exchange_after_check,
    fill,
    mounted,
    output,
    small_disk,
    sparse_lock,
    unwritable,
    without_proc,
)

COMPONENTS = {"function": "f", "platform": "here"}
RECIPE = recipe_key(COMPONENTS)
OLD = Blob(Kind.TENSOR, b"old" * 5000)
NEW = Blob(Kind.TENSOR, b"new" * 5000)
FIRST = Blob(Kind.BUNDLE, b"first")
SECOND = Blob(Kind.BUNDLE, b"second")
READERS_MUTEX = 8  # its place in LMDB's lock file

Fault = Callable[[Path, pytest.MonkeyPatch], contextlib.AbstractContextManager[Path]]


def publish(path: Path, manifest: Blob, part: Blob) -> object:
    with Store.open(path) as store:
        return store.publish(RECIPE, COMPONENTS, manifest, [part.key], [part])


def put(path: Path) -> object:
    with Store.open(path) as store:
        return store.get(store.put(*NEW)).data == NEW.data


def publish_new(path: Path) -> object:
    return publish(path, SECOND, NEW)


def read(path: Path) -> object:
    with Store.open(path) as store:
        return (
            store.bundles(RECIPE) == [FIRST.key]
            and store.components(RECIPE) == COMPONENTS
            and store.parts(FIRST.key) == [OLD.key]
            and store.get(OLD.key).data == OLD.data
            and store.registry("context") == {("section", "name"): b"value"}
        )


def filled(path: Path) -> Path:
    publish(path, FIRST, OLD)
    with Store.open(path) as store:
        store.registry_update("context", {("section", "name"): b"value"})
    return path


# -- the faults: each fills a store somewhere, does its harm, and gives the path


@contextlib.contextmanager
def nothing(path: Path, _: pytest.MonkeyPatch) -> Iterator[Path]:
    yield filled(path)


def full_disk(kind: str, lock: str) -> Fault:
    @contextlib.contextmanager
    def fault(path: Path, _: pytest.MonkeyPatch) -> Iterator[Path]:
        with small_disk(path.parent, kind) as disk:
            filled(disk / "store")
            if lock == "gone":
                (disk / "store" / fmt.LOCK_FILE).unlink()
            if lock == "sparse":
                sparse_lock(disk / "store")
            fill(disk)
            yield disk / "store"

    return fault


@contextlib.contextmanager
def no_room_for_the_lock(path: Path, patch: pytest.MonkeyPatch) -> Iterator[Path]:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSPC, "no space")

    filled(path)
    (path / fmt.LOCK_FILE).unlink()
    patch.setattr(os, "posix_fallocate", refuse)
    yield path


@contextlib.contextmanager
def no_room_at_the_commit(path: Path, patch: pytest.MonkeyPatch) -> Iterator[Path]:
    real = lmdb_api.begin

    class Full:
        def __init__(self, raw: Any) -> None:
            self._raw = raw

        def __getattr__(self, name: str) -> Any:
            return getattr(self._raw, name)

        def commit(self) -> None:
            self._raw.abort()
            raise lmdb.DiskError("mdb_txn_commit", errno.ENOSPC)

    def begin(env: lmdb.Environment, *, write: bool) -> Any:
        raw = real(env, write=write)
        return Full(raw) if write else raw

    filled(path)
    patch.setattr(lmdb.DiskError, "code", errno.ENOSPC, raising=False)
    patch.setattr(lmdb_api, "begin", begin)
    yield path


@contextlib.contextmanager
def grown_by_others(path: Path, patch: pytest.MonkeyPatch) -> Iterator[Path]:
    code = "Store.open(argv[0]).put(Kind.TENSOR, os.urandom(1 << 20))"
    real, todo = lmdb_api.begin, [1, 1]

    def begin(env: lmdb.Environment, *, write: bool) -> Any:
        if todo and not write:
            todo.pop()
            output(child(code, path))
        return real(env, write=write)

    with Store.open(path, map_size=1 << 16):
        pass
    filled(path)
    patch.setattr(lmdb_api, "_map_sizes", lambda wanted, used: [-(-used // 65536) * 65536])
    patch.setattr(lmdb_api, "begin", begin)
    yield path


@contextlib.contextmanager
def odd_name(path: Path, _: pytest.MonkeyPatch) -> Iterator[Path]:
    yield filled(Path(os.fsdecode(os.fsencode(path) + b"\xff")))


@contextlib.contextmanager
def no_proc(path: Path, patch: pytest.MonkeyPatch) -> Iterator[Path]:
    without_proc(patch)
    yield filled(path)


def stopped(code: str, *args: object) -> Fault:
    @contextlib.contextmanager
    def fault(path: Path, patch: pytest.MonkeyPatch) -> Iterator[Path]:
        filled(path)
        patch.setattr(fmt, "LMDB_TIMEOUT_S", 0.05)
        with doing(code, path, *args):
            yield path

    return fault


@contextlib.contextmanager
def stopped_writer(path: Path, patch: pytest.MonkeyPatch) -> Iterator[Path]:
    code = "fd = os.open(argv[0] + '/data.mdb', os.O_RDONLY)\nfcntl.flock(fd, fcntl.LOCK_EX)\n"
    code += "print('ready', flush=True)\nos.kill(os.getpid(), signal.SIGSTOP)\n"
    filled(path)
    patch.setattr(fmt, "OPEN_TIMEOUT_S", 0.05)
    patch.setattr(
        "firebrick.storage.environment.Engine.write.__kwdefaults__", {"durable": True, "timeout": 0.05}
    )
    with doing(code, path):
        yield path


@contextlib.contextmanager
def exchanged(path: Path, patch: pytest.MonkeyPatch) -> Iterator[Path]:
    other = path.with_name("other")
    Store.open(other).close()
    exchange_after_check(filled(path), other, patch)
    yield path


@contextlib.contextmanager
def exchanged_without_proc(path: Path, patch: pytest.MonkeyPatch) -> Iterator[Path]:
    without_proc(patch)
    with exchanged(path, patch):
        yield path


@contextlib.contextmanager
def read_only(path: Path, patch: pytest.MonkeyPatch) -> Iterator[Path]:
    filled(path)
    unwritable(patch)
    yield path


@contextlib.contextmanager
def read_only_mount(path: Path, _: pytest.MonkeyPatch) -> Iterator[Path]:
    with mounted(path.parent / "disk", "-t", "tmpfs", "none") as disk:
        filled(disk / "store")
        assert os.system(f"mount -o remount,ro '{disk}'") == 0
        yield disk / "store"


@contextlib.contextmanager
def no_locks_left(path: Path, patch: pytest.MonkeyPatch) -> Iterator[Path]:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "no locks available")

    filled(path)
    patch.setattr(fcntl, "lockf", refuse)
    yield path


@contextlib.contextmanager
def cut(path: Path, _: pytest.MonkeyPatch) -> Iterator[Path]:
    filled(path)
    os.truncate(path / fmt.DATA_FILE, 3 * 4096)
    yield path


def flipped(before: bytes, key: bytes) -> Fault:
    """Flip a bit of a key, wherever it stands behind some bytes."""

    @contextlib.contextmanager
    def fault(path: Path, _: pytest.MonkeyPatch) -> Iterator[Path]:
        filled(path)
        data = (path / fmt.DATA_FILE).read_bytes()
        changed = bytes([key[0] ^ 1]) + key[1:]
        (path / fmt.DATA_FILE).write_bytes(data.replace(before + key, before + changed))
        yield path

    return fault


@contextlib.contextmanager
def clock_before_1970(path: Path, patch: pytest.MonkeyPatch) -> Iterator[Path]:
    patch.setattr("time.time", lambda: -1e6)
    with Store.open(filled(path)) as store:
        assert store.touch(OLD.key)
    yield path


# What becomes of opening and putting, of publishing, and of reading: None if it goes well.
Outcome = type[FirebrickError] | None
MATRIX: dict[str, tuple[Fault, Outcome, Outcome, Outcome]] = {
    "nothing": (nothing, None, None, None),
    "full tmpfs": (full_disk("tmpfs", "there"), StoreFull, StoreFull, None),
    "full tmpfs, no lock file": (full_disk("tmpfs", "gone"), StoreFull, StoreFull, StoreFull),
    "full tmpfs, sparse lock file": (full_disk("tmpfs", "sparse"), StoreFull, StoreFull, StoreFull),
    "full ext4": (full_disk("ext4", "there"), StoreFull, StoreFull, None),
    "full ext4, sparse lock file": (full_disk("ext4", "sparse"), StoreFull, StoreFull, StoreFull),
    "no room for the lock file": (no_room_for_the_lock, StoreFull, StoreFull, StoreFull),
    "no room at the commit": (no_room_at_the_commit, StoreFull, StoreFull, None),
    "a map that others let grow": (grown_by_others, None, None, None),
    "a name that is no text": (odd_name, None, None, None),
    "no /proc": (no_proc, None, None, None),
    "stopped while it opens": (stopped(HOLD_BYTE), StoreLocked, StoreLocked, StoreLocked),
    "stopped inside LMDB": (stopped(HOLD_MUTEX, READERS_MUTEX), StoreLocked, StoreLocked, StoreLocked),
    "a stopped writer": (stopped_writer, StoreLocked, StoreLocked, None),
    "exchanged": (exchanged, StoreNotFound, StoreNotFound, None),
    "exchanged, no /proc": (exchanged_without_proc, *[StorePermissionError] * 3),
    "read-only": (read_only, StoreReadOnly, StoreReadOnly, StoreReadOnly),
    "read-only mount": (read_only_mount, StoreReadOnly, StoreReadOnly, StoreReadOnly),
    "no locks left": (no_locks_left, StoreError, StoreError, StoreError),
    "cut": (cut, StoreDamaged, StoreDamaged, StoreDamaged),
    "another key of the bundle": (flipped(RECIPE, FIRST.key), None, None, DamagedError),
    "another key of the part": (flipped(b"first", OLD.key), None, None, DamagedError),
    "another key of the recipe": (flipped(b"", RECIPE), None, None, None),
    "a clock before 1970": (clock_before_1970, None, None, None),
}
ACTS: list[Callable[[Path], object]] = [put, publish_new, read]


@pytest.mark.parametrize("act", ACTS, ids=["put", "publish", "read"])
@pytest.mark.parametrize("name", MATRIX)
def test_a_fault_ends_in_the_right_result_or_in_an_error_of_the_tree(
    name: str, act: Callable[[Path], object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fault, *outcomes = MATRIX[name]
    expected = outcomes[ACTS.index(act)]
    with fault(tmp_path / "store", monkeypatch) as path:
        if expected is None:
            result = act(path)
            assert result or name == "another key of the recipe"
        else:
            with pytest.raises(expected) as caught:
                act(path)
            assert type(caught.value) is expected
    monkeypatch.undo()
    if path.exists() and not name.startswith(("another", "cut")):
        with Store.open(path.with_name("away") if name.startswith("exchanged") else path) as store:
            assert store.check().clean
            assert store.bundles(RECIPE)
