"""Collect garbage, and limit a store's size."""

from typing import Annotated, Any

import typer

from firebrick.cli import output
from firebrick.cli.options import JsonOption, StoreOption, opened_to_write
from firebrick.settings import Settings
from firebrick.storage.format import GRACE_S


def command(
    max_bytes: Annotated[
        str,
        typer.Option("--max-bytes", metavar="SIZE", help="Evict bundles until it is as small, such as 5G."),
    ] = "",
    grace: Annotated[
        float,
        typer.Option("--grace", metavar="SECONDS", min=0.0, help="Spare what was put or released since."),
    ] = GRACE_S,
    store: StoreOption = None,
    json: JsonOption = False,
) -> None:
    """Remove entries that nothing needs any more. Programs using the store meanwhile are not blocked.

    With --max-bytes, first evict bundles that save the fewest seconds of compilation per byte and are longest
    unused; pinned bundles stay.
    """
    limit = Settings.read({}, max_bytes=max_bytes).max_bytes if max_bytes else None
    with opened_to_write(store) as target, output.progress("collecting"):
        before = target.stat().bytes_on_disk
        collected = target.gc(grace=grace)
        if limit:
            collected = collected.plus(target.evict(limit))
        after = target.stat().bytes_on_disk
    value: dict[str, Any] = collected._asdict()
    if json:
        output.print_json("gc", {**value, "bytes_on_disk_before": before, "bytes_on_disk": after})
        return
    evicted, freed = output.counted(collected.bundles, "bundle"), output.counted(collected.blobs, "blob")
    freed_bytes = output.size(collected.bytes)
    print(f"{evicted} evicted, {freed} freed, {freed_bytes}; {output.size(after)} on disk")
    if collected.waiting:
        waiting = output.counted(collected.waiting, "blob")
        print(f"{waiting} wait up to {grace:.0f} s longer, in case somebody needs them")
