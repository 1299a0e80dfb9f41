"""The group of verbs, with their names and summaries; it imports a verb's module when it runs.

Modules of verbs must not use ``from __future__ import annotations``: typer would evaluate the texts.
"""

import importlib
import sys
from collections.abc import Mapping
from typing import Any, Final

import typer
from typer.core import TyperGroup
from typer.main import get_command

from firebrick.errors import FirebrickError, StoreError

# In the order of use. The module of a verb is `verb_<name>`, its function `command`.
VERBS: Final[Mapping[str, str]] = {
    "run": "Run a program with Firebrick on, and report the savings.",
    "ls": "List the store's contents, by names of models and functions.",
    "show": "Show a stored function as a tree, down to guards, kernels and sources.",
    "stats": "Count the contents of the store.",
    "explain": "Explain why functions were compiled or not stored in recent runs.",
    "du": "Show space usage, shared and unique.",
    "check": "Check for damage, byte by byte.",
    "gc": "Collect garbage, and limit the store's size.",
    "rm": "Remove stored functions.",
    "pin": "Protect stored functions from eviction.",
    "doctor": "Check everything Firebrick depends on here.",
    "warm": "Run a program to fill the store.",
    "lock": "Record a program's requirements of the store, for `run --locked`.",
    "export": "Write bundles into one file.",
    "import": "Import bundles from such a file, or from another store.",
    "seal": "Write functions into an immutable pack.",
    "keys": "List, create, trust and revoke signature keys.",
    "sign": "Sign the contents of a store or pack.",
    "verify": "Verify the signatures of a store or pack.",
    "diff": "Show how two stored functions differ.",
    "edit": "Edit the source of a stored function, in $EDITOR.",
    "history": "List the revisions of a function's sources.",
    "revert": "Return to an earlier revision of a source.",
    "bench": "Measure starts of a program: cold, from torch's caches, from a store.",
    "demo": "Demonstrate Firebrick on a small bundled model.",
}


_OF_SYSTEM: Final = "The system does not allow it: look at the file or folder, and at the room on the disk."


class Verbs(TyperGroup):
    """The verbs as commands, each made on demand."""

    def __init__(self, **settings: Any) -> None:
        """Fill in the names, for suggestions when one is misspelt."""
        super().__init__(**settings)
        names: dict[str, Any] = dict.fromkeys(VERBS)
        self.commands = names

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the names, in the order of use."""
        return list(VERBS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Return a verb as a command; None if there is no such verb."""
        if cmd_name not in VERBS:
            return None
        command = importlib.import_module(f"firebrick.cli.verb_{cmd_name}").command
        context = {"help_option_names": ["-h", "--help"], **getattr(command, "context_settings", {})}
        app = typer.Typer(add_completion=False, rich_markup_mode=None)
        app.command(cmd_name, context_settings=context)(command)
        return get_command(app)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write the names and summaries without making the commands."""
        with formatter.section("Verbs"):
            formatter.write_dl(list(VERBS.items()))


app: Final = typer.Typer(
    cls=Verbs,
    rich_markup_mode=None,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit codes: docs/cli.md. `firebrick VERB --help` explains a verb.",
)


def _version(asked: bool) -> None:
    if asked:
        from firebrick import __version__

        typer.echo(f"firebrick {__version__}")
        raise typer.Exit


@app.callback()
def firebrick(
    version: bool = typer.Option(
        False, "--version", callback=_version, is_eager=True, help="Say the version."
    ),
) -> None:
    """Keep what torch.compile makes, and start without compiling."""


def run() -> None:
    """Run the verb named by the arguments; an error is one line and a hint."""
    try:
        app(prog_name="firebrick")
    except FirebrickError as error:
        from firebrick.cli.output import note

        note(f"{error}\n  {error.hint}")
        raise SystemExit(error.exit_code) from None
    except OSError as error:
        if isinstance(error, BrokenPipeError):  # the reader has closed the pipe
            sys.stderr.close()
            raise SystemExit(141) from None
        where = f"{error.filename}: " if error.filename else ""
        print(f"firebrick: {where}{error.strerror or error}\n  {_OF_SYSTEM}", file=sys.stderr)
        raise SystemExit(StoreError.exit_code) from None
