"""Show space usage."""

from typing import Annotated, Any

import typer

from firebrick.cli import output
from firebrick.cli.options import JsonOption, NamesArgument, StoreOption, opened
from firebrick.cli.selection import selected
from firebrick.reports.inventory import Held, inventory, unique_bytes


def command(
    names: NamesArgument = None,
    each: Annotated[
        bool, typer.Option("--each", help="A line for each bundle, not for each function.")
    ] = False,
    store: StoreOption = None,
    json: JsonOption = False,
) -> None:
    """Show space usage: the bytes only this function needs, and those it shares with others.

    UNIQUE is the space that removing it would free. Sizes are of stored, mostly compressed, bytes.
    """
    with opened(store) as source:
        disk = source.stat().bytes_on_disk
        with source.snapshot() as snapshot:
            found = inventory(snapshot)
    users = found.users()
    groups: dict[str, list[Held]] = {}
    for held in selected(found.bundles, names):
        groups.setdefault(held.key.hex()[:12] if each else held.place, []).append(held)
    entries: list[dict[str, Any]] = []
    for bundles in groups.values():
        blobs = {part: size for held in bundles for part, size in held.parts.items()}
        entries.append(
            {
                "name": bundles[0].name,
                "place": bundles[0].place,
                "bundles": [held.key.hex() for held in bundles],
                "bytes": sum(blobs.values()),
                "unique_bytes": unique_bytes(bundles, users),
            }
        )
    entries.sort(key=lambda entry: -entry["unique_bytes"])
    needed = {part: size for held in found.bundles for part, size in held.parts.items()}
    blobs_bytes = sum(size for _, size in found.kinds.values())
    value: dict[str, Any] = {
        "bytes_on_disk": disk,
        "bytes_of_blobs": blobs_bytes,
        "bytes_of_bundles": sum(needed.values()),
        "bytes_shared": sum(size for part, size in needed.items() if users[part] > 1),
        "bytes_beside": blobs_bytes - sum(needed.values()),
        "entries": entries,
    }
    if json:
        output.print_json("du", value)
        return
    rows = [
        (
            output.size(entry["unique_bytes"]),
            output.size(entry["bytes"] - entry["unique_bytes"]),
            str(len(entry["bundles"])),
            entry["name"],
            entry["bundles"][0][:12] if each else entry["place"].removesuffix(f":{entry['name']}"),
        )
        for entry in value["entries"]
        if entry["bytes"]
    ]
    headers = ("UNIQUE", "SHARED", "BUNDLES", "NAME", "KEY" if each else "WHERE")
    output.table(headers, rows, right=("UNIQUE", "SHARED", "BUNDLES"))
    print()
    print(f"{output.size(disk)} on disk; {output.size(blobs_bytes)} of blobs:", end=" ")
    print(f"{output.size(sum(needed.values()))} of bundles, {output.size(value['bytes_beside'])} of contexts")
