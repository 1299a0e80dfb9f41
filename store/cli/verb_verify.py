"""Verify the signatures of a store or pack."""

from pathlib import Path
from typing import Annotated

import typer

from firebrick.cli import output
from firebrick.cli.options import JsonOption, StoreOption, TrustOption, folder_of, opened
from firebrick.errors import StoreUntrusted
from firebrick.storage.directory import is_file
from firebrick.storage.pack import Pack
from firebrick.trust.guard import Judge
from firebrick.trust.opening import trust_folder
from firebrick.trust.signing import Verdict, verdicts, verify_pack


def command(
    pack: Annotated[
        Path | None, typer.Argument(metavar="PACK", help="A sealed pack to verify, instead of the store.")
    ] = None,
    store: StoreOption = None,
    trust: TrustOption = None,
    json: JsonOption = False,
) -> None:
    """Show for each recipe and setting whether a trusted key signed it; of a pack check every byte.

    Only the marks against rollback change. The exit code is 1 if something is not trusted.
    """
    judge = Judge(trust_folder(trust))
    place = folder_of(store) if pack is None else pack.expanduser().absolute()
    if is_file(place):
        found = [_of_pack(place, judge)]
    else:
        with opened(place) as source, source.snapshot() as snapshot:
            found = [*verdicts(snapshot.view, judge, place)]
    bad = sum(bool(verdict.reason) for verdict in found)
    if json:
        entries = [verdict._asdict() for verdict in found]
        output.print_json("verify", {"store": str(place), "believed": not bad, "entries": entries})
    else:
        for verdict in found:
            print(
                f"{verdict.what}: {verdict.reason or f'version {verdict.version}, signed by {verdict.key}'}"
            )
        print(f"{len(found) - bad} of {len(found)} believed")
    raise typer.Exit(int(bool(bad)))


def _of_pack(place: Path, judge: Judge) -> Verdict:
    pack = Pack.open(place, everything=True, foreign=True)
    try:
        best = verify_pack(pack, judge)
    except StoreUntrusted as error:
        return Verdict("pack", error.detail)
    finally:
        pack.release()
    return Verdict("pack", "", judge.folder.trusted()[best.key_id].name, best.statement.version)
