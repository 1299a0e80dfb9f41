"""Edit the source of a stored function."""

import os
import shlex
import subprocess
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from firebrick.cli import output
from firebrick.cli.options import ContextOption, StoreOption, opened_to_write, torch_alone
from firebrick.cli.revisions import GRAPHS, Artifact, artifacts_of
from firebrick.cli.selection import one
from firebrick.errors import UsageError
from firebrick.reports.inventory import inventory


def command(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="Of a function, or the digits of a bundle's key.")
    ],
    graph: Annotated[str, typer.Option("--graph", help="forward or backward.")] = GRAPHS[0],
    artifact: Annotated[
        str,
        typer.Option(
            "--artifact", metavar="NAME", help="Where the function has several graphs: __compiled_fn_…."
        ),
    ] = "",
    context: ContextOption = "default",
    store: StoreOption = None,
) -> None:
    """Edit the source that Inductor generated for a function, in $VISUAL or $EDITOR.

    The edit is one transaction: all of it is stored, as a new revision, or nothing. From then on the full
    lane serves the edited source. `history` lists the revisions, `revert` returns to one.
    """
    with torch_alone():
        from firebrick.cli.editing import edit_source

    if graph not in GRAPHS:
        raise UsageError(f"--graph {graph}: expected one of {', '.join(GRAPHS)}")
    with opened_to_write(store) as target:
        held = one((held for held in inventory(target).bundles if not held.replaced), name)
        chosen = _chosen(artifacts_of(target, context, held), artifact)
        with tempfile.TemporaryDirectory(prefix="firebrick-edit-") as folder:
            file = Path(folder, f"{graph}.py")
            key = edit_source(target, context, held, chosen, graph, lambda source: _edited(file, source))
    if key is None:
        output.note("nothing was changed")
    else:
        output.note(f"{held.name} is served by {key.hex()[:12]} now, in the full lane")


def _chosen(artifacts: list[Artifact], name: str) -> Artifact:
    found = [artifact for artifact in artifacts if artifact.name.startswith(name)]
    if len(found) != 1:
        names = ", ".join(artifact.name for artifact in artifacts)
        raise UsageError(
            f"--artifact names none or several of: {names}" if name else f"choose by --artifact: {names}"
        )
    return found[0]


def _edited(file: Path, source: str) -> str:
    editor = os.environ.get("VISUAL") or os.environ.get("EDITOR") or "vi"
    file.write_text(source)
    try:
        done = subprocess.run([*shlex.split(editor), str(file)], check=False)
    except OSError as error:
        raise UsageError(f"the editor {editor!r} cannot be started: {error.strerror}; set EDITOR") from None
    if done.returncode:
        raise UsageError(f"the editor ended with code {done.returncode}; nothing was changed")
    return file.read_text()
