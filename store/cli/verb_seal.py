"""Write a store, or some of its functions, into an immutable pack."""

import time
from json import dumps
from pathlib import Path
from typing import Annotated

import typer

from firebrick.cli import output
from firebrick.cli.options import NamesArgument, StoreOption, TrustOption, opened
from firebrick.cli.selection import selected
from firebrick.reports.inventory import inventory
from firebrick.reports.runs import RUNS
from firebrick.storage.seal import oci_manifest, seal
from firebrick.trust.opening import trust_folder
from firebrick.trust.signing import sealer

_DAY_S = 86400


def command(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="To write; it must not be there.")],
    names: NamesArgument = None,
    key: Annotated[str, typer.Option("--key", metavar="NAME", help="Sign it with this secret key.")] = "",
    days: Annotated[float, typer.Option("--days", help="After so many the signature expires; 0: never.")] = 0,
    annotation: Annotated[
        list[str] | None,
        typer.Option("--annotation", metavar="NAME=VALUE", help="What the pack says of itself."),
    ] = None,
    oci: Annotated[
        bool, typer.Option("--oci", help="Write nothing: print the manifest of a pack for registries.")
    ] = False,
    store: StoreOption = None,
    trust: TrustOption = None,
) -> None:
    """Write all functions, or the named ones, into one file that opens read-only, without a write or a lock.

    `FIREBRICK_CACHE_DIR` or `FIREBRICK_LAYERS` serve from it.
    """
    file = file.expanduser().absolute()
    if oci:
        print(dumps(oci_manifest(file), indent=2))
        return
    expires = int(time.time() + days * _DAY_S) if days else 0
    sign = sealer(trust_folder(trust).secret(key), expires=expires) if key else None
    told = dict(text.partition("=")[::2] for text in annotation or ())
    with opened(store) as source, output.progress("sealing"):
        recipes = None
        if names:
            with source.snapshot() as snapshot:
                recipes = {held.recipe for held in selected(inventory(snapshot).bundles, names)}
        contexts = [name for name in source.contexts() if name.startswith(".") and name != RUNS]
        manifest = seal(source, file, recipes=recipes, contexts=contexts, annotations=told, sign=sign)
    counts = output.counted(manifest["counts"]["bundles"], "bundle")
    output.note(
        f"{file} has {counts}, {output.size(file.stat().st_size)}{f', signed by {key}' if key else ''}"
    )
