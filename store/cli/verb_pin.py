"""Pin bundles, so that they are never evicted."""

from typing import Annotated

import typer

from firebrick.cli import output
from firebrick.cli.options import JsonOption, NamesArgument, StoreOption, opened, opened_to_write
from firebrick.cli.selection import selected
from firebrick.reports.inventory import inventory


def command(
    names: NamesArgument = None,
    remove: Annotated[bool, typer.Option("--remove", "-r", help="Take the pins away.")] = False,
    store: StoreOption = None,
    json: JsonOption = False,
) -> None:
    """Pin bundles, so that they are neither evicted nor removed without force; or list the pins."""
    if names:
        with opened_to_write(store) as target:
            for bundle in selected(inventory(target).bundles, names):
                (target.unpin if remove else target.pin)(bundle.key)
    with opened(store) as source:
        pins = set(source.pins())
        held = [bundle for bundle in inventory(source).bundles if bundle.key in pins]
    if json:
        output.print_json("pin", {"pinned": [{"key": b.key.hex(), "name": b.name} for b in held]})
        return
    output.table(("KEY", "NAME", "WHERE"), [(b.key.hex()[:12], b.name, b.place) for b in held])
