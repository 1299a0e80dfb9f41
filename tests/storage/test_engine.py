"""The engine: one environment per file, growth, locks, forks, and where no store may live."""

import contextlib
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import lmdb
import pytest

from firebrick.errors import (
    NetworkFilesystemError,
    StoreClosed,
    StoreError,
    StoreFull,
    StoreLocked,
    StoreNotFound,
    StorePermissionError,
    StoreReadOnly,
    StoreVersionError,
    UsageError,
)
from firebrick.storage import directory, shared_environment
from firebrick.storage import format as fmt
from firebrick.storage.format import Kind
from firebrick.storage.remap_lock import RemapLock
from firebrick.storage.store import Blob, Store

MIB = 1 << 20
BYTES = os.urandom(MIB)
BIG = Blob(Kind.TENSOR, BYTES)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def store(path: Path) -> Iterator[Store]:
    with Store.open(path) as store:
        yield store


def child(code: str, *args: object) -> subprocess.Popen[str]:
    """Start Python with these lines, the names of the store's module, and `args` in `argv`."""
    head = "import os, signal, sys\nargv = sys.argv[1:]\n"
    modules = ("storage.store", "storage.format", "errors")
    head += "".join(f"from firebrick.{name} import *\n" for name in modules)
    return subprocess.Popen(
        [sys.executable, "-c", head + code, *map(str, args)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen[str]) -> str:
    """Wait for a child and return what it printed."""
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    return out.strip()


def forked(action: Callable[[], object]) -> int:
    """Run `action` in a forked child and return its exit status, 0 if it did not raise."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forks with threads
        pid = os.fork()
    if not pid:
        status = 1
        try:
            action()
            status = 0
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


# -- one environment per file


def test_stores_of_a_directory_share_an_environment(path: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    with Store.open(path) as one, Store.open(tmp_path / "link" / "store") as two:
        shared = one._open
        assert one._open is two._open
        key = one.put(Kind.TEXT, b"x")
        one.close()
        assert two.get(key).data == b"x"
        with pytest.raises(StoreClosed):
            one.get(key)
    assert shared not in shared_environment._engines.values()


def test_a_store_for_reading_becomes_one_for_writing_with_another(path: Path) -> None:
    with Store.open(path) as store:
        key = store.put(Kind.TEXT, b"x")
    with Store.open(path, readonly=True) as reading, Store.open(path) as writing:
        assert reading._open is writing._open
        writing.put(Kind.TEXT, b"y")
        assert reading.get(key).data == b"x"
        with pytest.raises(StoreReadOnly):
            reading.put(Kind.TEXT, b"z")


def test_an_open_snapshot_keeps_a_reading_environment_as_it_is(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fmt, "LOCK_TIMEOUT_S", 0.05)
    Store.open(path).close()
    with Store.open(path, readonly=True) as store, store.snapshot(), pytest.raises(StoreLocked):
        Store.open(path)


def test_a_directory_made_anew_is_another_store(path: Path) -> None:
    with Store.open(path) as old:
        key = old.put(Kind.TEXT, b"x")
        os.rename(path, path.with_name("away"))
        with pytest.raises(StoreNotFound):
            old.put(Kind.TEXT, b"y")
        with Store.open(path) as new:
            assert not new.has(key)
            assert old.get(key).data == b"x"
            with pytest.raises(StoreNotFound):
                old.put(Kind.TEXT, b"y")


def test_an_environment_that_others_opened_is_respected(path: Path) -> None:
    Store.open(path).close()
    with lmdb.Environment(str(path)), pytest.raises(StoreLocked):
        Store.open(path)
    Store.open(path).close()


def test_processes_may_create_a_store_at_the_same_time(path: Path) -> None:
    children = [
        child("s = Store.open(argv[0])\ns.put(Kind.TEXT, argv[1].encode())\n", path, i) for i in range(4)
    ]
    for process in children:
        finish(process)
    with Store.open(path) as store:
        assert sorted(bytes(store.get(info.key).data) for info in store.list()) == [
            b"0",
            b"1",
            b"2",
            b"3",
        ]


# -- reading without a trace


def test_reading_leaves_no_trace(path: Path) -> None:
    with Store.open(path) as store:
        key = store.put(*BIG)
    os.remove(path / fmt.LOCK_FILE)
    os.chmod(path, 0o500)

    def state() -> list[object]:
        names = [path, *sorted(path.iterdir())]
        return [(name, *(getattr(name.stat(), f"st_{x}") for x in FIELDS)) for name in names]

    before = state()
    with Store.open(path, readonly=True) as store:
        assert store.get(key).data == BIG.data
        with store.snapshot() as snapshot:
            assert snapshot.get(key).data == BIG.data
        store.touch(key)
        assert store.check().clean
        assert store.stat().blobs == 1
    assert state() == before
    os.chmod(path, 0o700)


FIELDS = ("mode", "ino", "nlink", "uid", "size", "mtime_ns", "ctime_ns")


@pytest.mark.parametrize("options", [{"readonly": True}, {"create": False}])
def test_a_store_that_is_not_there_is_not_made(path: Path, options: dict[str, bool]) -> None:
    with pytest.raises(StoreNotFound):
        Store.open(path, **options)
    assert not path.exists()
    path.mkdir(0o700)
    with pytest.raises(StoreNotFound):
        Store.open(path, **options)
    assert not list(path.iterdir())


def test_a_reader_without_a_lock_notices_writers(path: Path) -> None:
    with Store.open(path) as store:
        key = store.put(Kind.TEXT, b"x")
    write = "for i in range(int(argv[1])): s.put(Kind.TEXT, os.urandom(100))\n"
    with Store.open(path, readonly=True) as store:
        with store.snapshot() as snapshot:
            finish(child("s = Store.open(argv[0])\n" + write, path, 1))
            assert snapshot.get(key).data == b"x"
        with pytest.raises(StoreLocked), store.snapshot() as snapshot:
            finish(child("s = Store.open(argv[0])\n" + write, path, 2))
            snapshot.get(key)
        assert store.get(key).data == b"x"


# -- growth


def test_a_full_map_grows(path: Path) -> None:
    with Store.open(path, map_size=1 << 16) as store:
        assert store.stat().map_size == 1 << 16
        keys = store.put_many([BIG, Blob(Kind.TEXT, b"x"), Blob(Kind.TENSOR, BYTES * 2)])
        assert [store.get(key).data for key in keys] == [BIG.data, b"x", BYTES * 2]
        assert store.stat().map_size >= 3 * MIB
        assert store.check().clean


def test_growth_is_seen_by_processes_with_the_store_open(path: Path) -> None:
    code = """
s = Store.open(argv[0], map_size=1 << 16)
print("ready", flush=True)
for line in sys.stdin:
    print(s.get(bytes.fromhex(line)).data[:5].decode(), flush=True)
    s.put(Kind.TENSOR, line.encode() * 1000)
"""
    with Store.open(path, map_size=1 << 16) as store:
        process = child(code, path)
        assert process.stdin
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
        for i in range(5):
            key = store.put(Kind.TENSOR, b"big %d" % i * (MIB // 5))
            process.stdin.write(key.hex() + "\n")
            process.stdin.flush()
            assert process.stdout.readline() == f"big {i}\n"
            assert store.put(Kind.TENSOR, (key.hex() + "\n").encode() * 1000)
        finish(process)
        assert store.stat().blobs == 10
        assert store.check().clean


def test_a_map_does_not_grow_under_a_snapshot(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fmt, "GROW_TIMEOUT_S", 0.05)
    with Store.open(path, map_size=1 << 20) as store:
        small = store.put(Kind.TENSOR, b"x" * 10000)
        with store.snapshot() as snapshot:
            view = snapshot.get(small).data
            with pytest.raises(StoreFull):  # the same thread
                store.put(*BIG)
            done: list[type[BaseException]] = []

            def put() -> None:
                with contextlib.suppress(StoreError):
                    store.put(*BIG)
                    return
                done.append(StoreFull)

            thread = threading.Thread(target=put)
            thread.start()
            thread.join()
            assert done == [StoreFull]
            assert view == b"x" * 10000
            assert store.put(Kind.TEXT, b"fits")
        assert store.get(store.put(*BIG)).data == BIG.data


def test_a_view_in_use_keeps_the_map_in_place(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fmt, "GROW_TIMEOUT_S", 0.05)
    with Store.open(path, map_size=1 << 20) as store:
        key = store.put(Kind.TENSOR, b"x" * 10000)
        snapshot = store.snapshot()
        held = pickle.PickleBuffer(snapshot.get(key).data)
        with pytest.raises(UsageError):
            snapshot.close()
        with pytest.raises(StoreFull):
            store.put(*BIG)
        assert bytes(held) == b"x" * 10000
    held.release()


def test_growth_stops_where_address_space_ends(path: Path) -> None:
    code = """
import resource
resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))
s = Store.open(argv[0])
assert s.stat().map_size == MIN_MAP_SIZE, s.stat()
s.put(Kind.TEXT, b"before")
try:
    s._open._resize(1 << 40)
except StoreFull as error:
    print(type(error).__name__)
assert s.put(Kind.TEXT, b"after") and len(list(s.list())) == 2
assert s.check().clean
"""
    assert finish(child(code, path)) == "StoreFull"


def test_the_map_is_virtual(store: Store) -> None:
    assert store.stat().map_size == fmt.MAP_SIZE
    assert store.stat().bytes_on_disk < MIB


def test_a_smaller_map_does_where_a_large_one_is_not_to_be_had(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fmt, "MAP_SIZE", 1 << 60)
    monkeypatch.setattr(fmt, "SMALL_MAP_SIZES", (1 << 59, 1 << 30))
    with Store.open(path) as store:
        assert store.stat().map_size == 1 << 30
        assert store.put(Kind.TEXT, b"x")


@pytest.mark.parametrize("size", [0, -1, 65535])
def test_a_tiny_map_is_refused(path: Path, size: int) -> None:
    with pytest.raises(UsageError):
        Store.open(path, map_size=size)


# -- a full disk


def test_a_full_disk_loses_nothing(path: Path) -> None:
    code = """
import resource
s = Store.open(argv[0])
key = s.put(Kind.TEXT, b"before")
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, resource.RLIM_INFINITY))
for _ in range(3):
    try:
        s.put(Kind.TENSOR, os.urandom(4 << 20))
    except StoreFull as error:
        print(type(error).__name__)
assert s.get(key).data == b"before"
s.put(Kind.TEXT, b"small")
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
s.put(Kind.TENSOR, bytes(4 << 20))
assert s.check().clean and s.stat().blobs == 3
"""
    assert finish(child(code, path)).split() == ["StoreFull"] * 3


# -- locks

DIE_READING = "s = Store.open(argv[0]).snapshot()\nos.kill(os.getpid(), signal.SIGKILL)"

HOLD = """
s = Store.open(argv[0])
def body(txn):
    txn.put("blobs", b"k" * 32, b"never committed")
    print("held", flush=True)
    sys.stdin.readline()
    os.kill(os.getpid(), getattr(signal, argv[1]))
s._open.write(body)
"""


def hold(path: Path, name: str) -> subprocess.Popen[str]:
    """Start a process that holds the write lock until it is sent a line, and then kills itself."""
    process = child(HOLD, path, name)
    assert process.stdout
    assert process.stdout.readline() == "held\n"
    return process


def test_waiting_for_a_writer_has_an_end(store: Store, path: Path) -> None:
    process = hold(path, "SIGKILL")
    start = time.monotonic()
    with pytest.raises(StoreLocked):
        store._open.write(lambda txn: None, timeout=0.2)
    assert 0.1 < time.monotonic() - start < 5
    assert list(store.list()) == []  # readers do not wait
    process.communicate("\n", timeout=60)
    assert process.returncode == -signal.SIGKILL
    key = store.put(Kind.TEXT, b"after")  # the lock died with its owner
    assert [info.key for info in store.list()] == [key]
    assert store.check().clean


def test_a_stopped_writer_does_not_stop_others_for_ever(store: Store, path: Path) -> None:
    process = hold(path, "SIGSTOP")
    process.send_signal(signal.SIGSTOP)
    with pytest.raises(StoreLocked):
        store._open.write(lambda txn: None, timeout=0.1)
    process.kill()
    process.communicate()
    assert store.put(Kind.TEXT, b"after")


def test_a_store_can_be_opened_and_read_while_a_writer_is_stopped(path: Path) -> None:
    with Store.open(path) as store:
        key = store.put(Kind.TEXT, b"x")
    process = hold(path, "SIGKILL")
    with Store.open(path) as store:
        assert store.get(key).data == b"x"
        with pytest.raises(StoreLocked):
            store._open.write(lambda txn: None, timeout=0.1)
        with store.snapshot() as snapshot:
            process.communicate("\n", timeout=60)
            with pytest.raises(StoreLocked):  # the snapshot's map must stay
                store.put(Kind.TEXT, b"y")
            assert snapshot.get(key).data == b"x"
        assert store.put(Kind.TEXT, b"y")
        with store.snapshot():
            assert store.put(Kind.TEXT, b"z")
        assert store.check().clean


def test_threads_wait_for_each_other(store: Store) -> None:
    started, go = threading.Event(), threading.Event()

    def body(txn: object) -> None:
        started.set()
        go.wait(10)

    thread = threading.Thread(target=store._open.write, args=(body,))
    thread.start()
    started.wait(10)
    with pytest.raises(StoreLocked):
        store._open.write(lambda txn: None, timeout=0.05)
    go.set()
    thread.join()
    assert store.put(Kind.TEXT, b"after")


def test_a_write_inside_a_write_is_refused(store: Store) -> None:
    with pytest.raises(UsageError):
        store._open.write(lambda txn: store.put(Kind.TEXT, b"x"))
    store.put(Kind.TEXT, b"x")


def test_threads_read_and_write_side_by_side(store: Store) -> None:
    blobs = [Blob(Kind.WRAPPER, b"%d " % i * 1000) for i in range(40)]
    failures: list[BaseException] = []

    def work(number: int) -> None:
        try:
            for blob in blobs[number::2]:
                store.put(*blob)
                with store.snapshot() as snapshot:
                    for info in snapshot.list():
                        assert snapshot.get(info.key).data in {blob.data for blob in blobs}
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(i % 2,)) for i in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert store.stat().blobs == len(blobs)


def test_readers_have_a_limit_that_dead_ones_do_not_count_for(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fmt, "MAX_READERS", 3)
    with Store.open(path) as store, contextlib.ExitStack() as stack:
        for _ in range(2):
            with pytest.raises(AssertionError):
                finish(child(DIE_READING, path))
        for _ in range(3):
            stack.enter_context(store.snapshot())
        with pytest.raises(StoreLocked):
            store.snapshot()


def test_a_dead_reader_does_not_keep_space(store: Store, path: Path) -> None:
    store.put(*BIG)
    with pytest.raises(AssertionError):
        finish(child(DIE_READING, path))
    assert "(no active readers)" not in store._open._environment.readers()
    for i in range(20):
        (info,) = store.list()
        store.delete(info.key)
        store.put(Kind.TENSOR, bytes([i]) * MIB)
    assert store.stat().bytes_on_disk < 5 * MIB


def test_a_gate_lets_one_thread_in_twice_but_nobody_with_the_one_alone() -> None:
    gate = RemapLock()
    outer = gate.enter(1)
    assert outer is not None
    entered: list[int | None] = []
    alone = threading.Event()

    def be_alone() -> None:
        with gate.alone(10) as granted:
            assert granted
            alone.set()
            entered.append(None)

    waiting = threading.Thread(target=be_alone)
    waiting.start()
    while not gate._alone:
        time.sleep(0.001)
    inner = gate.enter(0)  # although somebody waits to be alone
    assert inner is not None
    stranger = threading.Thread(target=lambda: entered.append(gate.enter(0)))
    stranger.start()
    stranger.join()
    assert entered == [None]
    assert not alone.is_set()
    gate.leave(inner)
    gate.leave(outer)
    waiting.join(10)
    assert alone.is_set()
    assert gate.enter(1) is not None


# -- forks


def test_a_child_opens_the_file_again(store: Store, path: Path) -> None:
    key = store.put(*BIG)

    def look() -> None:
        assert store.get(key).data == BIG.data
        store.put(Kind.TEXT, b"child")
        assert forked(lambda: store.put(Kind.TEXT, b"grandchild")) == 0
        with Store.open(path) as again:
            assert again._open is store._open
            assert again.stat().blobs == 3

    assert forked(look) == 0
    assert sorted(info.raw for info in store.list(Kind.TEXT)) == [5, 10]


def test_a_snapshot_is_not_disturbed_by_children(store: Store) -> None:
    key = store.put(*BIG)
    with store.snapshot() as snapshot:
        view = snapshot.get(key).data

        def scribble() -> None:
            with pytest.raises(StoreClosed):
                snapshot.get(key)
            snapshot.close()
            store.delete(key)
            for i in range(20):
                store.put(Kind.TENSOR, bytes([i]) * MIB)
                store.delete(next(store.list()).key)
            store.close()

        assert forked(scribble) == 0
        assert view == BIG.data
        store.put(Kind.TENSOR, b"mine" * MIB)
        assert view == BIG.data
        assert snapshot.has(key)
    assert not store.has(key)


def test_a_child_of_a_process_that_is_writing_is_free(store: Store) -> None:
    def write() -> None:
        with pytest.raises(StoreLocked):
            store._open.write(lambda txn: None, timeout=0.1)

    def body(txn: object) -> None:
        assert forked(lambda: store.get(key)) == 0
        assert forked(write) == 0

    key = store.put(Kind.TEXT, b"x")
    store._open.write(body)
    assert forked(lambda: store.put(Kind.TEXT, b"y")) == 0
    assert store.stat().blobs == 2


def test_forks_amid_threads_never_hang_or_corrupt(store: Store) -> None:
    stop = threading.Event()
    keys = store.put_many(Blob(Kind.TENSOR, bytes([i]) * 9000) for i in range(20))

    def busy(number: int) -> None:
        i = 0
        while not stop.is_set():
            i += 1
            store.get(keys[i % 20])
            if not number:
                store.put(Kind.TEXT, b"%d" % i)

    def look() -> None:
        signal.alarm(20)
        with contextlib.suppress(StoreLocked):  # a thread was inside LMDB
            assert all(len(store.get(key).data) == 9000 for key in keys)
            store.put(Kind.TEXT, b"child")

    threads = [threading.Thread(target=busy, args=(i,)) for i in range(3)]
    for thread in threads:
        thread.start()
    try:
        assert [forked(look) for _ in range(15)] == [0] * 15
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert store.check().clean


# -- files that are no stores


def test_a_foreign_environment_is_left_alone(path: Path) -> None:
    path.mkdir(0o700)
    with lmdb.Environment(str(path), max_dbs=1, mode=0o700) as env, env.begin(write=True) as txn:
        txn.put(b"k", b"v", db=env.open_db(b"foreign", txn=txn))
    for readonly in False, True:
        with pytest.raises(StoreVersionError):
            Store.open(path, readonly=readonly)
    with lmdb.Environment(str(path), max_dbs=1) as env:
        assert env.dbs() == [b"foreign"]


@pytest.mark.parametrize("value", [None, b"", b"junk" * 20, "record 2"])
def test_another_format_is_refused(path: Path, value: bytes | str | None) -> None:
    from firebrick.storage.blob import encode_record

    Store.open(path).close()
    data = encode_record("meta", b"format", b"2") if isinstance(value, str) else value
    with lmdb.Environment(str(path), max_dbs=1) as env:
        meta = env.open_db(b"meta")
        with env.begin(write=True, db=meta) as txn:
            txn.delete(b"format")
            if data is not None:
                txn.put(b"format", data)
    before = (path / fmt.DATA_FILE).read_bytes()
    for readonly in False, True:
        with pytest.raises(StoreVersionError):
            Store.open(path, readonly=readonly)
    assert (path / fmt.DATA_FILE).read_bytes() == before


def test_a_file_of_another_lmdb_is_refused(path: Path) -> None:
    path.mkdir(0o700)
    lmdb.Environment(str(path), lib_version=1, mode=0o700).close()
    with pytest.raises(StoreVersionError):
        Store.open(path)


@pytest.mark.parametrize("readonly", [False, True])
def test_a_file_of_something_else_is_refused(path: Path, readonly: bool) -> None:
    path.mkdir(0o700)
    (path / fmt.DATA_FILE).write_bytes(b"something else" * 1000)
    (path / fmt.DATA_FILE).chmod(0o600)
    with pytest.raises(StoreVersionError):
        Store.open(path, readonly=readonly)


@pytest.mark.parametrize("readonly", [False, True])
@pytest.mark.parametrize("pages", [2, 3, 10, 100])
def test_a_cut_file_is_refused_and_does_not_kill(path: Path, pages: int, readonly: bool) -> None:
    with Store.open(path) as store:
        store.put(*BIG)
    os.truncate(path / fmt.DATA_FILE, pages * 4096)
    code = "try: Store.open(argv[0], readonly=argv[1] == 'True').stat()\n"
    code += "except StoreDamaged as error: print(type(error).__name__)\n"
    assert finish(child(code, path, readonly)) == "StoreDamaged"


def test_free_pages_missing_at_the_end_are_no_damage(path: Path) -> None:
    with Store.open(path) as store:
        key = store.put(*BIG)
        store.delete(key)
        kept = [store.put(Kind.TEXT, b"%d" % i) for i in range(10)]
    data = path / fmt.DATA_FILE
    whole = data.read_bytes()
    end = len(whole) // 4096
    while not Store.verify(path):
        end -= 1
        os.truncate(data, end * 4096)
    data.write_bytes(whole[: (end + 1) * 4096])
    assert end + 1 < len(whole) // 4096
    with Store.open(path) as store:
        assert [store.get(key).data for key in kept] == [b"%d" % i for i in range(10)]
        assert store.put(*BIG) == key
        assert store.check().clean


def test_structural_damage_is_found_before_it_is_walked(path: Path) -> None:
    with Store.open(path) as store:
        store.put_many(Blob(Kind.TEXT, b"%d" % i * 50) for i in range(500))
    data = bytearray((path / fmt.DATA_FILE).read_bytes())
    for page in range(2, len(data) // 4096):  # wild pointers in every page
        data[page * 4096 + 16 : page * 4096 + 24] = b"\xff" * 8
    (path / fmt.DATA_FILE).write_bytes(data)
    assert Store.verify(path) != []


def test_a_sound_store_is_verified(path: Path, tmp_path: Path) -> None:
    with Store.open(path) as store:
        store.put_many(Blob(Kind.TEXT, b"%d" % i * 50) for i in range(500))
    assert Store.verify(path) == []
    assert Store.verify(tmp_path / "nowhere") != []


# -- places


def test_a_new_directory_is_private(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b"
    Store.open(path).close()
    assert path.stat().st_mode & 0o777 == 0o700
    assert {file.name: file.stat().st_mode & 0o777 for file in path.iterdir()} == {
        fmt.DATA_FILE: 0o600,
        fmt.LOCK_FILE: 0o600,
    }


def test_an_empty_directory_is_made_private(path: Path) -> None:
    path.mkdir(0o755)
    Store.open(path).close()
    assert path.stat().st_mode & 0o777 == 0o700


def test_a_directory_open_to_others_is_refused(path: Path) -> None:
    Store.open(path).close()
    path.chmod(0o755)
    with pytest.raises(StorePermissionError):
        Store.open(path)
    Store.open(path, readonly=True).close()
    path.chmod(0o770)
    with pytest.raises(StorePermissionError):
        Store.open(path, readonly=True)


def test_symbolic_links_are_refused(path: Path, tmp_path: Path) -> None:
    Store.open(path).close()
    link = tmp_path / "link"
    link.symlink_to(path)
    for name in link, f"{link}/":
        with pytest.raises(StorePermissionError) as caught:
            Store.open(name)
        assert caught.value.detail.endswith("is a symbolic link")
    (path / fmt.DATA_FILE).rename(tmp_path / "data")
    (path / fmt.DATA_FILE).symlink_to(tmp_path / "data")
    with pytest.raises(StorePermissionError):
        Store.open(path)
    dangling = tmp_path / "dangling"
    dangling.symlink_to(tmp_path / "nowhere")
    with pytest.raises(StorePermissionError):
        Store.open(dangling)


def test_a_file_is_no_directory(path: Path) -> None:
    path.write_text("")
    with pytest.raises(StoreVersionError, match="no sealed pack"):
        Store.open(path)
    with pytest.raises(StoreError):
        Store.open(path / "below")
    with pytest.raises(UsageError):
        Store.open("")


def test_the_directory_of_somebody_else_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Store.open(path).close()
    owner = path.stat().st_uid
    monkeypatch.setattr(os, "geteuid", lambda: owner + 1)
    with pytest.raises(StorePermissionError if owner else StoreReadOnly):
        Store.open(path)
    if not owner:  # what belongs to root may be read
        Store.open(path, readonly=True).close()
    real = os.fstat

    def foreign(fd: int) -> os.stat_result:
        values = list(real(fd))
        values[4] = owner + 2
        return os.stat_result(values)

    monkeypatch.setattr(os, "fstat", foreign)
    with pytest.raises(StorePermissionError):
        Store.open(path, readonly=True)


MOUNTS = """\
22 27 0:21 / /proc rw,relatime - proc proc rw
27 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
28 27 0:25 / /home rw - nfs4 server:/home rw
29 28 0:26 / /home/me/local rw - xfs /dev/vdb rw
30 27 0:27 / /with\\040space rw - {kind} x rw
31 27 0:28 / /over rw - nfs x rw
32 27 0:29 / /over rw - tmpfs x rw
"""


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("/", "ext4"),
        ("/homework", "ext4"),
        ("/home", "nfs4"),
        ("/home/me/x", "nfs4"),
        ("/home/me/local", "xfs"),
        ("/home/me/local/x", "xfs"),
        ("/with space/x", "lustre"),
        ("/over/x", "tmpfs"),
    ],
)
def test_file_systems_are_found_in_the_mount_table(
    path: str, found: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = tmp_path / "mountinfo"
    table.write_text(MOUNTS.format(kind="lustre"))
    monkeypatch.setattr(directory, "_MOUNTINFO", str(table))
    assert directory.filesystem(path) == found


@pytest.mark.parametrize(
    "kind", [*sorted(fmt.NETWORK_FILESYSTEMS), "fuse.sshfs", "fuse.glusterfs", "fuse", "fuse.new"]
)
def test_shared_file_systems_are_refused(
    kind: str, path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = tmp_path / "mountinfo"
    table.write_text(f"1 0 0:1 / / rw - {kind} x rw\n")
    monkeypatch.setattr(directory, "_MOUNTINFO", str(table))
    with pytest.raises(NetworkFilesystemError) as caught:
        Store.open(path)
    assert kind in caught.value.detail
    assert not path.exists()
    path.mkdir(0o700)
    for readonly in False, True:
        with pytest.raises(NetworkFilesystemError):
            Store.open(path, readonly=readonly)
    assert not list(path.iterdir())


@pytest.mark.parametrize("kind", ["ext4", "xfs", "btrfs", "tmpfs", "overlay", *sorted(fmt.LOCAL_FUSE)])
def test_local_file_systems_are_not_refused(
    kind: str, path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = tmp_path / "mountinfo"
    table.write_text(f"1 0 0:1 / / rw - {kind} x rw\n")
    monkeypatch.setattr(directory, "_MOUNTINFO", str(table))
    Store.open(path).close()


def test_without_a_mount_table_nothing_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(directory, "_MOUNTINFO", "/nowhere/mountinfo")
    Store.open(path).close()
