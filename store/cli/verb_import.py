"""Read bundles from a file that `firebrick export` wrote, or from another store."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from firebrick.cli import output
from firebrick.cli.options import NamesArgument, StoreOption, folder_of
from firebrick.cli.selection import selected
from firebrick.cli.transfer import copy, refuse_damaged
from firebrick.errors import StoreDamaged, StoreNotFound
from firebrick.reports.inventory import inventory
from firebrick.storage.format import DATA_FILE
from firebrick.storage.store import Store


def command(
    source: Annotated[
        Path, typer.Argument(metavar="FILE", help="From `firebrick export`, or a store's folder.")
    ],
    names: NamesArgument = None,
    store: StoreOption = None,
) -> None:
    """Import bundles, all or the named ones, into the store, which is created if missing.

    Every byte is checked first; a digest detects damage, not authorship: import only what you would run.
    """
    with output.progress("importing"), _opened(source.expanduser().absolute()) as foreign:
        refuse_damaged(str(source), foreign)
        with foreign.snapshot() as snapshot, Store.open(folder_of(store)) as target:
            copied = copy(snapshot, target, selected(inventory(snapshot).bundles, names))
    known = f", {copied.known} were there" if copied.known else ""
    output.note(f"{output.counted(copied.new, 'bundle')} new{known}; store {folder_of(store)}")


@contextmanager
def _opened(source: Path) -> Iterator[Store]:
    """Open a file or directory from elsewhere, after checking its structure without trusting a byte."""
    if not source.exists():
        raise StoreNotFound(source, "no such file")
    with tempfile.TemporaryDirectory(prefix="firebrick-import-") as folder:
        data = source / DATA_FILE if source.is_dir() else source
        if not data.is_file():
            raise StoreNotFound(source, f"no {DATA_FILE} in it")
        shutil.copyfile(data, Path(folder, DATA_FILE))
        Path(folder, DATA_FILE).chmod(0o600)
        if faults := Store.verify(folder):
            raise StoreDamaged(source, faults[0])
        with Store.open(folder, create=False) as store:
            yield store
