"""Load kernel libraries from memory, without torch's compiler.

Source followed: ``CppPythonBindingsCodeCache._load_library_inner`` of ``torch/_inductor/codecache.py``.
"""

from __future__ import annotations

import importlib.machinery
import importlib.util
import itertools
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import torch

from firebrick.errors import InternalError

ENTRY: Final = "kernel"  # name of the function in every kernel library

_count = itertools.count(1)


def load_extension(name: str, path: str) -> Any:
    """Return a library loaded as an extension module, from a path without a suffix.

    Args:
        name: unique name; its last component is the module's in the library.
        path: of the bytes while it is loaded.

    Raises:
        ImportError, OSError: it is not an extension module, or lacks a symbol.
    """
    # generated code reads tensors through the function at this address
    os.environ["_TORCHINDUCTOR_PYOBJECT_TENSOR_DATA_PTR"] = str(
        torch._C._dynamo.guards._torchinductor_pyobject_tensor_data_ptr  # type: ignore[attr-defined]
    )
    loader = importlib.machinery.ExtensionFileLoader(name, path)
    spec = importlib.util.spec_from_loader(name, loader, origin=path)
    if spec is None:
        raise InternalError(f"no module specification for {name}")
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module


_DESCRIPTORS = "/proc/self/fd"


@contextmanager
def as_file(data: bytes) -> Iterator[str]:
    """Give bytes a path they can be executed from: in memory, else in a private directory.

    Raises:
        OSError: there is neither memory nor a directory for them.
    """
    fd = _memory()
    if fd is None:
        with tempfile.TemporaryDirectory(prefix="firebrick-") as folder:
            path = os.path.join(folder, "library.so")
            with open(path, "wb") as file:
                file.write(data)
            yield path
        return
    try:
        with os.fdopen(os.dup(fd), "wb") as file:
            file.write(data)
        # The dynamic linker takes a path seen before for the library it found there, and descriptor numbers
        # are reused: so every path is spelt differently.
        spelling = "".join("//." if bit == "1" else "/." for bit in f"{next(_count):b}")
        yield f"{_DESCRIPTORS}{spelling}/{fd}"
    finally:
        os.close(fd)


def _memory() -> int | None:
    """Open an in-memory file; None if the system has none, or no path to it (/proc is not mounted)."""
    try:
        fd = os.memfd_create("firebrick", os.MFD_CLOEXEC)
    except OSError:
        return None
    if os.path.exists(f"{_DESCRIPTORS}/{fd}"):
        return fd
    os.close(fd)
    return None
