"""What belongs to somebody else is refused with a typed error, or served; the user is not root."""

import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from firebrick import errors
from firebrick.storage import format as fmt
from firebrick.storage.format import Kind
from firebrick.storage.pack import Pack
from firebrick.storage.seal import seal
from firebrick.storage.store import Store
from firebrick.trust.folder import TrustFolder
from support.io_trace import in_child

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs to be root, to become somebody else")
NOBODY, OTHER = 65534, 12345

Change = Callable[[Path], object]
Outcome = type[errors.StoreError] | None


@pytest.fixture
def path() -> Iterator[Path]:
    """Make a store where everybody may look, as folders of tests are closed to others."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        with Store.open(Path(name, "store")) as store:
            store.put(Kind.TEXT, b"x")
            seal(store, Path(name, "m.pack"))
        own(NOBODY)(Path(name, "store"))
        yield Path(name, "store")


def own(user: int, *names: str) -> Change:
    """Return a change of who owns the store, or files of it."""

    def change(path: Path) -> None:
        for file in [path / name for name in names] if names else [path, *path.iterdir()]:
            os.chown(file, user, user)

    return change


def mode(bits: int, *names: str) -> Change:
    def change(path: Path) -> None:
        for file in [path / name for name in names] or [path]:
            file.chmod(bits)

    return change


def linked(name: str, *, hard: bool) -> Change:
    def change(path: Path) -> None:
        (path / name).rename(path.parent / "elsewhere")
        os.chown(path.parent / "elsewhere", OTHER, OTHER)
        (path / name).hardlink_to(path.parent / "elsewhere") if hard else (path / name).symlink_to(
            "../elsewhere"
        )

    return change


def both(*changes: Change) -> Change:
    return lambda path: [change(path) for change in changes]


DATA, LOCK = fmt.DATA_FILE, fmt.LOCK_FILE
READABLE = both(mode(0o755), mode(0o644, DATA, LOCK))
REFUSED = errors.StorePermissionError

# What is changed; what comes of opening it to write, and to read.
MATRIX: dict[str, tuple[Change, Outcome, Outcome]] = {
    "nothing": (own(NOBODY), None, None),
    "of another user": (own(OTHER), REFUSED, REFUSED),
    "of another user, to be read": (both(own(OTHER), READABLE), REFUSED, REFUSED),
    "of another user, open to all": (both(own(OTHER), mode(0o777), mode(0o666, DATA)), REFUSED, REFUSED),
    "of root": (own(0), errors.StoreReadOnly, REFUSED),
    "of root, to be read": (both(own(0), READABLE), errors.StoreReadOnly, None),
    "of root, open to all": (both(own(0), mode(0o777)), REFUSED, REFUSED),
    "the file of another user": (both(own(OTHER, DATA), mode(0o644, DATA)), REFUSED, REFUSED),
    "the lock file of another user": (both(own(OTHER, LOCK), mode(0o666, LOCK)), REFUSED, REFUSED),
    "the file of root": (both(own(0, DATA), mode(0o644, DATA)), errors.StoreReadOnly, None),
    "a file that others may write to": (mode(0o666, DATA), REFUSED, REFUSED),
    "a lock file that others may write to": (mode(0o622, LOCK), REFUSED, REFUSED),
    "a folder that is closed": (mode(0), REFUSED, REFUSED),
    "a folder to be searched only": (mode(0o100), REFUSED, None),
    "a folder to be read only": (mode(0o500), None, None),
    "a file that is closed": (mode(0, DATA), errors.StoreReadOnly, REFUSED),
    "a file to be read only": (mode(0o400, DATA), errors.StoreReadOnly, None),
    "a lock file that is closed": (mode(0, LOCK), errors.StoreReadOnly, None),
    "a parent that is closed": (lambda path: path.parent.chmod(0o700), REFUSED, REFUSED),
    "a link to the file of another user": (linked(DATA, hard=False), REFUSED, REFUSED),
    "the file of another user under a second name": (linked(DATA, hard=True), REFUSED, REFUSED),
    "a link to the lock file of another user": (linked(LOCK, hard=False), REFUSED, REFUSED),
}


def as_nobody(act: Callable[[], object]) -> None:
    """Run something as a user without rights; it must not raise."""

    def run() -> None:
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)
        act()

    assert in_child(run) == 0


def meets(path: Path, expected: Outcome, *, readonly: bool) -> None:
    if expected is None:
        with Store.open(path, readonly=readonly, create=False) as store:
            (info,) = store.list()
            assert store.get(info.key).data == b"x"
        return
    with pytest.raises(errors.StoreError) as caught:
        Store.open(path, readonly=readonly, create=False)
    assert type(caught.value) is expected, caught.value


@pytest.mark.parametrize("readonly", [False, True], ids=["write", "read"])
@pytest.mark.parametrize("name", MATRIX)
def test_a_store_is_refused_or_served_as_its_owner_and_its_rights_say(
    path: Path, name: str, readonly: bool
) -> None:
    change, *outcomes = MATRIX[name]
    change(path)
    as_nobody(lambda: meets(path, outcomes[readonly], readonly=readonly))


def test_a_pack_of_another_user_is_only_for_who_verifies_its_seal(path: Path) -> None:
    pack = path.parent / "m.pack"
    os.chown(pack, OTHER, OTHER)

    def act() -> None:
        with pytest.raises(errors.StorePermissionError):
            Pack.open(pack)
        Pack.open(pack, foreign=True).release()

    as_nobody(act)


def test_a_folder_of_keys_of_another_user_believes_nobody(path: Path) -> None:
    folder = TrustFolder(path.parent / "keys")
    folder.make("ours")
    for file in folder.path, *folder.path.iterdir():
        os.chown(file, OTHER, OTHER)
        file.chmod(0o755)

    def act() -> None:
        with pytest.raises(errors.FirebrickError, match="belongs to"):
            TrustFolder(folder.path).trusted()

    as_nobody(act)
