"""The checks of `firebrick doctor`: each reports its finding and, if something is wrong, what to do.

Nothing here imports torch, loads a driver, or changes a directory.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Final

from firebrick.base.namedtuple import NamedTuple
from firebrick.errors import FirebrickError, UsageError
from firebrick.reports.inventory import EAGER, FULL, LEAN, inventory
from firebrick.settings import Settings, misspelt
from firebrick.storage.directory import filesystem
from firebrick.storage.lmdb_api import build
from firebrick.storage.store import Store
from firebrick.torch_api import MINORS
from firebrick.torch_api.minors import minor_of

OK: Final = "ok"
WARN: Final = "warning"
BAD: Final = "bad"
_LIBRARIES: Final = ("lmdb", "msgpack", "blake3", "zstandard")
_NVIDIA: Final = Path("/proc/driver/nvidia")
_FREE_AT_LEAST: Final = 1 << 30  # bytes


class Finding(NamedTuple):
    """The result of a check: its name, `OK`, `WARN` or `BAD`, the finding, and what to do."""

    name: str
    state: str
    detail: str
    hint: str = ""


def findings(folder: Path, store_named: bool) -> list[Finding]:
    """Yield the findings of all checks.

    Args:
        folder: of the store.
        store_named: whether an option or a variable names it.
    """
    checks: tuple[Callable[[], Iterator[Finding]], ...] = (
        _python, _torch, _start, _variables, _engine, _compiler, _gpu,
        lambda: _folder(folder, store_named), lambda: _lanes(folder),
    )  # fmt: skip
    return [finding for check in checks for finding in check()]


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""


def _python() -> Iterator[Finding]:
    libraries = ", ".join(f"{name} {_version(name) or 'missing'}" for name in _LIBRARIES)
    yield Finding("python", OK, f"{sys.version.split()[0]}, {sys.executable}")
    yield Finding("firebrick", OK, f"{_version('firebrick')}; {libraries}")


def _torch() -> Iterator[Finding]:
    supported = f"supported are {MINORS[0]} to {MINORS[-1]}"
    if not (version := _version("torch")):
        yield Finding("torch", BAD, f"not installed; {supported}", "pip install 'firebrick[torch]'")
    elif minor_of(version) in MINORS:
        yield Finding("torch", OK, f"{version}; {supported}")
    else:
        hint = "Use a supported torch; until then programs run as without Firebrick."
        yield Finding("torch", BAD, f"{version} is not supported; {supported}", hint)


def _start() -> Iterator[Finding]:
    """Check whether `import torch` calls Firebrick."""
    if not metadata.entry_points(group="torch.backends", name="firebrick"):
        hint = "Install Firebrick with pip, or call firebrick.enable() in the program."
        yield Finding("start", WARN, "torch does not know of Firebrick", hint)
    elif os.environ.get("TORCH_DEVICE_BACKEND_AUTOLOAD", "1") == "0":
        hint = "Unset it, or call firebrick.enable() in the program."
        yield Finding(
            "start", BAD, "TORCH_DEVICE_BACKEND_AUTOLOAD=0 keeps torch from calling Firebrick", hint
        )
    else:
        yield Finding("start", OK, "import torch calls Firebrick")


def _variables() -> Iterator[Finding]:
    for name, near in misspelt().items():
        hint = f"Is {near} meant?" if near else "README.md lists the settings."
        yield Finding("variables", WARN, f"{name} is no setting, and does nothing", hint)
    try:
        chosen = Settings.read()
    except UsageError as error:
        yield Finding(
            "variables", BAD, str(error), "Programs that import torch warn, and run without Firebrick."
        )
        return
    named = {
        name: value for name, value in chosen._asdict().items() if value != Settings._field_defaults[name]
    }
    words = ", ".join(f"{name} = {value}" for name, value in named.items())
    yield Finding("variables", OK, words or "every setting has its default")


def _engine() -> Iterator[Finding]:
    version, hardened = build()
    if hardened:
        yield Finding("lmdb", OK, f"LMDB {version}, with py-lmdb's patches against damaged files")
    else:
        which = (
            "which build is not known"
            if hardened is None
            else "without py-lmdb's patches against damaged files"
        )
        yield Finding("lmdb", WARN, f"LMDB {version}, {which}", "Install lmdb from its wheel.")


def _compiler() -> Iterator[Finding]:
    names = [os.environ.get("CXX", ""), "g++", "clang++"]
    found = next((path for name in names if name and (path := shutil.which(name))), None)
    if found is None:
        hint = "What is stored is served without it; for new functions on the CPU install g++."
        yield Finding("compiler", WARN, "no C++ compiler on PATH", hint)
        return
    try:
        done = subprocess.run([found, "--version"], capture_output=True, text=True, timeout=10, check=False)
        first = done.stdout.partition("\n")[0]
    except (OSError, subprocess.TimeoutExpired) as error:
        yield Finding(
            "compiler", WARN, f"{found} does not run: {error}", "Functions on the CPU cannot be compiled."
        )
        return
    yield Finding("compiler", OK, f"{found}: {first}")


def _gpu() -> Iterator[Finding]:
    """Read the NVIDIA driver's entries in /proc, without loading it."""
    models = []
    for file in sorted((_NVIDIA / "gpus").glob("*/information")):
        found = re.search(r"^Model:\s*(.+)$", file.read_text(errors="replace"), re.MULTILINE)
        models.append(found[1].strip() if found else "a GPU")
    if not models:
        yield Finding("gpu", OK, "no NVIDIA GPU: functions of the CPU alone")
        return
    number = re.search(r"(\d+\.\d+[.\d]*)", (_NVIDIA / "version").read_text(errors="replace"))
    driver = f"driver {number[1]}" if number else "driver of unknown version"
    words = ", ".join(f"{models.count(model)} × {model}" for model in dict.fromkeys(models))
    triton = _version("triton")
    yield Finding("gpu", OK, f"{words}, {driver}; triton {triton or 'missing'}")
    if "+cpu" in _version("torch"):
        yield Finding("gpu", WARN, "this torch is built for the CPU alone", "Install a torch with CUDA.")
    elif not triton:
        hint = "What is stored is served without it; new functions need it."
        yield Finding("gpu", WARN, "Triton is not installed", hint)


def _folder(folder: Path, store_named: bool) -> Iterator[Finding]:
    if not store_named:
        hint = "Set FIREBRICK_CACHE_DIR, or start programs by `firebrick run`."
        yield Finding("store", WARN, f"no variable names a folder; `firebrick run` uses {folder}", hint)
    if not folder.exists():
        yield Finding("store", OK, f"{folder} is not there yet; the first program makes it")
        return
    kind = filesystem(os.path.realpath(folder)) or "an unknown file system"
    try:
        with Store.open(folder, readonly=True, create=False) as store:
            disk = store.stat().bytes_on_disk
    except FirebrickError as error:
        yield Finding("store", BAD, str(error), error.hint)
        return
    free = shutil.disk_usage(folder).free
    low = free < _FREE_AT_LEAST
    words = f"{folder} on {kind}: {disk / 2**20:.1f} MiB, {free / 2**30:.1f} GiB free"
    yield Finding("store", WARN if low else OK, words, "Free some space." if low else "")
    if not os.access(folder, os.W_OK):
        hint = "Programs are served from it, and store nothing; FIREBRICK_READONLY=1 says that it is meant."
        yield Finding("store", WARN, f"{folder} cannot be written to", hint)


def _lanes(folder: Path) -> Iterator[Finding]:
    """Report the lane to expect from the stored bundles."""
    if not (folder / "data.mdb").exists():
        return
    try:
        with Store.open(folder, readonly=True, create=False) as store, store.snapshot() as snapshot:
            held = [bundle for bundle in inventory(snapshot).bundles if bundle.lane != EAGER]
    except FirebrickError:
        return  # reported above
    if not held:
        yield Finding("lanes", OK, "nothing is stored yet")
        return
    version = _version("torch")
    here = [bundle for bundle in held if bundle.components.get("platform.torch") == version or not version]
    if len(here) < len(held):
        others = {bundle.components.get("platform.torch", "?") for bundle in held} - {version}
        number = len(held) - len(here)
        hint = "They serve where that torch is; here the functions are compiled once."
        yield Finding(
            "lanes", WARN, f"{number} of {len(held)} bundles are for torch {', '.join(sorted(others))}", hint
        )
    lean = sum(bundle.lane == LEAN for bundle in here)
    words = f"{lean} of {len(here)} bundles for this torch are served without the compiler"
    if os.environ.get("FIREBRICK_LEAN", "1").strip().lower() in ("0", "false", "no", "off"):
        yield Finding("lanes", WARN, "FIREBRICK_LEAN=0: the compiler is imported at every start", "Unset it.")
    reasons = sorted({bundle.why for bundle in here if bundle.lane == FULL})
    yield Finding(
        "lanes", OK, words + (f"; the others take the full lane: {'; '.join(reasons[:3])}" if reasons else "")
    )
