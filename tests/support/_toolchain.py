"""Keep what torch finds out about a machine's C++ compiler, so that each new home need not do it again.

Inductor builds a library for each set of vector instructions to see whether the compiler and the processor
have it (`VecISA.check_build` of ``torch/_inductor/cpu_vec_isa.py``), and compiles its headers beforehand
(`_precompile_header` of ``torch/_inductor/codecache.py``): more than half of what a small program takes. Both
name their files by content, flags and compiler, so that they are right in any folder.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

_PROBE = "_chk_kernel"  # stands in the source text of every such library


def take(toolchain: Path, home: Path) -> None:
    """Put the files of a toolchain into a home that has none; without a toolchain nothing happens."""
    _link((path for path in toolchain.rglob("*") if path.is_file()), toolchain, home)


def keep(toolchain: Path, home: Path) -> None:
    """Make a toolchain of what a process left in its home, if there is none yet and the home has all of it.

    Processes may do so at the same time: the first one counts.
    """
    files = [] if toolchain.exists() else list(_files(home))
    if not any(path.suffix == ".gch" for path in files):
        return
    toolchain.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=toolchain.parent) as name:
        made = Path(name) / "made"
        _link(files, home, made)
        try:
            made.rename(toolchain)
        except OSError:  # another process was quicker
            pass


def _link(files: Iterable[Path], folder: Path, other: Path) -> None:
    """Link files of a folder to the same names in another; nobody writes to them again."""
    for path in files:
        target = other / path.relative_to(folder)
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(path, target)
        except OSError:  # another file system
            shutil.copyfile(path, target)


def _files(home: Path) -> Iterator[Path]:
    headers = home.glob("tmp-files/*/precompiled_headers/*.h*")
    yield from (path for path in headers if path.is_file())  # a build that was killed leaves its folder
    for path in home.glob("cache-TORCHINDUCTOR/*/*.cpp"):
        library = path.with_suffix(".so")
        if library.exists() and _PROBE in path.read_text():
            yield from (path, library)
