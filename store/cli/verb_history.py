"""List the revisions of a stored function's sources."""

from typing import Annotated, Any

import typer

from firebrick.cli import output
from firebrick.cli.options import ContextOption, JsonOption, StoreOption, opened
from firebrick.cli.revisions import history_of
from firebrick.cli.selection import one
from firebrick.reports.inventory import inventory


def command(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="Of a function, or the digits of a bundle's key.")
    ],
    context: ContextOption = "default",
    store: StoreOption = None,
    json: JsonOption = False,
) -> None:
    """List the revisions of a function's artifacts, the newest first, and which of them is current."""
    with opened(store) as source:
        held = one((held for held in inventory(source).bundles if not held.replaced), name)
        found = history_of(source, context, held)
    entries: list[dict[str, Any]] = [
        {
            "artifact": artifact,
            "revision": revision.key.hex(),
            "parent": None if revision.parent is None else revision.parent.hex(),
            "content": revision.content.hex(),
            "when": revision.when,
            "current": revision.current,
        }
        for artifact, revisions in found.items()
        for revision in revisions
    ]
    if json:
        output.print_json("history", {"name": held.name, "bundle": held.key.hex(), "revisions": entries})
        return
    rows = [
        (
            "*" if entry["current"] else "",
            entry["revision"][:12],
            entry["artifact"],
            (entry["parent"] or "")[:12],
            output.ago(entry["when"]),
        )
        for entry in entries
    ]
    output.table(("", "REVISION", "ARTIFACT", "MADE FROM", "WRITTEN"), rows)
