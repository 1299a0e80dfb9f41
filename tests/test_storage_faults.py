"""Faults of the disk, of other processes and of the system: typed, bounded, and never the program's end."""

import contextlib
import errno
import fcntl
import os
import signal
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import lmdb
import pytest

from firebrick import _lmdb, _lock_file, _place, attach, engine
from firebrick import format as fmt
from firebrick.errors import (
    StoreClosed,
    StoreError,
    StoreFull,
    StoreLocked,
    StoreNotFound,
    StorePermissionError,
    StoreReadOnly,
    UsageError,
)
from firebrick.format import Kind
from firebrick.store import Store

HEAD = """
import contextlib, ctypes, fcntl, mmap, os, signal, sys, warnings
from firebrick import _lmdb, attach
from firebrick import format as fmt
from firebrick.errors import *
from firebrick.format import Kind
from firebrick.store import *
argv = sys.argv[1:]
"""
LINE = 64  # bytes of a reader's slot


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store"


def child(code: str, *args: object) -> subprocess.Popen[str]:
    """Start Python with these lines and `args` in `argv`."""
    return subprocess.Popen(
        [sys.executable, "-c", HEAD + code, *map(str, args)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def output(process: subprocess.Popen[str]) -> str:
    """Wait for a child that must end well, and return what it printed."""
    try:
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 0, err
    return out.strip()


@contextlib.contextmanager
def doing(code: str, *args: object) -> Iterator[subprocess.Popen[str]]:
    """Run a child up to the line that it prints; it is killed at the end of the block."""
    process = child(code, *args)
    try:
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
        yield process
    finally:
        process.kill()
        process.communicate()


@contextlib.contextmanager
def mounted(folder: Path, *options: str) -> Iterator[Path]:
    """Mount a file system, or skip the test where that cannot be done."""
    folder.mkdir(exist_ok=True)
    if os.geteuid() or subprocess.run(["mount", *options, str(folder)], capture_output=True).returncode:
        pytest.skip("needs to be root, and to be let mount")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@contextlib.contextmanager
def small_disk(tmp_path: Path, kind: str) -> Iterator[Path]:
    """Mount an empty file system of 8 MiB."""
    folder = tmp_path / "disk"
    if kind == "tmpfs":
        with mounted(folder, "-t", "tmpfs", "-o", "size=8m", "none"):
            yield folder
        return
    image = tmp_path / "image"
    image.write_bytes(b"")
    os.truncate(image, 8 << 20)
    try:
        subprocess.run([f"mkfs.{kind}", "-q", "-F", image], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip(f"needs mkfs.{kind}")
    with mounted(folder, "-o", "loop", str(image)):
        yield folder


def fill(folder: Path) -> None:
    """Write to a file system until not a byte more fits."""
    fd = os.open(folder / "fill", os.O_WRONLY | os.O_CREAT)
    for size in 1 << 20, 1 << 12, 1:
        with contextlib.suppress(OSError):
            while True:
                os.write(fd, b"x" * size)
                os.fsync(fd)
    os.close(fd)


def sparse_lock(path: Path) -> None:
    """Leave a lock file behind as LMDB makes it: its length is there, its blocks are not."""
    (path / fmt.LOCK_FILE).unlink(missing_ok=True)
    lmdb.Environment(str(path), max_readers=fmt.MAX_READERS, mode=0o700).close()


def without_proc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_place, "_DESCRIPTORS", "/nowhere")
    monkeypatch.setattr(_place, "_MOUNTINFO", "/nowhere")


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
    real, todo = _lmdb.open_environment, [then]

    def opening(*args: Any, **options: Any) -> lmdb.Environment:
        env = real(*args, **options)
        if todo:
            todo.pop()()
        return env

    monkeypatch.setattr(_lmdb, "open_environment", opening)


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
    after_opening(monkeypatch, lambda: output(child(code, path)))
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
        monkeypatch.setattr(_lmdb, "begin", outgrow)
        with pytest.raises(StoreLocked):
            store.contexts() if do == "begin" else store.put(Kind.TEXT, b"x")


@pytest.mark.parametrize("databases", ["open_databases", "create_databases"])
def test_following_a_map_has_an_end_at_the_start_too(
    path: Path, databases: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    Store.open(path).close()
    monkeypatch.setattr(_lmdb, databases, outgrow)
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
            typed(_lmdb, "begin", store.contexts)
            typed(_lmdb, "begin", lambda: store.put(Kind.TEXT, b"x"))
        if isinstance(error, OSError):
            typed(fcntl, "flock", lambda: store.put(Kind.TEXT, b"x"))
            typed(os, "pread", store.contexts)
        typed(engine.Engine, "is_stale", store.contexts)
        with pytest.raises(meant), store.snapshot() as snapshot, monkeypatch.context() as patch:
            patch.setattr("firebrick._transaction.Transaction.get", fail)
            snapshot.get(b"k" * 32)
    typed(_lmdb, "open_environment", lambda: Store.open(path))
    typed(_lmdb, "check_file", lambda: Store.open(path, readonly=True))
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
        monkeypatch.setattr(_lmdb, "begin", fail)
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

HOLD_BYTE = """
fd = os.open(argv[0] + "/lock.mdb", os.O_RDWR)
fcntl.lockf(fd, fcntl.LOCK_EX, 1)
print("ready", flush=True)
os.kill(os.getpid(), signal.SIGSTOP)
"""

HOLD_MUTEX = """
store = Store.open(argv[0])
fd = os.open(argv[0] + "/lock.mdb", os.O_RDWR)
view = mmap.mmap(fd, 4096)
mutex = ctypes.addressof(ctypes.c_char.from_buffer(view, int(argv[1])))
assert ctypes.CDLL(None).pthread_mutex_lock(ctypes.c_void_p(mutex)) == 0
print("ready", flush=True)
os.kill(os.getpid(), signal.SIGSTOP)
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


@pytest.mark.skipif(not _lock_file._KNOWN_MUTEXES, reason="needs the mutexes of glibc")
@pytest.mark.parametrize("mutex", ["_READERS", "_WRITERS"])
def test_a_process_that_is_stopped_inside_lmdb_does_not_stop_others(path: Path, mutex: str) -> None:
    code = OPEN + "try: Store.open(argv[0]).put(Kind.TEXT, b'x')\nexcept StoreLocked: print('again')\n"
    Store.open(path).close()
    with doing(HOLD_MUTEX, path, getattr(_lock_file, mutex)):
        assert output(child(code, path)) == "StoreLocked\nagain"
    assert output(child(code, path)) == "0"  # the mutex outlives its owner


@pytest.mark.skipif(not _lock_file._KNOWN_MUTEXES, reason="needs the mutexes of glibc")
def test_a_hopeless_wait_is_waited_once(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    real = _lock_file._pauses

    def counted(timeout: float) -> Iterator[None]:
        pauses.append(timeout)
        return real(timeout)

    monkeypatch.setattr(fmt, "LMDB_TIMEOUT_S", 0.05)
    with Store.open(path) as store:
        monkeypatch.setattr(_lock_file, "_pauses", counted)
        with doing(HOLD_MUTEX, path, _lock_file._READERS):
            for _ in range(3):
                with pytest.raises(StoreLocked):
                    store.contexts()
            assert pauses == [0.05, 0.0, 0.0]
        assert store.contexts() == []


def test_a_lock_file_under_two_data_files_is_opened_once(path: Path) -> None:
    code = "fd = os.open(argv[0] + '/lock.mdb', os.O_RDWR)\n"
    code += "try: fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB, 1)\nexcept OSError: print('refused')\n"
    with Store.open(path):
        copy = path / "copy"
        copy.write_bytes((path / fmt.DATA_FILE).read_bytes())
        copy.chmod(0o600)
        copy.rename(path / fmt.DATA_FILE)
        with pytest.raises(StoreLocked):
            Store.open(path)
        assert output(child(code, path)) == "refused"  # the locks of the first are still there


def test_an_environment_of_others_keeps_its_locks(path: Path) -> None:
    code = "fd = os.open(argv[0] + '/lock.mdb', os.O_RDWR)\n"
    code += "try: fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB, 1)\nexcept OSError: print('refused')\n"
    Store.open(path).close()
    with lmdb.Environment(str(path)):
        for _ in range(2):
            with pytest.raises(StoreLocked):
                Store.open(path)
            assert output(child(code, path)) == "refused"
        assert len(_lock_file._kept) == 1
    Store.open(path).close()
    assert not _lock_file._kept


# -- a folder that is exchanged while it is opened


def exchanged(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put another store in the place of one, after it was checked and before LMDB opens it."""
    other = tmp_path / "other"
    for folder, text in (path, b"mine"), (other, b"theirs"):
        with Store.open(folder) as store:
            store.put(Kind.TEXT, text)
    real = _lmdb.open_environment

    def opening(*args: Any, **options: Any) -> lmdb.Environment:
        path.rename(tmp_path / "away")
        other.rename(path)
        return real(*args, **options)

    monkeypatch.setattr(_lmdb, "open_environment", opening)


@pytest.mark.parametrize("readonly", [False, True])
def test_the_folder_that_was_checked_is_the_one_that_is_opened(
    path: Path, tmp_path: Path, readonly: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    exchanged(path, tmp_path, monkeypatch)
    with Store.open(path, readonly=readonly) as store:
        assert [bytes(store.get(info.key).data) for info in store.list()] == [b"mine"]
        if not readonly:
            with pytest.raises(StoreNotFound):
                store.put(Kind.TEXT, b"x")


@pytest.mark.parametrize("readonly", [False, True])
def test_without_proc_an_exchange_is_noticed(
    path: Path, tmp_path: Path, readonly: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    exchanged(path, tmp_path, monkeypatch)
    without_proc(monkeypatch)
    with pytest.raises(StorePermissionError):
        Store.open(path, readonly=readonly)


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
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of forks with threads
            pid = os.fork()
        if not pid:
            status = 1
            try:
                store.contexts()
            except StorePermissionError:
                status = 0
            finally:
                os._exit(status)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


# -- what `enable` makes of all this


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
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(Store, "open", interrupt)
    with pytest.raises(KeyboardInterrupt):
        attach.enable(path)
