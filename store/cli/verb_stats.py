"""Count the contents of a store."""

from typing import Any

from firebrick.cli import output
from firebrick.cli.options import JsonOption, StoreOption, opened
from firebrick.reports.inventory import inventory
from firebrick.reports.runs import read


def command(store: StoreOption = None, json: JsonOption = False) -> None:
    """Count the contents of the store: functions, bytes by kind, and the seconds it can save a start."""
    with opened(store) as source:
        counted = source.stat()
        with source.snapshot() as snapshot:
            found, runs = inventory(snapshot), read(source)
    lanes = {lane: sum(held.lane == lane for held in found.bundles) for lane in ("lean", "full", "eager")}
    value: dict[str, Any] = {
        "path": counted.path,
        "bytes_on_disk": counted.bytes_on_disk,
        "bytes_stored": counted.bytes_stored,
        "bytes_raw": counted.bytes_raw,
        "map_size": counted.map_size,
        "blobs": counted.blobs,
        "bundles": counted.bundles,
        "recipes": counted.recipes,
        "functions": len({held.place for held in found.bundles if held.lane != "eager"}),
        "lanes": lanes,
        "seconds_compiled": round(sum(held.seconds for held in found.bundles), 3),
        "runs_with_misses": len(runs),
        "kinds": {
            kind.name: {"blobs": number, "bytes": size}
            for kind, (number, size) in sorted(found.kinds.items(), key=lambda item: -item[1][1])
        },
        "problems": found.problems,
    }
    if json:
        output.print_json("stats", value)
        return
    print(f"store      {counted.path}")
    print(f"on disk    {output.size(counted.bytes_on_disk)}")
    compressed = f"{output.size(counted.bytes_stored)}, {output.size(counted.bytes_raw)} before compression"
    print(f"blobs      {counted.blobs}: {compressed}")
    functions = output.counted(value["functions"], "function")
    of_lanes = f"{lanes['lean']} lean, {lanes['full']} full, of {functions}"
    print(f"bundles    {of_lanes}; {lanes['eager']} run as they are")
    print(f"compiled   in {value['seconds_compiled']:.1f} s, which a start that needs all of it saves")
    print(f"last runs  {output.counted(len(runs), 'run')} with misses: `firebrick explain`")
    print()
    rows = [
        (kind.lower(), str(entry["blobs"]), output.size(entry["bytes"]))
        for kind, entry in value["kinds"].items()
    ]
    output.table(("KIND", "BLOBS", "SIZE"), rows, right=("BLOBS", "SIZE"))
    for problem in found.problems:
        output.note(f"left out: {problem}")
