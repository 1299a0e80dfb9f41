"""Check everything Firebrick depends on."""

import os
import sys

import typer

from firebrick.cli import output
from firebrick.cli.health import BAD, OK, WARN, Finding, findings
from firebrick.cli.options import JsonOption, StoreOption, folder_of

_COLOURS = {OK: "green", WARN: "yellow", BAD: "red"}


def command(store: StoreOption = None, json: JsonOption = False) -> None:
    """Check everything Firebrick depends on here: versions, variables, compiler, GPU, directory, lanes.

    The exit code is 1 if something is bad; warnings leave it 0.
    """
    found = findings(folder_of(store), store is not None or bool(os.environ.get("FIREBRICK_CACHE_DIR")))
    bad = any(finding.state == BAD for finding in found)
    if json:
        output.print_json("doctor", {"ok": not bad, "findings": [finding._asdict() for finding in found]})
    else:
        _tell(found)
    raise typer.Exit(int(bad))


def _tell(found: list[Finding]) -> None:
    from rich.table import Table
    from rich.text import Text

    if not sys.stdout.isatty():
        for finding in found:
            print(f"{finding.state:8}{finding.name:10} {finding.detail}")
            if finding.hint:
                print(f"{'':19}{finding.hint}")
        return
    lines = Table.grid(padding=(0, 2))
    for finding in found:
        detail = Text(finding.detail).append(f"\n{finding.hint}" if finding.hint else "", "italic")
        lines.add_row(Text(finding.state, _COLOURS[finding.state]), finding.name, detail)
    output.console().print(lines)
