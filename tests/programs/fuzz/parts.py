"""The parts that programs are composed of, each with the edits that change it.

*Values* (`fuzz.values`) say where a number comes from, *ways* (`fuzz.ways`) how code is reached. ``## name`` begins a
part; what follows defines it. ``= text`` is how it is used: a value as a number, a way as an expression of ``x``.
``- name: old => new`` is an edit of the definition (``\\n`` is a line), ``+ name: text`` one that adds a text at the
end of the program, and ``~ name: VARIABLE=first|second`` one of the environment; an empty side: unset.

``$N`` is the part's number, ``$K`` and ``$L`` are numbers of its own, ``$J`` another one, ``$E`` is what a way leads
to, an expression of ``x``, and ``$M`` the module in which the part stands.
"""

import dataclasses
import string

from fuzz.values import VALUES
from fuzz.ways import WAYS


@dataclasses.dataclass(frozen=True)
class Edit:
    """One change of a part.

    Attributes:
        name: of the edit.
        swaps: texts of the definition and what stands in their place.
        added: text at the end of the program.
        env: variable, its value at the first and at the second start; empty: unset.
    """

    name: str
    swaps: tuple[tuple[str, str], ...] = ()
    added: str = ""
    env: tuple[str, str, str] | None = None


@dataclasses.dataclass(frozen=True)
class Part:
    """A value or a way, as this module's text has it."""

    name: str
    text: str
    use: str
    edits: tuple[Edit, ...]

    def edit(self, name):
        """Return the edit of a name."""
        return next(edit for edit in self.edits if edit.name == name)

    def render(self, words, edit=None):
        """Return the definition and the use, after an edit if one is given."""
        text = self.text + "\n=" + self.use
        for old, new in edit.swaps if edit else ():
            if old not in text:
                raise ValueError(f"{self.name}: {edit.name}: {old!r} is not there")
            text = text.replace(old, new)
        text, _, use = string.Template(text).substitute(words).rpartition("\n=")
        return text, use


def read(text):
    """Return the parts that a text defines, by name."""
    parts = {}
    for block in text.split("\n## ")[1:]:
        name, *lines = block.splitlines()
        kept, use, edits = [], "", []
        for line in lines:
            if line.startswith("= "):
                use = line[2:]
            elif line[:2] in ("- ", "+ ", "~ "):
                title, _, rest = line[2:].partition(": ")
                edits.append(_edit(line[0], title, rest))
            else:
                kept.append(line)
        parts[name] = Part(name, "\n".join(kept).strip("\n"), use, tuple(edits))
    return parts


def _edit(kind, title, rest):
    rest = rest.replace("\\n", "\n")
    if kind == "+":
        return Edit(title, added=rest)
    if kind == "~":
        variable, _, values = rest.partition("=")
        return Edit(title, env=(variable, *values.split("|")))
    old, _, new = rest.partition(" =>")
    return Edit(title, swaps=((old, new.removeprefix(" ")),))


VALUE, WAY = read(VALUES), read(WAYS)
