"""Sign the contents of a store or pack."""

import time
from pathlib import Path
from typing import Annotated

import typer

from firebrick.cli import output
from firebrick.cli.options import StoreOption, TrustOption, folder_of, opened_to_write
from firebrick.storage.directory import is_file
from firebrick.storage.seal import add_seal
from firebrick.trust.opening import trust_folder
from firebrick.trust.signing import sealer, sign_store

_DAY_S = 86400


def command(
    key: Annotated[str, typer.Argument(metavar="KEY", help="Name of a secret key: `firebrick keys new`.")],
    pack: Annotated[
        Path | None, typer.Argument(metavar="PACK", help="A sealed pack to sign, instead of the store.")
    ] = None,
    days: Annotated[float, typer.Option("--days", help="After so many the signatures expire; 0: never.")] = 0,
    store: StoreOption = None,
    trust: TrustOption = None,
) -> None:
    """Sign each recipe with its present bundles, and Firebrick's settings; or a pack as a whole.

    The signer answers for the contents: inspect them first. Signatures of other keys stay.
    """
    secret = trust_folder(trust).secret(key)
    expires = int(time.time() + days * _DAY_S) if days else 0
    if pack is not None:
        add_seal(pack, sealer(secret, expires=expires))
        output.note(f"{pack} is signed by {key}")
    elif is_file(folder := folder_of(store)):
        add_seal(folder, sealer(secret, expires=expires))
        output.note(f"{folder} is signed by {key}")
    else:
        with opened_to_write(store) as target:
            number = sign_store(target, secret, expires=expires)
        output.note(f"{number} entries signed by {key}")
