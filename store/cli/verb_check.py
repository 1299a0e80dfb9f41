"""Check a store for damage, and drop broken entries."""

from pathlib import Path
from typing import Annotated, Any

import typer

from firebrick.cli import output
from firebrick.cli.options import JsonOption, StoreOption, folder_of, opened, opened_to_write
from firebrick.storage.check import Problem, Report
from firebrick.storage.repair import Repaired
from firebrick.storage.store import Store

_ATTEMPTS = 3  # of a check from outside, which a writer may disturb


def command(
    repair: Annotated[bool, typer.Option("--repair", help="Drop what is broken, and nothing else.")] = False,
    seconds: Annotated[
        float | None,
        typer.Option("--seconds", metavar="N", min=0.0, help="About how long to look.", show_default=False),
    ] = None,
    token: Annotated[
        str,
        typer.Option(
            "--token", metavar="TEXT", help="Go on where a bounded check ended.", show_default=False
        ),
    ] = "",
    store: StoreOption = None,
    json: JsonOption = False,
) -> None:
    """Check every byte of the store: the file's structure, digests, complete bundles, references.

    The exit code is 1 if something is wrong and stays so. Functions dropped by a repair are recompiled.
    """
    with output.progress("checking"):
        report = _checked(store, seconds, token)
    repaired = Repaired()
    if repair and not report.clean:
        with opened_to_write(store) as target, output.progress("repairing"):
            repaired = target.repair(report.problems)
            left = target.check().problems
    else:
        left = report.problems
    if json:
        output.print_json("check", {**_plain(report), "repaired": repaired._asdict() if repair else None})
    else:
        _tell(report, repaired if repair else None)
    raise typer.Exit(int(bool(left)))


def _tell(report: Report, repaired: Repaired | None) -> None:
    for problem in report.problems:
        where = f" {problem.key.hex()[:12]}" if problem.key else ""
        print(output.plain(f"{problem.kind}{where}: {problem.detail}"))
    found = output.counted(len(report.problems), "problem") if report.problems else "nothing is wrong"
    blobs = f"{output.counted(report.blobs, 'blob')} and {output.counted(report.bundles, 'bundle')}"
    print(f"{found} ({blobs}, {output.size(report.bytes)})")
    if report.token:
        print(f"there is more to look at: --token {report.token}")
    if repaired is not None:
        dropped = f"{output.counted(repaired.blobs, 'blob')} and {output.counted(repaired.bundles, 'bundle')}"
        print(f"dropped {dropped}")


def _checked(store: Path | None, seconds: float | None, token: str) -> Report:
    folder = folder_of(store)
    with opened(store):
        pass  # whether it exists and may be read
    for _ in range(_ATTEMPTS):
        if not (faults := Store.verify(folder)):
            break
    else:  # opening such a file could end this process
        return Report([Problem("structure", b"", fault) for fault in faults], 0, 0, 0)
    with opened(store) as source:
        return source.check(seconds=seconds, token=token)


def _plain(report: Report) -> dict[str, Any]:
    problems = [
        {"kind": problem.kind, "key": problem.key.hex(), "detail": problem.detail}
        for problem in report.problems
    ]
    counts = {"blobs": report.blobs, "bundles": report.bundles, "bytes": report.bytes}
    return {"clean": report.clean, **counts, "token": report.token, "problems": problems}
