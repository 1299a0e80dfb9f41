"""Compare the tables with an installed torch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple, Protocol

from firebrick.torch_api.surface._table import CLOSED, Group


class Surface(Protocol):
    """A torch, installed or recorded."""

    def found(self, group: Group) -> dict[str, str] | None:
        """Return its names of a group, with their facts; None if it lacks the subject."""


class Difference(NamedTuple):
    """One difference.

    Attributes:
        what: ``new``, ``gone`` or ``changed``.
        kind, subject: of the group.
        name: the name concerned.
        text: the table's entry, the installed one, and why it matters.
    """

    what: str
    kind: str
    subject: str
    name: str
    text: str


def compare(groups: Iterable[Group], installed: Surface, minor: str) -> Iterator[Difference]:
    """Yield the differences between an installed torch and the tables for a minor.

    Args:
        groups: of the tables.
        installed: the torch.
        minor: of the tables; may differ from the installed one, to compare the next torch with the last.
    """
    for group in groups:
        entries = [entry for entry in group.entries if entry.holds_for(minor)]
        found = installed.found(group)
        if found is None:
            if entries:
                yield Difference("gone", group.kind, group.subject, "", f"all {len(entries)} names of it")
            continue
        known = {entry.name for entry in entries}
        for entry in entries:
            if entry.name not in found:
                text = f"{entry.verdict}: {entry.reason}"
                yield Difference("gone", group.kind, group.subject, entry.name, text)
            elif entry.fact and entry.fact != found[entry.name]:
                text = f"{entry.fact} is now {found[entry.name] or 'of another kind'}"
                yield Difference("changed", group.kind, group.subject, entry.name, text)
        if group.kind in CLOSED and entries:
            for name in sorted(found.keys() - known):
                yield Difference("new", group.kind, group.subject, name, found[name].removeprefix("="))


def report(differences: Iterable[Difference]) -> str:
    """Return differences as text, a paragraph for each group."""
    lines: list[str] = []
    last = None
    for found in differences:
        if (group := (found.kind, found.subject)) != last:
            lines += [""] * (last is not None) + [" ".join(group).rstrip()]
            last = group
        lines.append(f"  {found.what:8}{found.name}  {found.text}".rstrip())
    return "\n".join(lines)
