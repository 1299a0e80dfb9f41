"""Run a program with Firebrick on."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from firebrick.cli.options import StoreOption, folder_of
from firebrick.cli.output import note
from firebrick.cli.started import PROGRAM_SETTINGS, Ended, start, summary
from firebrick.errors import WouldCompile

Verb = TypeVar("Verb", bound=Callable[..., Any])
ProgramArgument = Annotated[
    list[str],
    typer.Argument(
        metavar="PROGRAM",
        help="A Python file, -m module, -c code, or a command such as torchrun; then its arguments.",
    ),
]
JsonSummary = Annotated[
    bool, typer.Option("--json", help="The summary as JSON, in one line on standard error.")
]
LOCKED = {"FIREBRICK_LOCKED": "1", "FIREBRICK_RECORD": "0"}


def command_settings(command: Verb) -> Verb:
    """Let a verb accept a program with all its arguments."""
    command.context_settings = PROGRAM_SETTINGS  # type: ignore[attr-defined]
    return command


@command_settings
def command(
    program: ProgramArgument,
    store: StoreOption = None,
    locked: Annotated[
        bool, typer.Option("--locked", help="Fail with code 74 where anything would be compiled.")
    ] = False,
    lock_file: Annotated[
        Path | None,
        typer.Option(
            "--lock-file", metavar="FILE", help="With --locked: what the store must hold, from `lock`."
        ),
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No summary.")] = False,
    json: JsonSummary = False,
) -> None:
    """Run a program with Firebrick on, and report the savings on standard error.

    The exit code is the program's.
    """
    folder = folder_of(store)
    if lock_file is not None:
        from firebrick.cli.locking import check_lock

        check_lock(lock_file, folder)
    ended = start(program, folder, LOCKED if locked else {})
    report(ended, folder, quiet=quiet, json=json)
    if locked:
        prove(ended)
    raise typer.Exit(ended.code)


def report(ended: Ended, folder: Path, *, quiet: bool = False, json: bool = False) -> None:
    """Report the end of a program."""
    if json:
        from json import dumps

        value = {"schema": "firebrick.run/1", "code": ended.code, "store": str(folder), **ended.counts}
        print(dumps(value | {"told": ended.told}), file=sys.stderr)
    elif not quiet:
        for line in summary(ended, folder):
            note(line)


def prove(ended: Ended) -> None:
    """Raise unless a program used the store and compiled nothing.

    Raises:
        WouldCompile: naming functions that were, or would have been, compiled.
    """
    if ended.told:
        first = ended.told[0]
        raise WouldCompile(first["function"], first["reason"])
    if ended.compiled or ended.counts["faults"]:
        raise WouldCompile("a function", "the store could not serve it")
    if not ended.counts["processes"]:
        raise WouldCompile("whatever the program compiles", "no process of it used the store")
