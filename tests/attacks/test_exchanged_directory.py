"""Who may write to a parent directory exchanges a store while it is opened, as fast as can be."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from firebrick.errors import FirebrickError
from firebrick.storage.format import Kind
from firebrick.storage.store import Store
from support.faults import doing

OPENINGS = 300
OURS, EVIL = b"ours" * 500, b"evil" * 500

# renameat2(2) with RENAME_EXCHANGE: no moment is without a directory
EXCHANGE = """
libc = ctypes.CDLL(None, use_errno=True)
a, b = (os.fsencode(path) for path in argv)
print("ready", flush=True)
while not libc.renameat2(-100, a, -100, b, 2):
    pass
print(os.strerror(ctypes.get_errno()), flush=True)
"""


def filled(path: Path, data: bytes) -> Path:
    with Store.open(path) as store:
        store.put(Kind.TEXT, data)
    return path


def foreign(path: Path) -> Path:
    """Make a store what `Store.open` must refuse: another user's, or one that others may write to."""
    if os.geteuid() == 0:
        for name in path, *path.iterdir():
            os.chown(name, 65534, 65534)
    else:
        path.chmod(0o777)
    return path


def link(tmp_path: Path) -> Path:
    """Make a symbolic link to a store of this user."""
    path = tmp_path / "link"
    path.symlink_to(filled(tmp_path / "behind the link", EVIL))
    return path


@contextlib.contextmanager
def exchanged(path: Path, other: Path) -> Iterator[None]:
    """Exchange two paths for ever, in another process."""
    with doing(EXCHANGE, path, other) as process:
        yield
        if process.poll() is not None:
            pytest.skip("the system exchanges no names")


def opened(path: Path, *, readonly: bool) -> bytes:
    """Open a store, and return what its only blob holds; nothing if it is refused."""
    with contextlib.suppress(FirebrickError), Store.open(path, create=False, readonly=readonly) as store:
        (info,) = store.list()
        return bytes(store.get(info.key).data)
    return b""


@pytest.mark.parametrize("readonly", [False, True])
@pytest.mark.parametrize("other", ["foreign", "link"])
def test_a_directory_that_is_exchanged_in_a_race_is_never_the_one_that_is_read(
    tmp_path: Path, other: str, readonly: bool
) -> None:
    path = filled(tmp_path / "store", OURS)
    evil = foreign(filled(tmp_path / "evil", EVIL)) if other == "foreign" else link(tmp_path)
    with exchanged(path, evil):
        met = {opened(path, readonly=readonly) for _ in range(OPENINGS)}
        for _ in range(100 * OPENINGS):  # on a busy machine they may take turns
            if len(met) > 1:
                break
            met.add(opened(path, readonly=readonly))
    assert met == {b"", OURS}
