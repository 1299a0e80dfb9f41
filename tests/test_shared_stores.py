"""Starts from stores that others share: a pack on a read-only mount, a layer, and in CI of a change."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from firebrick.storage.seal import seal
from firebrick.storage.store import Store
from firebrick.trust.folder import TrustFolder
from support.faults import mounted
from support.places import PROGRAMS
from support.programs import Finished, start

pytestmark = pytest.mark.compiles

PROGRAM = PROGRAMS / "modelled.py"
WRITES = (
    "write,pwrite64,writev,pwritev,pwritev2,openat,open,creat,ftruncate,truncate,fallocate,unlink,unlinkat,"
    "rename,renameat,renameat2,mkdir,mkdirat,link,linkat,symlink,symlinkat,chmod,fchmod,fchmodat,utimensat,"
    "setxattr,fsetxattr,mmap,flock,sendfile,copy_file_range"
)
READING = re.compile(r"openat\(.*O_RDONLY|mmap\(.*(PROT_READ|PROT_NONE)(?!\|PROT_WRITE)|mmap\(.*MAP_PRIVATE")


class Shared:
    """A store that a program filled, and starts of that program."""

    def __init__(self, root: Path) -> None:
        self.root, self.home, self.store = root, root / "home", root / "store"
        self.output = self.run().stdout
        self.data = (self.store / "data.mdb").read_bytes()

    def run(self, *more: str, before: tuple[str, ...] = (), **variables: str) -> Finished:
        """Run the program, under another one where `before` names it."""
        env = {"FIREBRICK_CACHE_DIR": str(self.store), "FIREBRICK_SELF_TEST": "0", **variables}
        command = ["-m", "firebrick.cli", "run", str(PROGRAM), *more]
        if before:
            inside = f"import os, sys; c = {[*before]!r} + [sys.executable] + {command!r}; os.execvp(c[0], c)"
            command = ["-c", inside]
        done = start(command, home=self.home, env=env)
        assert done.returncode == 0, done.stderr
        assert "FirebrickWarning" not in done.stderr
        return done


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Shared:
    return Shared(tmp_path_factory.mktemp("shared"))


def bundles(path: Path) -> int:
    with Store.open(path, readonly=True) as store:
        return store.stat().bundles


@pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace")
def test_a_pack_on_a_read_only_mount_serves_without_a_single_write(shared: Shared, tmp_path: Path) -> None:
    folder, log = tmp_path / "packs", tmp_path / "log"
    folder.mkdir()
    with Store.open(shared.store, readonly=True) as store:
        contexts = [name for name in store.contexts() if name.startswith(".")]
        seal(store, folder / "m.pack", contexts=contexts)
    if subprocess.run(["strace", "-o", log, "true"], capture_output=True).returncode:
        pytest.skip("needs to be let trace")
    with mounted(tmp_path / "mount", "--bind", str(folder)) as mount:
        subprocess.run(["mount", "-o", "remount,ro,bind", mount], check=True)
        before = ("strace", "-f", "-y", "-qq", "-e", f"trace={WRITES}", "-o", str(log))
        done = shared.run(before=before, FIREBRICK_CACHE_DIR=str(mount / "m.pack"), FIREBRICK_READONLY="1")
    assert done.stdout == shared.output
    assert "3 hits (3 without the compiler), 0 misses, 0 stored" in done.stderr
    calls = [line for line in log.read_text(errors="replace").splitlines() if str(mount) in line]
    assert calls
    assert [call for call in calls if not READING.search(call)] == []


def test_a_layer_serves_and_what_is_new_goes_to_the_store_upon_it(shared: Shared, tmp_path: Path) -> None:
    own = tmp_path / "own"
    variables = {"FIREBRICK_CACHE_DIR": str(own), "FIREBRICK_LAYERS": f"{shared.store}#none"}
    first = shared.run(**variables)
    assert first.stdout == shared.output
    assert "3 hits (3 without the compiler), 0 misses, 0 stored" in first.stderr
    assert bundles(own) == 0
    second = shared.run("3.0", **variables)
    assert "2 hits (2 without the compiler), 1 miss, 1 stored" in second.stderr
    assert bundles(own) == 1
    third = shared.run("3.0", **variables)
    assert third.stdout == second.stdout
    assert "3 hits (3 without the compiler), 0 misses, 0 stored" in third.stderr
    assert (shared.store / "data.mdb").read_bytes() == shared.data


def test_ci_of_a_pull_request_is_served_and_writes_nothing(shared: Shared) -> None:
    pull = {"GITHUB_ACTIONS": "true", "GITHUB_EVENT_NAME": "pull_request"}
    served = shared.run("3.0", **pull)
    assert "2 hits (2 without the compiler), 1 miss, 0 stored" in served.stderr
    assert (shared.store / "data.mdb").read_bytes() == shared.data
    allowed = shared.run("3.0", **pull, FIREBRICK_RECORD="1")
    assert "1 stored" in allowed.stderr


def test_a_store_that_requires_signatures_is_filled_by_who_has_the_key(
    shared: Shared, tmp_path: Path
) -> None:
    TrustFolder(tmp_path / "keys").make("ours")
    variables = {
        "FIREBRICK_CACHE_DIR": str(tmp_path / "store"),
        "FIREBRICK_TRUST_DIR": str(tmp_path / "keys"),
        "FIREBRICK_SIGNATURES": "require",
    }
    assert "3 stored" in shared.run(**variables, FIREBRICK_SIGN="ours").stderr
    assert "3 hits (3 without the compiler), 0 misses" in shared.run(**variables).stderr
