"""What torch had of the tables' names when it was installed: for comparisons where it is not.

The recordings are in ``tests/torch_api/surfaces``. With another torch installed, in ``tests``::

    PYTHONPATH=. python -P -m support.recorded_surface
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import torch

from firebrick.torch_api.minors import minor_of
from firebrick.torch_api.surface import Group, Installed, compare, read_tables

FOLDER = Path(__file__).parents[1] / "torch_api" / "surfaces"
MINORS = sorted(path.stem for path in FOLDER.glob("*.json"))


class Recorded:
    """A recorded torch; compared as `firebrick.torch_api.surface.Installed` is."""

    def __init__(self, minor: str) -> None:
        self._groups = json.loads((FOLDER / f"{minor}.json").read_text())

    def found(self, group: Group) -> dict[str, str] | None:
        """Return the recorded names of a group; None if torch lacked the subject."""
        names: dict[str, str] | None = self._groups.get(f"{group.kind} {group.subject}")
        return names

    def heads(self) -> set[str]:
        """Return the kinds and subjects of the groups."""
        return set(self._groups)


def record() -> dict[str, dict[str, str]]:
    """Return what the installed torch has of the tables' groups."""
    installed, minor = Installed(Path(torch.__file__).parent), minor_of(torch.__version__)
    found = {}
    for group in read_tables():
        names = {entry.name for entry in group.entries if entry.holds_for(minor)}
        if names and (there := installed.found(group)) is not None:
            found[f"{group.kind} {group.subject}"] = {n: there[n] for n in sorted(there) if n in names}
    return found


def disagreements(tables: list[Group], minor: str) -> Iterator[str]:
    """Yield what a recording and the tables for its minor do not have in common, each with its name."""
    recorded = Recorded(minor)
    for found in compare(tables, recorded, minor):
        yield f"{found.kind} {found.subject} {found.name}: {found.what}".strip()
    for group in tables:
        known = {entry.name for entry in group.entries if entry.holds_for(minor)}
        for name in sorted((recorded.found(group) or {}).keys() - known):
            yield f"{group.kind} {group.subject} {name}: in no table"
    for head in sorted(recorded.heads() - {f"{group.kind} {group.subject}" for group in tables}):
        yield f"{head}: in no table"


if __name__ == "__main__":
    text = json.dumps(record(), indent=1, sort_keys=True)
    (FOLDER / f"{minor_of(torch.__version__)}.json").write_text(text + "\n")
