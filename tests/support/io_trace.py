"""Trace what processes do to the files of a store, and kill them or fail a call at a chosen step.

A step is one call that changes a file of the folder, makes it durable or locks it. `io_shim.c` beside
this file counts them; it is compiled once, and loaded by LD_PRELOAD into a child that runs a program
with `Shim()`. That needs a C compiler, which torch needs as well.
"""

from __future__ import annotations

import ctypes
import os
import signal
import struct
import subprocess
import sys
import warnings
from collections.abc import Callable
from enum import IntEnum
from pathlib import Path
from typing import NamedTuple

SOURCE = Path(__file__).with_name("io_shim.c")
_RECORD = struct.Struct("=BBHIQQ")


class Op(IntEnum):
    """What a record of the log tells."""

    OPEN = 1  # a file was made
    WRITE = 2
    SIZE = 3  # its size is `offset` now
    SYNC = 4  # of a file or the folder
    UNLINK = 5
    RENAME = 6  # to the name in `data`
    MKDIR = 7
    LOCK = 8
    MARK = 9  # the program said so
    LINK = 10  # also named as in `data`


class How(IntEnum):
    """What becomes of the process at a step."""

    BEFORE = 1  # killed before it
    HALF = 2  # killed when half of a write is done
    AFTER = 3
    FAIL = 4  # the call fails with an error


class Event(NamedTuple):
    """One record; `path` is relative to the folder, that of a mark its text."""

    op: Op
    path: str
    offset: int
    data: bytes


def compiled(folder: Path) -> Path:
    """Compile the shim into a folder, and return the library."""
    library = folder / "io_shim.so"
    compiler = os.environ.get("CC", "cc")
    command = [compiler, "-shared", "-fPIC", "-O2", "-o", str(library), str(SOURCE), "-ldl"]
    subprocess.run(command, check=True)
    return library


def run(library: Path, program: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run a program under the shim."""
    environ = os.environ | {"LD_PRELOAD": str(library)}
    command = [sys.executable, str(program), *map(str, arguments)]
    return subprocess.run(command, env=environ, capture_output=True, text=True, check=False)


class Shim:
    """Speak to the shim in this process; forks inherit what was set."""

    def __init__(self) -> None:
        self._library = ctypes.CDLL(None)
        self._library.shim_steps.restype = ctypes.c_long

    def watch(self, folder: Path, log: int = -1) -> None:
        """Watch the files of a folder from now on; records go to a descriptor that appends."""
        self._library.shim_watch(os.fsencode(folder), log)

    def act(self, at: int, how: How, error: int = 0) -> None:
        """Count steps anew, and do something at the so-many-th."""
        self._library.shim_act(ctypes.c_long(at), int(how), error)

    @property
    def steps(self) -> int:
        """How many steps there were."""
        return int(self._library.shim_steps())

    def mark(self, text: str) -> None:
        """Write a mark to the log."""
        self._library.shim_mark(text.encode())


def read_log(path: Path) -> list[Event]:
    """Read a whole log."""
    data, at, events = path.read_bytes(), 0, []
    while at < len(data):
        op, _, path_length, _, offset, length = _RECORD.unpack_from(data, at)
        at += _RECORD.size
        name = data[at : at + path_length].decode()
        at += path_length + length
        events.append(Event(Op(op), name, offset, data[at - length : at]))
    return events


def in_child(action: Callable[[], object], limit: int = 120) -> int:
    """Run something in a forked child; return 0, 1 if it raised, or the negative of what killed it.

    Args:
        action: what is run.
        limit: seconds after which the child is killed (by SIGALRM).
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forks with threads
        pid = os.fork()
    if not pid:
        status = 1
        try:
            signal.alarm(limit)
            action()
            status = 0
        except BaseException as error:
            print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
