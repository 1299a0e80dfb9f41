"""Make faults of disks, processes and folders, for tests of what a store does about them.

What needs to be root is skipped elsewhere. Everything is undone at the end of a block or a test.
"""

import contextlib
import os
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import lmdb
import pytest

from firebrick.storage import directory, lmdb_api
from firebrick.storage import format as fmt

HEAD = """
import contextlib, ctypes, fcntl, mmap, os, signal, sys, warnings
from firebrick.session import session as attach
from firebrick.storage import lmdb_api as _lmdb
from firebrick.storage import format as fmt
from firebrick.errors import *
from firebrick.storage.format import Kind
from firebrick.storage.store import *
argv = sys.argv[1:]
"""


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
    """Write to a file system until it has no block left."""
    fd = os.open(folder / "fill", os.O_WRONLY | os.O_CREAT)
    for size in 1 << 20, 1 << 12, 1 << 10:
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
    """Have stores find no /proc."""
    monkeypatch.setattr(directory, "_DESCRIPTORS", "/nowhere")
    monkeypatch.setattr(directory, "_MOUNTINFO", "/nowhere")


def unwritable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the system say that nothing may be written to."""
    real = os.access

    def access(name: str, mode: int, **options: Any) -> bool:
        return not mode & os.W_OK and real(name, mode, **options)

    monkeypatch.setattr(os, "access", access)


def exchange_after_check(path: Path, other: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put another folder in the place of one, after that was checked and before LMDB opens it."""
    real = lmdb_api.open_environment

    def opening(*args: Any, **options: Any) -> lmdb.Environment:
        if other.exists():
            path.rename(path.with_name("away"))
            other.rename(path)
        return real(*args, **options)

    monkeypatch.setattr(lmdb_api, "open_environment", opening)


# Programs for `doing`, with the path of a store: they are stopped while they hold a lock of LMDB's.
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


def forked(act: Callable[[], object]) -> int:
    """Run something in a child, and return its status: 0 if it gave something true."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forks with threads
        pid = os.fork()
    if not pid:
        status = 1
        try:
            status = int(not act())
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
