"""Record a program's requirements of a store."""

from json import dumps
from pathlib import Path
from typing import Annotated

import typer

from firebrick.cli import output
from firebrick.cli.locking import lock
from firebrick.cli.options import StoreOption, folder_of, opened
from firebrick.cli.started import start
from firebrick.cli.verb_run import ProgramArgument, command_settings, prove, report
from firebrick.reports.inventory import inventory


@command_settings
def command(
    program: ProgramArgument,
    file: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="The lock file.")] = Path(
        "firebrick.lock"
    ),
    store: StoreOption = None,
) -> None:
    """Run a program that compiles nothing, and record its requirements of the store.

    `firebrick run --locked --lock-file FILE` then fails before the start if a store lacks any of them. Fails
    with 74, and writes nothing, if the program compiles.
    """
    folder = folder_of(store)
    ended = start(program, folder, {"FIREBRICK_LOCKED": "1", "FIREBRICK_RECORD": "0"})
    report(ended, folder, quiet=True)
    prove(ended)
    if ended.code:
        raise typer.Exit(ended.code)
    with opened(store) as source, source.snapshot() as snapshot:
        held = [bundle for bundle in inventory(snapshot).bundles if bundle.recipe.hex() in ended.recipes]
    value = lock(held)
    file.write_text(dumps(value, indent=2) + "\n")
    output.note(f"{file} names {output.counted(len(value['bundles']), 'bundle')}")
