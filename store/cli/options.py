"""Options shared by verbs, and opening a store."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Final

import typer

from firebrick.errors import StoreReadOnly
from firebrick.settings import Settings
from firebrick.storage.store import Store

_AUTOLOAD: Final = "TORCH_DEVICE_BACKEND_AUTOLOAD"  # of torch: whether import torch calls backends
DEFAULT_STORE: Final = "~/.cache/firebrick"

StoreOption = Annotated[
    Path | None,
    typer.Option(
        "--store",
        metavar="DIR",
        help=f"Folder of the store. Default: FIREBRICK_CACHE_DIR, or {DEFAULT_STORE}.",
        show_default=False,
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON; docs/cli.md has the schemas.")]
TrustOption = Annotated[
    Path | None,
    typer.Option(
        "--trust-dir",
        metavar="DIR",
        envvar="FIREBRICK_TRUST_DIR",
        help="Folder of keys. Default: ~/.config/firebrick.",
        show_default=False,
    ),
]
ContextOption = Annotated[
    str, typer.Option("--context", metavar="NAME", help="Of the context that has the artifact.")
]
NamesArgument = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="NAME",
        help="Names of functions or modules (with * and ?), or digits of keys of bundles or recipes.",
        show_default=False,
    ),
]


def folder_of(store: Path | None) -> Path:
    """Return the directory of the store from an option, the environment, or the default."""
    if store is not None:
        return store.expanduser().absolute()
    cache = os.environ.get("XDG_CACHE_HOME")
    default = Path(cache, "firebrick") if cache else Path(DEFAULT_STORE).expanduser()
    named = {name: value for name, value in os.environ.items() if name == "FIREBRICK_CACHE_DIR"}
    return Settings.read(named).cache_dir or default


def opened(store: Path | None) -> Store:
    """Open an existing store for reading, alongside writers; the caller closes it.

    Raises:
        StoreError: it does not exist, or cannot be read.
    """
    folder = folder_of(store)
    try:
        return Store.open(folder, create=False)
    except StoreReadOnly:
        return Store.open(folder, readonly=True, create=False)


@contextmanager
def torch_alone() -> Iterator[None]:
    """Keep Firebrick and other backends from joining torch when a block imports it in this process."""
    before = os.environ.get(_AUTOLOAD)
    os.environ[_AUTOLOAD] = "0"
    try:
        yield
    finally:
        del os.environ[_AUTOLOAD]
        if before is not None:
            os.environ[_AUTOLOAD] = before


def opened_to_write(store: Path | None) -> Store:
    """Open an existing store for writing; the caller closes it.

    Raises:
        StoreError: it does not exist, or cannot be written to.
    """
    return Store.open(folder_of(store), create=False)
