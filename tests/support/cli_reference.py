"""Write the part of docs/cli.md that the command line itself tells: the help of every verb.

python tests/support/cli_reference.py
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from typer.main import get_command

from firebrick.cli.entry import VERBS, app

DOCUMENT = Path(__file__).parents[2] / "docs" / "cli.md"
_PART = re.compile(r"(<!-- verbs -->\n).*?(<!-- end of verbs -->)", re.DOTALL)


def reference() -> str:
    """Return the help of every verb, as Markdown."""
    group: Any = get_command(app)
    top = group.make_context("firebrick", [], resilient_parsing=True)
    parts = []
    for name, summary in VERBS.items():
        verb = group.get_command(top, name)
        context = verb.make_context(name, [], parent=top, resilient_parsing=True, terminal_width=100)
        parts.append(f"### `firebrick {name}`\n\n{summary}\n\n```text\n{verb.get_help(context)}\n```\n")
    return "\n".join(parts)


def written(document: str) -> str:
    """Return the document with the part as it should be."""
    return _PART.sub(lambda found: f"{found[1]}\n{reference()}\n{found[2]}", document)


if __name__ == "__main__":
    DOCUMENT.write_text(written(DOCUMENT.read_text()))
