"""One edit between two starts."""

import dataclasses

PRELUDE = """\
import abc, contextlib, dataclasses, enum, functools, math, os, sys, typing
import torch
import torch.nn.functional as F
from torch import nn
V = {version}
"""


@dataclasses.dataclass(frozen=True, eq=False)
class Case:
    """A program that reads `V` in place of an edit.

    Attributes:
        kind: of the edit.
        name: of the case, unique in its kind.
        source: of the program; it defines ``f``, which is compiled, and may define ``call(f)``, which calls
            it, ``options`` of Inductor, ``arguments`` of ``torch.compile``, and ``undo()``.
        own: it needs processes of its own.
        env: variables of the first and of the second start.
        same: the numbers do not change.
    """

    kind: str
    name: str
    source: str
    own: bool = False
    env: tuple[dict[str, str], dict[str, str]] = dataclasses.field(default=({}, {}))
    same: bool = False

    @property
    def id(self) -> str:
        """Name the case."""
        return f"{self.kind}: {self.name}"

    def text(self, version: int) -> str:
        """Return the program before (1) or after (2) the edit."""
        return PRELUDE.format(version=version) + self.source
