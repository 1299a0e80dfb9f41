"""Fill a store by running a program."""

from typing import Annotated

import typer

from firebrick.cli.options import StoreOption, folder_of
from firebrick.cli.output import note
from firebrick.cli.started import start
from firebrick.cli.verb_run import LOCKED, JsonSummary, ProgramArgument, command_settings, prove, report

_SETTINGS = {
    "FIREBRICK_RECORD": "1",
    "FIREBRICK_LOAD": "1",
    "FIREBRICK_COMPILE_BACKWARD": "1",
    "FIREBRICK_SELF_TEST": "1",
}


@command_settings
def command(
    program: ProgramArgument,
    store: StoreOption = None,
    proved: Annotated[
        bool, typer.Option("--prove", help="Start it a second time, and fail with 74 where that compiles.")
    ] = False,
    json: JsonSummary = False,
) -> None:
    """Run a program to fill the store: backward graphs that never ran are compiled too, and bundles tested.

    The exit code is the program's.
    """
    folder = folder_of(store)
    ended = start(program, folder, _SETTINGS)
    report(ended, folder, json=json)
    if proved and not ended.code:
        second = start(program, folder, LOCKED)
        prove(second)
        note("a second start compiled nothing")
        ended = second
    raise typer.Exit(ended.code)
