"""Write bundles into one file."""

import os
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from firebrick.cli import output
from firebrick.cli.options import NamesArgument, StoreOption, opened
from firebrick.cli.selection import selected
from firebrick.cli.transfer import copy
from firebrick.errors import UsageError
from firebrick.reports.inventory import inventory
from firebrick.storage.format import DATA_FILE
from firebrick.storage.store import Store


def command(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="To write; it must not be there.")],
    names: NamesArgument = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a file that is there.")] = False,
    store: StoreOption = None,
) -> None:
    """Write bundles, all or the named ones, into one file that `firebrick import` reads elsewhere.

    Whoever can change the file decides what is run: treat it like a program.
    """
    file = file.expanduser().absolute()
    if file.exists() and not force:
        raise UsageError(f"{file} is there already: --force replaces it")
    if not file.parent.is_dir():
        raise UsageError(f"{file.parent} is no folder")
    with (
        opened(store) as source,
        tempfile.TemporaryDirectory(prefix=f".{file.name}-", dir=file.parent) as beside,
        output.progress("exporting"),
    ):
        folder = Path(beside, "store")
        with source.snapshot() as snapshot, Store.open(folder) as target:
            copied = copy(snapshot, target, selected(inventory(snapshot).bundles, names))
        os.replace(folder / DATA_FILE, file)
    size = file.stat().st_size
    output.note(f"{file} has {output.counted(copied.new, 'bundle')}, {output.size(size)}")
