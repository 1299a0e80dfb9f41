"""Faults of the disk, of other processes and of the system: typed, bounded, and never the program's end."""

import errno
import fcntl
import os
import subprocess
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lmdb
import pytest

from firebrick.errors import (
    DamagedError,
    StoreClosed,
    StoreError,
    StoreFull,
    StoreLocked,
    StoreNotFound,
    StorePermissionError,
    StoreReadOnly,
    UsageError,
)
from firebrick.session import session as attach
from firebrick.storage import environment, lmdb_api, lock_file
from firebrick.storage import format as fmt
from firebrick.storage.directory import Place
from firebrick.storage.format import Kind
from firebrick.storage.new_file import make_file
from firebrick.storage.store import Store
from support.faults import (
    HOLD_BYTE,
    HOLD_MUTEX,
    child,
    doing,
    exchange_after_check,
    fill,
    forked,
    mounted,
    output,
    small_disk,
    sparse_lock,
    unwritable,
    without_proc,
)

LINE = 64  # bytes of a reader's slot


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store"


# -- a full disk, and the lock file that is written through a map

READ_AND_WRITE = """
try:
    store = Store.open(argv[0])
    snapshots = [store.snapshot() for _ in range(int(argv[1]))]
    store.put(Kind.TENSOR, os.urandom(9 << 20))
except StoreFull as error:
    print(type(error).__name__)
"""


@pytest.mark.parametrize("kind", ["tmpfs", "ext4"])
@pytest.mark.parametrize("state", ["no store", "no lock file", "a sparse lock file", "a lock file"])
def test_a_full_disk_is_an_error_and_no_signal(tmp_path: Path, kind: str, state: str) -> None:
    with small_disk(tmp_path, kind) as disk:
        path = disk / "store"
        if state != "no store":
            output(child("Store.open(argv[0]).put(Kind.TEXT, b'x')", path))
            if state == "no lock file":
                (path / fmt.LOCK_FILE).unlink()
            if state == "a sparse lock file":
                sparse_lock(path)
        fill(disk)
        assert output(child(READ_AND_WRITE, path, 150)) == "StoreFull"  # slots of several pages


def test_a_program_on_a_full_disk_runs_with_one_warning(tmp_path: Path) -> None:
    code = """
attach.enable(argv[0])
import torch
print(float(torch.ones(3).sum()))
"""
    with small_disk(tmp_path, "tmpfs") as disk:
        fill(disk)
        process = child(code, disk / "store")
        out, err = process.communicate(timeout=120)
    assert (process.returncode, out) == (0, "3.0\n")
    assert err.count("FirebrickWarning") == 1
    assert StoreFull.hint in err


def test_every_block_of_the_lock_file_has_its_place_before_it_is_mapped(path: Path) -> None:
    Store.open(path).close()
    info = (path / fmt.LOCK_FILE).stat()
    assert info.st_size >= (fmt.MAX_READERS + 1) * LINE
    assert info.st_blocks * 512 >= info.st_size
    sparse_lock(path)
    assert (path / fmt.LOCK_FILE).stat().st_blocks * 512 < info.st_size
    Store.open(path).close()
    assert (path / fmt.LOCK_FILE).stat().st_blocks * 512 >= info.st_size


def test_a_lock_file_that_others_use_gets_its_blocks_but_keeps_its_length(path: Path) -> None:
    Store.open(path).close()
    (path / fmt.LOCK_FILE).unlink()
    code = "import lmdb; e = lmdb.Environment(argv[0], max_readers=1000, mode=0o700)\n"
    with doing(code + "print('ready', flush=True); sys.stdin.readline()", path):
        before = (path / fmt.LOCK_FILE).stat()
        assert before.st_blocks * 512 < before.st_size
        with Store.open(path) as store:
            store.put(Kind.TEXT, b"x")
        after = (path / fmt.LOCK_FILE).stat()
    assert after.st_size == before.st_size
    assert after.st_blocks * 512 >= after.st_size


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_lock_file_without_room_is_a_full_store(
    path: Path, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "posix_fallocate", refuse)
    with pytest.raises(StoreFull):
        Store.open(path)
    assert (path / fmt.LOCK_FILE).stat().st_size == 0
    monkeypatch.undo()
    with Store.open(path) as store:
        assert store.put(Kind.TEXT, b"x")


def test_where_blocks_cannot_be_allocated_they_are_written(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EOPNOTSUPP, "not supported")

    monkeypatch.setattr(os, "posix_fallocate", refuse)
    with Store.open(path) as store:
        assert store.put(Kind.TEXT, b"x")
    info = (path / fmt.LOCK_FILE).stat()
    assert info.st_blocks * 512 >= info.st_size >= (fmt.MAX_READERS + 1) * LINE


# -- a map that others let grow

GROW = """
store = Store.open(argv[0])
def body(txn):
    print("ready", flush=True)
    sys.stdin.readline()
    txn.put("blobs", b"k" * 32, bytes(1 << 20))
store._open.write(body)
print("grown", flush=True)
sys.stdin.readline()
"""


def after_opening(monkeypatch: pytest.MonkeyPatch, then: Callable[[], object]) -> None:
    """Do something once, between the opening of an environment and its first transaction."""
    real, todo = lmdb_api.open_environment, [then]

    def opening(*args: Any, **options: Any) -> lmdb.Environment:
        env = real(*args, **options)
        if todo:
            todo.pop()()
        return env

    monkeypatch.setattr(lmdb_api, "open_environment", opening)


def test_a_store_that_grows_while_it_is_opened_is_followed(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fmt, "OPEN_TIMEOUT_S", 0.01)
    with Store.open(path, map_size=1 << 16) as store:
        key = store.put(Kind.TEXT, b"x")
    with doing(GROW, path) as process:

        def grow() -> None:
            assert process.stdin
            assert process.stdout
            process.stdin.write("\n")
            process.stdin.flush()
            assert process.stdout.readline() == "grown\n"

        after_opening(monkeypatch, grow)
        with Store.open(path, map_size=1 << 16) as store:
            assert store.get(key).data == b"x"
            assert store.stat().blobs == 2
            assert store.put(Kind.TEXT, b"y")


def test_a_new_store_that_grows_while_it_is_opened_is_followed(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = "Store.open(argv[0]).put(Kind.TENSOR, bytes(1 << 20))"

    def making(place: Place) -> None:
        make_file(place)
        output(child(code, path))

    monkeypatch.setattr("firebrick.storage.shared_environment.make_file", making)
    with Store.open(path, map_size=1 << 16) as store:
        assert store.stat().blobs == 1
        assert store.put(Kind.TEXT, b"y")


def test_processes_with_the_smallest_map_write_side_by_side(path: Path) -> None:
    code = """
for number in range(25):
    with Store.open(argv[0], map_size=1 << 16) as store:
        key = store.put(Kind.TENSOR, os.urandom(20_000))
        assert len(store.get(key).data) == 20_000
"""
    for process in [child(code, path) for _ in range(4)]:
        output(process)
    with Store.open(path) as store:
        assert store.stat().blobs == 100
        assert store.check().clean


def outgrow(*_: object, **__: object) -> Any:
    raise lmdb.MapResizedError("outgrown")


@pytest.mark.parametrize("do", ["begin", "write"])
def test_following_a_map_has_an_end(path: Path, do: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with Store.open(path) as store:
        monkeypatch.setattr(lmdb_api, "begin", outgrow)
        with pytest.raises(StoreLocked):
            store.contexts() if do == "begin" else store.put(Kind.TEXT, b"x")


@pytest.mark.parametrize("databases", ["open_databases", "create_databases"])
def test_following_a_map_has_an_end_at_the_start_too(
    path: Path, databases: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    Store.open(path).close()
    monkeypatch.setattr(lmdb_api, databases, outgrow)
    with pytest.raises(StoreLocked):
        Store.open(path, readonly=databases == "open_databases")


# -- every other error of LMDB and the system

ERRORS: list[tuple[BaseException, type[StoreError]]] = [
    (lmdb.MapFullError("x"), StoreFull),
    (lmdb.MapResizedError("x"), StoreLocked),
    (lmdb.ReadersFullError("x"), StoreLocked),
    (lmdb.DiskError("x"), StoreError),
    (lmdb.Error("x"), StoreError),
    (OSError(errno.EIO, "x"), StoreError),
    (OSError(errno.ENOSPC, "x"), StoreFull),
    (OSError(errno.EROFS, "x"), StoreReadOnly),
    (PermissionError(errno.EACCES, "x"), StorePermissionError),
    (FileNotFoundError(errno.ENOENT, "x"), StoreNotFound),
    (OSError(errno.EMFILE, "x"), StoreError),
]


@pytest.mark.parametrize(
    ("error", "meant"), ERRORS, ids=lambda value: getattr(value, "__name__", repr(value))
)
def test_errors_of_the_layers_below_are_typed_wherever_they_come_up(
    path: Path, error: BaseException, meant: type[StoreError], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> Any:
        raise error

    def typed(module: object, name: str, act: Callable[[], object]) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(module, name, fail)
            with pytest.raises(meant) as caught:
                act()
            assert type(caught.value) is meant

    with Store.open(path) as store:
        if not isinstance(error, lmdb.MapFullError | lmdb.MapResizedError):  # these are acted upon
            typed(lmdb_api, "begin", store.contexts)
            typed(lmdb_api, "begin", lambda: store.put(Kind.TEXT, b"x"))
        if isinstance(error, OSError):
            typed(fcntl, "flock", lambda: store.put(Kind.TEXT, b"x"))
            typed(os, "pread", store.contexts)
        typed(environment.Engine, "is_stale", store.contexts)
        with pytest.raises(meant), store.snapshot() as snapshot, monkeypatch.context() as patch:
            patch.setattr("firebrick.storage.transaction.Transaction.get", fail)
            snapshot.get(b"k" * 32)
    typed(lmdb_api, "open_environment", lambda: Store.open(path))
    typed(lmdb_api, "check_file", lambda: Store.open(path, readonly=True))
    if isinstance(error, OSError):
        typed(os, "open", lambda: Store.open(path))
        typed(os, "fstat", lambda: Store.open(path))
        typed(fcntl, "lockf", lambda: Store.open(path))
    assert Store.open(path).close() is None


def test_a_full_disk_is_told_where_the_directory_cannot_be_asked(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> Any:
        raise OSError(errno.EIO, "x")

    with Store.open(path) as store:
        monkeypatch.setattr(os, "statvfs", fail)
        monkeypatch.setattr(lmdb_api, "begin", fail)
        with pytest.raises(StoreError):
            store.contexts()


@pytest.mark.parametrize("name", ["", "a\0b", 7, None])
def test_what_is_no_path_is_a_wrong_call(name: Any) -> None:
    with pytest.raises(UsageError):
        Store.open(name)


def test_a_relative_path_in_a_folder_that_is_gone_is_not_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    with pytest.raises(StoreNotFound):
        Store.open("store")


@pytest.mark.parametrize("size", [fmt.MAX_MAP_SIZE + 1, 1 << 64, 1 << 200])
def test_a_map_larger_than_any_machine_has_is_a_wrong_call(path: Path, size: int) -> None:
    with pytest.raises(UsageError):
        Store.open(path, map_size=size)


def test_a_store_that_another_thread_closes_is_closed(path: Path) -> None:
    store = Store.open(path)
    writer = store._open._writer
    writer.close()
    with pytest.raises(StoreClosed), writer.held(0.0):
        pass
    store.close()


def test_a_verifier_that_fails_has_found_something(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import lmdb.verify

    def fail(_: str) -> list[str]:
        raise RecursionError("too deep")

    Store.open(path).close()
    monkeypatch.setattr(lmdb.verify, "verify", fail)
    assert Store.verify(path) == ["RecursionError: too deep"]


# -- names of folders


def odd(tmp_path: Path) -> str:
    return os.fsdecode(os.fsencode(tmp_path) + b"/\xff\xfe")


def test_a_folder_whose_name_is_no_text_holds_a_store(tmp_path: Path) -> None:
    with Store.open(odd(tmp_path)) as store:
        key = store.put(Kind.TEXT, b"x")
        assert store.check().clean
    with Store.open(odd(tmp_path), readonly=True) as store:
        assert store.get(key).data == b"x"
    assert Store.verify(odd(tmp_path)) == []


def test_such_a_folder_without_proc_is_refused_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_proc(monkeypatch)
    with pytest.raises(StoreError):
        Store.open(odd(tmp_path))


# -- processes that are stopped while they hold what LMDB waits for

OPEN = """
fmt.LMDB_TIMEOUT_S = 0.1
try:
    with Store.open(argv[0]) as store:
        print(store.stat().blobs)
except StoreLocked as error:
    print(type(error).__name__)
"""


def test_a_process_that_is_stopped_while_it_opens_does_not_stop_others(path: Path) -> None:
    Store.open(path).close()
    with doing(HOLD_BYTE, path):
        assert output(child(OPEN, path)) == "StoreLocked"
    assert output(child(OPEN, path)) == "0"


def test_nobody_can_take_the_byte_between_our_look_and_lmdbs(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = """
fd = os.open(argv[0] + "/lock.mdb", os.O_RDWR)
try:
    fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB, 1)
    print("taken")
except OSError:
    print("refused")
"""
    Store.open(path).close()
    said = []
    real = lmdb.Environment

    def opening(*args: Any, **options: Any) -> lmdb.Environment:
        said.append(output(child(code, path)))
        env = real(*args, **options)
        said.append(output(child(code, path)))
        return env

    monkeypatch.setattr(lmdb, "Environment", opening)
    with Store.open(path):
        assert said == ["refused", "refused"]
        with Store.open(path):
            pass
        assert output(child(code, path)) == "refused"


@pytest.mark.skipif(not lock_file._KNOWN_MUTEXES, reason="needs the mutexes of glibc")
@pytest.mark.parametrize("mutex", ["_READERS", "_WRITERS"])
def test_a_process_that_is_stopped_inside_lmdb_does_not_stop_others(path: Path, mutex: str) -> None:
    code = OPEN + "try: Store.open(argv[0]).put(Kind.TEXT, b'x')\nexcept StoreLocked: print('again')\n"
    Store.open(path).close()
    with doing(HOLD_MUTEX, path, getattr(lock_file, mutex)):
        assert output(child(code, path)) == "StoreLocked\nagain"
    assert output(child(code, path)) == "0"  # the mutex outlives its owner


def test_a_stopped_writer_is_waited_for_once(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]

    def sleep(seconds: float) -> None:
        now[0] += seconds

    with Store.open(path) as store:
        clock = SimpleNamespace(monotonic=lambda: now[0], sleep=sleep)
        monkeypatch.setattr("firebrick.storage.writer_lock.time", clock)
        fd = os.open(path / fmt.DATA_FILE, os.O_RDONLY)
        fcntl.flock(fd, fcntl.LOCK_EX)
        for _ in range(5):
            with pytest.raises(StoreLocked):
                store.put(Kind.TEXT, b"x")
        os.close(fd)
        assert fmt.LOCK_TIMEOUT_S < now[0] < fmt.LOCK_TIMEOUT_S + 10
        store.put(Kind.TEXT, b"x")


@pytest.mark.skipif(not lock_file._KNOWN_MUTEXES, reason="needs the mutexes of glibc")
def test_a_hopeless_wait_is_waited_once(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    real = lock_file.pauses

    def counted(timeout: float) -> Iterator[None]:
        pauses.append(timeout)
        return real(timeout)

    monkeypatch.setattr(fmt, "LMDB_TIMEOUT_S", 0.05)
    with Store.open(path) as store:
        monkeypatch.setattr(lock_file, "pauses", counted)
        with doing(HOLD_MUTEX, path, lock_file._READERS):
            for _ in range(3):
                with pytest.raises(StoreLocked):
                    store.contexts()
            assert pauses == [0.05, 0.0, 0.0]
        assert store.contexts() == []


def test_a_data_file_that_was_replaced_is_followed_with_its_locks(path: Path) -> None:
    code = "fd = os.open(argv[0] + '/lock.mdb', os.O_RDWR)\n"
    code += "try: fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB, 1)\nexcept OSError: print('refused')\n"
    with Store.open(path):
        copy = path / "copy"
        copy.write_bytes((path / fmt.DATA_FILE).read_bytes())
        copy.chmod(0o600)
        copy.rename(path / fmt.DATA_FILE)
        with Store.open(path) as store:
            assert store.contexts() == []
            assert output(child(code, path)) == "refused"


def test_an_environment_of_others_keeps_its_locks(path: Path) -> None:
    code = "fd = os.open(argv[0] + '/lock.mdb', os.O_RDWR)\n"
    code += "try: fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB, 1)\nexcept OSError: print('refused')\n"
    Store.open(path).close()
    with lmdb.Environment(str(path)):
        for _ in range(2):
            with pytest.raises(StoreLocked):
                Store.open(path)
            assert output(child(code, path)) == "refused"
        assert len(lock_file._kept) == 1
    Store.open(path).close()
    assert not lock_file._kept


# -- a folder that is exchanged while it is opened


def other_store(path: Path, tmp_path: Path) -> Path:
    """Fill a store, and another one that is told from it by what is in it."""
    other = tmp_path / "other"
    for folder, text in (path, b"mine"), (other, b"theirs"):
        with Store.open(folder) as store:
            store.put(Kind.TEXT, text)
    return other


@pytest.mark.parametrize("readonly", [False, True])
def test_the_folder_that_was_checked_is_the_one_that_is_opened(
    path: Path, tmp_path: Path, readonly: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    exchange_after_check(path, other_store(path, tmp_path), monkeypatch)
    with Store.open(path, readonly=readonly) as store:
        assert [bytes(store.get(info.key).data) for info in store.list()] == [b"mine"]
        if not readonly:
            with pytest.raises(StoreNotFound):
                store.put(Kind.TEXT, b"x")


@pytest.mark.parametrize("readonly", [False, True])
def test_without_proc_an_exchange_is_noticed(
    path: Path, tmp_path: Path, readonly: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    exchange_after_check(path, other_store(path, tmp_path), monkeypatch)
    without_proc(monkeypatch)
    with pytest.raises(StorePermissionError):
        Store.open(path, readonly=readonly)


def test_a_lock_file_that_comes_up_meanwhile_is_no_exchange(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = filled(path)
    (path / fmt.LOCK_FILE).unlink()
    after_opening(monkeypatch, lambda: output(child("Store.open(argv[0]).put(Kind.TEXT, b'y')", path)))
    with Store.open(path, readonly=True) as store:
        assert store.get(key).data == b"x"
    assert (path / fmt.LOCK_FILE).exists()


def test_without_proc_a_store_works(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without_proc(monkeypatch)
    with Store.open(path) as store:
        key = store.put(Kind.TEXT, b"x")
    with Store.open(path, readonly=True) as store:
        assert store.get(key).data == b"x"


def test_a_child_that_reopens_checks_the_folder_again(path: Path, tmp_path: Path) -> None:
    with Store.open(path) as store:
        store.put(Kind.TEXT, b"x")
        path.rename(tmp_path / "away")
        path.symlink_to(tmp_path / "away")

        def refused() -> bool:
            with pytest.raises(StorePermissionError):
                store.contexts()
            return True

        assert forked(refused) == 0


# -- what can only be read


@pytest.fixture
def enabled() -> Iterator[Callable[..., list[str]]]:
    """Enable Firebrick and return the warnings; it is disabled in the end."""

    def enable(path: Path, **settings: Any) -> list[str]:
        attach.disable()
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            attach.enable(path, **settings)
        return [str(warning.message) for warning in said]

    yield enable
    attach.disable()


def serves(session: attach.Session | None, key: bytes) -> bool:
    """Tell whether a session reads from its store, and would record nothing."""
    return (
        session is not None
        and session.store is not None
        and session.store.get(key).data == b"x"
        and not session.recording
    )


def filled(path: Path) -> bytes:
    with Store.open(path) as store:
        return store.put(Kind.TEXT, b"x")


def test_what_cannot_be_written_to_is_served_with_a_word(
    path: Path, enabled: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    key = filled(path)
    unwritable(monkeypatch)
    with pytest.raises(StoreReadOnly):
        Store.open(path)
    (warning,) = enabled(path)
    assert "FIREBRICK_READONLY=1" in warning
    assert serves(attach.session(), key)
    assert attach.stats().faults == {"StoreReadOnly": 1}
    assert enabled(path, readonly=True) == []
    assert serves(attach.session(), key)
    with pytest.raises(StoreReadOnly):
        enabled(path, strict=True)


def test_what_cannot_be_read_either_is_left_alone_with_a_word(
    path: Path, enabled: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    path.mkdir(0o700)
    unwritable(monkeypatch)
    (warning,) = enabled(path)
    assert "StoreReadOnly" in warning
    assert attach.session() is None


def test_what_is_not_private_is_not_served_for_all_that(
    path: Path, enabled: Callable[..., list[str]]
) -> None:
    filled(path)
    path.chmod(0o755)
    (warning,) = enabled(path)
    assert "StorePermissionError" in warning
    assert attach.session() is None


def test_a_read_only_mount_is_served(tmp_path: Path, enabled: Callable[..., list[str]]) -> None:
    with mounted(tmp_path / "disk", "-t", "tmpfs", "none") as disk:
        key = filled(disk / "store")
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        (warning,) = enabled(disk / "store")
        assert "FIREBRICK_READONLY=1" in warning
        assert serves(attach.session(), key)
        (warning,) = enabled(disk / "new")
        assert "StoreReadOnly" in warning
        attach.disable()


NOBODY = 65534


@pytest.mark.parametrize("state", ["folder 500", "file 400", "lock file 400", "of root"])
def test_what_the_system_lets_only_be_read_is_served(state: str, enabled: Callable[..., list[str]]) -> None:
    if os.geteuid():
        pytest.skip("needs to be root, to become somebody else")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        path = folder / "store"
        key = filled(path)
        if state == "folder 500":
            (path / fmt.LOCK_FILE).unlink()
            path.chmod(0o500)
        elif state == "of root":
            path.chmod(0o755)
            (path / fmt.DATA_FILE).chmod(0o644)
        else:
            (path / (fmt.LOCK_FILE if "lock" in state else fmt.DATA_FILE)).chmod(0o400)
        if state != "of root":
            for file in path, *path.iterdir():
                os.chown(file, NOBODY, NOBODY)

        def act() -> bool:
            os.setresgid(NOBODY, NOBODY, NOBODY)
            os.setresuid(NOBODY, NOBODY, NOBODY)
            (warning,) = enabled(path)
            return "FIREBRICK_READONLY=1" in warning and serves(attach.session(), key)

        assert forked(act) == 0
        path.chmod(0o700)


# -- what `enable` makes of all this


def test_a_store_under_an_odd_name_is_served_without_a_word(
    tmp_path: Path, enabled: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert enabled(Path(odd(tmp_path))) == []
    assert attach.session() is not None
    without_proc(monkeypatch)
    (warning,) = enabled(Path(odd(tmp_path)))
    assert "UTF-8" in warning
    assert attach.session() is None


def test_a_disk_too_small_for_a_store_is_said_once(tmp_path: Path, enabled: Callable[..., list[str]]) -> None:
    with mounted(tmp_path / "disk", "-t", "tmpfs", "-o", "size=200k", "none") as disk:
        (warning,) = enabled(disk / "store")
    assert "StoreFull" in warning
    assert attach.session() is None


def test_damage_is_said_once(path: Path, enabled: Callable[..., list[str]]) -> None:
    assert enabled(path) == []
    session = attach.session()
    assert session
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        for number in range(3):
            session.fault(DamagedError(bytes([number]) * 32, "digest"))
    (warning,) = said
    assert DamagedError.hint in str(warning.message)
    assert session.stats.faults == {"DamagedError": 3}


@pytest.mark.parametrize("error", [StoreFull("x"), OSError("x"), ValueError("x"), RecursionError("x")])
def test_enable_warns_once_whatever_goes_wrong(
    path: Path, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> Any:
        raise error

    monkeypatch.setattr(Store, "open", fail)
    with pytest.warns(attach.FirebrickWarning) as said:
        attach.enable(path)
    assert len(said) == 1
    assert attach.session() is None
    with pytest.raises(type(error)):
        attach.enable(path, strict=True)


def test_a_signal_is_no_fault_of_the_store(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object, **__: object) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(Store, "open", interrupt)
    with pytest.raises(KeyboardInterrupt):
        attach.enable(path)
