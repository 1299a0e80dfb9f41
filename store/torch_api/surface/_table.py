"""Read the tables of the surface.

A file is a list of groups::

    [fields torch._dynamo.guards:GuardsState]
    handled: handed to the guard manager
        shape_code_parts local_state@2.14-

The head names the kind of the group and its subject, a line without indentation a verdict and its reason,
and the lines below it the names that it holds for. A name may have a fact behind it, ``name(a,b)`` for the
parameters of a function or ``name=text`` for another, and the minors in which it stands: ``@2.14-``,
``@-2.13``, ``@2.12-2.13``.

Closed kinds: ``fields`` of a class, ``guards`` (a builder's methods), ``sources`` (classes of a module),
``methods`` and ``natives`` (of a class and of a module in C++), ``wrapper`` (what generated code binds),
``ignored`` (settings that recipes leave out), ``context`` (what is kept on ``ctx`` for a backward). Open
ones: ``names`` of a module or class, ``texts`` in a module's source, ``behaviours`` (see `_behaviours`). A
closed group that says nothing of a minor is not compared with it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

FOLDER: Final = Path(__file__).parent
VERDICTS: Final = ("handled", "refused", "irrelevant")
CLOSED: Final = frozenset(
    {"fields", "guards", "sources", "methods", "natives", "wrapper", "ignored", "context"}
)
OPEN: Final = frozenset({"names", "texts", "behaviours"})

_HEAD: Final = re.compile(r"\[(\w+)(?: (\S+))?\]")
_VERDICT: Final = re.compile(r"(\w+): (\S.*)")
_TOKEN: Final = re.compile(r"([^\s@(=]+)(\([^\s@]*\)|=[^\s@]+)?(?:@(\d\.\d+)?-(\d\.\d+)?)?")


class Entry(NamedTuple):
    """The table's entry for one name.

    Attributes:
        name: of a field, function, guard, source, method or setting.
        fact: compared in addition to the name; "" for nothing.
        first, last: the minors that have it; "" leaves an end open.
        verdict: one of `VERDICTS`.
        reason: why.
    """

    name: str
    fact: str
    first: str
    last: str
    verdict: str
    reason: str

    def holds_for(self, minor: str) -> bool:
        """Tell whether a minor has the name."""
        here = _number(minor)
        return (not self.first or _number(self.first) <= here) and (
            not self.last or here <= _number(self.last)
        )


class Group(NamedTuple):
    """The names of one subject: a class, a module, a kind of generated code."""

    kind: str
    subject: str
    entries: tuple[Entry, ...]


def _number(minor: str) -> tuple[int, ...]:
    return tuple(map(int, minor.split(".")))


def read_tables(folder: Path = FOLDER) -> list[Group]:
    """Return the groups of all tables in a folder.

    Raises:
        ValueError: naming the file and line with invalid syntax.
    """
    return [group for path in sorted(folder.glob("*.txt")) for group in _groups(path)]


def _groups(path: Path) -> Iterator[Group]:
    kind = subject = verdict = reason = ""
    entries: list[Entry] = []
    for number, line in enumerate(path.read_text().splitlines(), 1):
        where = f"{path.name}:{number}"
        if not line.strip() or line.startswith("#"):
            continue
        if line[0] == "[":
            if kind:
                yield Group(kind, subject, tuple(entries))
            if (head := _HEAD.fullmatch(line)) is None or head[1] not in CLOSED | OPEN:
                raise ValueError(f"{where}: no head of a group: {line}")
            kind, subject, verdict, entries = head[1], head[2] or "", "", []
        elif line[0] != " ":
            if (found := _VERDICT.fullmatch(line)) is None or found[1] not in VERDICTS:
                raise ValueError(f"{where}: no verdict: {line}")
            verdict, reason = found[1], found[2]
        else:
            if not verdict:
                raise ValueError(f"{where}: a name without a verdict")
            for text in line.split():
                if (token := _TOKEN.fullmatch(text)) is None:
                    raise ValueError(f"{where}: no name: {text}")
                entries.append(
                    Entry(token[1], token[2] or "", token[3] or "", token[4] or "", verdict, reason)
                )
    if kind:
        yield Group(kind, subject, tuple(entries))
