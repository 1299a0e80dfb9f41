"""One edit between two starts, and how corpora write them down."""

import dataclasses
import textwrap

PRELUDE = """\
import abc, collections, contextlib, copy, dataclasses, enum, functools, importlib, math, operator, os, sys, types, typing
import torch
import torch.nn.functional as F
from torch import nn
V = {version}
"""


@dataclasses.dataclass(frozen=True, eq=False)
class Case:
    """A program that reads `V`, 1 at the first start and 2 at the second, in place of an edit.

    It defines ``f``, which is compiled and called with a tensor of two elements that requires a gradient. It may
    define ``call(f)``, which calls it otherwise, ``options`` of Inductor and ``arguments`` of ``torch.compile``; or
    ``program()`` in place of all that, which compiles for itself. Every case runs in a process of its own.

    Attributes:
        kind: of the edit.
        name: of the case, unique in its kind.
        source: of the program.
        own: it changes torch itself, and would disturb others in its process.
        env: variables of the first and of the second start. Values are set before Python starts; ``None`` unsets.
        same: the numbers do not change.
        says: words of which the explanation must have one, separated by ``|``; see `edits.said`.
        files: name -> source of further modules, which read `V` too.
        without: names of mends of Firebrick that are taken out in the case's processes (`fuzz.mutants`).
    """

    kind: str
    name: str
    source: str
    own: bool = False
    env: tuple[dict[str, str], dict[str, str]] = dataclasses.field(default=({}, {}))
    same: bool = False
    says: str = ""
    files: dict[str, str] = dataclasses.field(default_factory=dict)
    without: tuple[str, ...] = ()

    @property
    def id(self) -> str:
        """Name the case."""
        return f"{self.kind}: {self.name}"

    def text(self, version: int) -> str:
        """Return the program before (1) or after (2) the edit."""
        return PRELUDE.format(version=version) + self.source

    def modules(self, version: int) -> dict[str, str]:
        """Return the further modules before or after the edit."""
        return {name: PRELUDE.format(version=version) + text for name, text in self.files.items()}


def cases(kind: str, text: str, **shared: object) -> list[Case]:
    """Read cases of one kind from a text.

    Args:
        kind: of all of them.
        text: a line ``## name`` begins a case; below it lines ``#: env NAME=first|second`` (an empty side: unset),
            ``#: same``, ``#: says WORD|WORD``, and ``#: file NAME``, which begins the text of a further module, up to ``#: end``.
        shared: further fields of all of them.
    """
    found = []
    for part in ("\n" + textwrap.dedent(text)).split("\n## ")[1:]:
        name, _, body = part.partition("\n")
        found.append(_case(kind, name.strip(), body, shared))
    return found


def _case(kind: str, name: str, body: str, shared: dict[str, object]) -> Case:
    fields: dict[str, object] = dict(shared)
    env: tuple[dict[str, str], dict[str, str]] = ({}, {})
    files: dict[str, str] = {}
    lines: list[str] = []
    target = lines
    for line in body.splitlines():
        what, _, rest = line.removeprefix("#:").strip().partition(" ")
        if not line.startswith("#:"):
            target.append(line)
        elif what == "env":
            variable, _, values = rest.partition("=")
            for side, value in zip(env, values.split("|"), strict=True):
                if value:
                    side[variable] = value
        elif what == "file":
            target = []
            files[rest] = ""
        elif what == "end":
            files[list(files)[-1]] = "\n".join(target) + "\n"
            target = lines
        elif what == "same":
            fields["same"] = True
        elif what == "says":
            fields["says"] = rest
        else:
            raise ValueError(f"{kind}: {name}: {line}")
    return Case(kind, name, "\n".join(lines) + "\n", env=env, files=files, **fields)


def faces(kind: str, template: str, variants: dict[str, dict[str, str]]) -> list[Case]:
    """Make a case of a template for each variant: words in capitals are replaced by the variant's texts.

    A variant's ``says`` is that of the case.
    """
    made = []
    for name, words in variants.items():
        source = textwrap.dedent(template)
        for word, replacement in words.items():
            source = source.replace(word, replacement)
        made.append(Case(kind, name, source, says=words.get("says", "")))
    return made
