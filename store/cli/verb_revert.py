"""Return to an earlier revision of a stored function's source."""

from typing import Annotated

import typer

from firebrick.cli import output
from firebrick.cli.options import ContextOption, StoreOption, opened_to_write, torch_alone
from firebrick.cli.selection import one
from firebrick.reports.inventory import inventory


def command(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="Of a function, or the digits of a bundle's key.")
    ],
    revision: Annotated[str, typer.Argument(metavar="REVISION", help="The first digits, from `history`.")],
    context: ContextOption = "default",
    store: StoreOption = None,
) -> None:
    """Make an earlier revision current, and serve it; no revision is lost."""
    with torch_alone():
        from firebrick.cli.editing import revert_to

    with opened_to_write(store) as target:
        held = one((held for held in inventory(target).bundles if not held.replaced), name)
        key = revert_to(target, context, held, revision)
    output.note(f"{held.name} is served by {key.hex()[:12]} now")
