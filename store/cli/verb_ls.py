"""List the contents of a store."""

from typing import Annotated, Any

import typer

from firebrick.cli import output
from firebrick.cli.options import JsonOption, NamesArgument, StoreOption, opened
from firebrick.cli.selection import selected
from firebrick.errors import UsageError
from firebrick.reports.inventory import EAGER, Held, inventory

_ORDERS = {"name": None, "size": "bytes", "seconds": "seconds", "age": "when", "used": "used"}


def command(
    names: NamesArgument = None,
    everything: Annotated[bool, typer.Option("--all", "-a", help="Also what torch runs as it is.")] = False,
    order: Annotated[
        str, typer.Option("--sort", metavar="BY", help=f"One of {', '.join(_ORDERS)}; the largest first.")
    ] = "name",
    store: StoreOption = None,
    json: JsonOption = False,
) -> None:
    """List the contents of the store: a line per compiled form of a function."""
    if order not in _ORDERS:
        raise UsageError(f"--sort {order}: expected one of {', '.join(_ORDERS)}")
    with opened(store) as source, source.snapshot() as snapshot:
        found = inventory(snapshot)
    held = selected(found.bundles, names)
    if not everything and not names:
        held = [bundle for bundle in held if bundle.lane != EAGER]
    if attribute := _ORDERS[order]:
        held.sort(key=lambda bundle: getattr(bundle, attribute), reverse=True)
    for problem in found.problems:
        output.note(f"left out: {problem}")
    if json:
        output.print_json("ls", {"bundles": [plain(bundle) for bundle in held], "problems": found.problems})
        return
    rows = [
        (
            bundle.key.hex()[:12],
            bundle.name,
            bundle.place.removesuffix(bundle.name).removesuffix(":"),
            "replaced" if bundle.replaced else bundle.lane,
            bundle.device,
            output.size(bundle.bytes),
            f"{bundle.seconds:.1f} s",
            output.ago(bundle.used or bundle.when),
        )
        for bundle in held
    ]
    output.table(
        ("KEY", "NAME", "WHERE", "LANE", "DEVICE", "SIZE", "COMPILED IN", "USED"),
        rows,
        right=("SIZE", "COMPILED IN"),
    )


def plain(bundle: Held) -> dict[str, Any]:
    """Return a bundle in its JSON form."""
    return {
        "key": bundle.key.hex(),
        "recipe": bundle.recipe.hex(),
        "name": bundle.name,
        "place": bundle.place,
        "lane": bundle.lane,
        "why": bundle.why,
        "replaced": bundle.replaced,
        "device": bundle.device,
        "bytes": bundle.bytes,
        "seconds": bundle.seconds,
        "stored_at": bundle.when,
        "used_at": bundle.used,
    }
