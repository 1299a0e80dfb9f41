"""All private parts of torch that Firebrick uses, with one module per torch minor version.

The rest of Firebrick calls `load` for the module of the running torch and never imports a private name of
torch itself. An unknown minor, or a known one that lacks a name we need, is `Unsupported`: Firebrick stays
inactive and torch works as if it were absent.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType

from firebrick.errors import Unsupported
from firebrick.torch_api.minors import STAND_INS, minor_of

MINORS = ("2.11", "2.12", "2.13", "2.14")


def imported(name: str) -> ModuleType | None:
    """Return a module if its import is complete.

    That excludes one that another thread is importing, and stand-ins (which have no spec).
    """
    module = sys.modules.get(name)
    spec = getattr(module, "__spec__", None)
    return None if spec is None or getattr(spec, "_initializing", False) else module


@functools.cache
def _probe(minor: str) -> ModuleType:
    try:
        module = importlib.import_module(f"firebrick.torch_api.v{minor.replace('.', '_')}")
        module.probe()
    except (ImportError, AttributeError) as error:
        raise Unsupported(f"torch {minor} lacks a name that Firebrick needs: {error}") from error
    return module


def check_installed() -> None:
    """Check the torch that is or would be imported, without importing any of it.

    Raises:
        Unsupported: its minor is not in `MINORS`. Without torch, or without its version, nothing is known
            yet: `check_minor` checks again.
    """
    if (version := installed_version()) is not None:
        _supported(version)


def installed_version() -> str | None:
    """Return the version of the torch that is imported, or would be; None where none says it."""
    if (torch := sys.modules.get("torch")) is not None:
        return vars(torch).get("__version__")
    spec = importlib.util.find_spec("torch")
    for folder in () if spec is None else spec.submodule_search_locations or ():
        with contextlib.suppress(OSError):
            found = re.search(
                r"^__version__ = '([^']+)'", Path(folder, "version.py").read_text(), re.MULTILINE
            )
            return None if found is None else found[1]
    return None


def _supported(version: str) -> str:
    minor = STAND_INS.get(minor_of(version), minor_of(version))
    if minor not in MINORS:
        raise Unsupported(
            f"torch {version}; supported are {', '.join(MINORS)}: install one of these, "
            f"or a release of Firebrick that supports {minor}"
        )
    return minor


def check_minor() -> str:
    """Return the minor version of the running torch, without importing its compiler.

    Raises:
        Unsupported: the minor is not in `MINORS`, or lacks a name that needs no compiler.
    """
    import torch

    minor = _supported(torch.__version__)
    try:
        from firebrick.torch_api import native

        native.probe()
    except (ImportError, AttributeError) as error:
        raise Unsupported(f"torch {minor} lacks a name that Firebrick needs: {error}") from error
    return minor


def load() -> ModuleType:
    """Return the module for the running torch. Imports torch's compiler.

    Raises:
        Unsupported: the minor is not in `MINORS`, or lacks a name we need.
    """
    return _probe(check_minor())
