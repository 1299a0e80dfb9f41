"""Remove bundles from a store."""

from typing import Annotated, Any

import typer

from firebrick.cli import output
from firebrick.cli.options import JsonOption, StoreOption, opened_to_write
from firebrick.cli.selection import selected
from firebrick.reports.inventory import inventory, unique_bytes


def command(
    names: Annotated[
        list[str],
        typer.Argument(
            metavar="NAME", help="Names of functions or modules (with * and ?), or digits of keys."
        ),
    ],
    dry: Annotated[bool, typer.Option("--dry-run", "-n", help="Say what would go, and leave it.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Also what is pinned.")] = False,
    store: StoreOption = None,
    json: JsonOption = False,
) -> None:
    """Remove stored functions; the next start recompiles them. With an unmatched name, remove nothing."""
    with opened_to_write(store) as target:
        found = inventory(target)
        held = selected(found.bundles, names)
        size = unique_bytes(held, found.users())
        if not dry:
            for bundle in held:
                target.delete(bundle.key, force=force)
            target.gc()
    entries: list[dict[str, Any]] = [{"key": bundle.key.hex(), "name": bundle.name} for bundle in held]
    if json:
        output.print_json("rm", {"removed": not dry, "unique_bytes": size, "bundles": entries})
        return
    for entry in entries:
        print(f"{'would remove' if dry else 'removed'} {entry['key'][:12]}  {output.plain(entry['name'])}")
    output.note(
        f"{output.size(size)} that nothing else needs {'would be' if dry else 'are'} free after a grace"
    )
