"""Look for damage in a store."""

from typing import Any

import typer

from firebrick.cli import output
from firebrick.cli.options import JsonOption, StoreOption, folder_of, opened
from firebrick.storage.check import Problem, Report
from firebrick.storage.store import Store

_ATTEMPTS = 3  # of a look from outside, which a writer may disturb


def command(store: StoreOption = None, json: JsonOption = False) -> None:
    """Look at every byte of the store: the file's structure, digests, whole bundles, where references lead.

    Nothing is changed. The exit code is 1 where something is wrong.
    """
    with output.progress("checking"):
        report = _checked(store)
    if json:
        output.print_json("check", _plain(report))
    else:
        for problem in report.problems:
            where = f" {problem.key.hex()[:12]}" if problem.key else ""
            print(f"{problem.kind}{where}: {problem.detail}")
        found = output.counted(len(report.problems), "problem") if report.problems else "nothing is wrong"
        blobs = f"{report.blobs} blobs and {output.counted(report.bundles, 'bundle')}"
        print(f"{found} ({blobs}, {output.size(report.bytes)})")
    raise typer.Exit(int(not report.clean))


def _checked(store: Any) -> Report:
    folder = folder_of(store)
    with opened(store):
        pass  # whether it is there, and may be read
    for _ in range(_ATTEMPTS):
        if not (faults := Store.verify(folder)):
            break
    else:  # opening such a file could end this process
        return Report([Problem("structure", b"", fault) for fault in faults], 0, 0, 0)
    with opened(store) as source:
        return source.check()


def _plain(report: Report) -> dict[str, Any]:
    problems = [
        {"kind": problem.kind, "key": problem.key.hex(), "detail": problem.detail}
        for problem in report.problems
    ]
    counts = {"blobs": report.blobs, "bundles": report.bundles, "bytes": report.bytes}
    return {"clean": report.clean, **counts, "problems": problems}
