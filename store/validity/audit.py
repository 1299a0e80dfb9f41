"""Dynamo's result for a frame as texts that two processes can compare, and their differences."""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

from firebrick.errors import DecodeError

if TYPE_CHECKING:
    from firebrick.reports.events import Function

VERSION: Final = 1  # of the canonical form: only texts of this version are compared
_encode = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False, sort_keys=True).encode
_CONTEXT: Final = 3  # lines around a difference


class Auditor(Protocol):
    """An auditor of hits; see `firebrick.session.auditor`."""

    def hit(
        self, function: Function, lane: str, text: Callable[[], str], frame: Any, how: Mapping[str, Any]
    ) -> None:
        """Audit a frame that is about to be served."""


class Texts(NamedTuple):
    """One compilation of a frame in canonical form.

    Attributes:
        graphs: one text for each graph, in the order the backend received them.
        guards: a line for each guard, sorted.
        code: Dynamo's bytecode and its resume functions.
        sizes: name of an input -> Dynamo's knowledge of its sizes; it decides what is dynamic, and is not
            compared.
    """

    graphs: tuple[str, ...]
    guards: tuple[str, ...]
    code: str
    sizes: Mapping[str, Any]


def text_of(texts: Texts) -> str:
    """Serialise texts into the one text a bundle keeps, equal for equal texts."""
    return _encode([VERSION, list(texts.graphs), list(texts.guards), texts.code, dict(texts.sizes)])


def texts_of(text: str) -> Texts:
    """Parse the text that a bundle keeps.

    Raises:
        DecodeError: it is malformed, or of another version of the canonical form.
    """
    try:
        version, graphs, guards, code, sizes = json.loads(text)
    except (ValueError, TypeError) as error:
        raise DecodeError(f"not what an audit compares: {error}") from None
    if version != VERSION:
        raise DecodeError(f"canonical form {version!r}; this Firebrick compares {VERSION}")
    return Texts(tuple(graphs), tuple(guards), code, sizes)


def whole(texts: Texts) -> str:
    """Return texts in readable form."""
    parts = [f"graph {number}:\n{graph}" for number, graph in enumerate(texts.graphs)]
    return "\n\n".join([*parts, "guards:\n" + "\n".join(texts.guards), "bytecode:\n" + texts.code])


def differing(stored: Texts, fresh: Texts) -> tuple[str, ...]:
    """Return which parts differ: ``graph``, ``guards``, ``bytecode``; empty if all are equal."""
    pairs = (
        ("graph", stored[0], fresh[0]),
        ("guards", stored[1], fresh[1]),
        ("bytecode", stored[2], fresh[2]),
    )
    return tuple(name for name, old, new in pairs if old != new)


def diff(stored: Texts, fresh: Texts) -> str:
    """Return the differences as a unified diff; empty if there are none."""
    if not differing(stored, fresh):
        return ""
    return "\n".join(_lines(whole(stored).split("\n"), whole(fresh).split("\n")))


def _lines(stored: Sequence[str], fresh: Sequence[str]) -> list[str]:
    return list(difflib.unified_diff(stored, fresh, "stored", "traced afresh", lineterm="", n=_CONTEXT))
