"""Look at everything that Firebrick depends on."""

import os

import typer

from firebrick.cli import output
from firebrick.cli.health import BAD, findings
from firebrick.cli.options import JsonOption, StoreOption, folder_of


def command(store: StoreOption = None, json: JsonOption = False) -> None:
    """Look at everything that Firebrick depends on here: versions, variables, compiler, GPU, folder, lanes.

    The exit code is 1 where something is bad; warnings leave it 0.
    """
    found = findings(folder_of(store), store is not None or bool(os.environ.get("FIREBRICK_CACHE_DIR")))
    bad = any(finding.state == BAD for finding in found)
    if json:
        output.print_json("doctor", {"ok": not bad, "findings": [finding._asdict() for finding in found]})
    else:
        colours = {"ok": "green", "warning": "yellow", "bad": "red"}
        shown = output.console()
        from rich.text import Text

        for finding in found:
            shown.print(
                Text.assemble(
                    (f"{finding.state:8}", colours[finding.state]), f"{finding.name:10} {finding.detail}"
                )
            )
            if finding.hint:
                shown.print(Text(f"{'':19}{finding.hint}"))
    raise typer.Exit(int(bad))
