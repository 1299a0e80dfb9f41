"""A bundle's validity data, and whether it holds for a frame of this process."""

from __future__ import annotations

import json  # through its classes: the program may patch its functions
import re
from collections.abc import Mapping
from types import CodeType
from typing import Any

from firebrick.errors import DecodeError
from firebrick.reports.events import place as where
from firebrick.validity.reach import Reach, Scope, reach

_decode = json.JSONDecoder().decode
_encode = json.JSONEncoder(separators=(",", ":")).encode
Change = tuple[str, str | None, str | None]  # what, stored, present; None for nothing


def scope_text(scope: Scope) -> str:
    """Return a scope as text, equal for equal scopes."""
    return _encode([sorted(scope.names), sorted(scope.codes), sorted(scope.roots), sorted(scope.run)])


def scope_of(text: str) -> Scope:
    """Parse a scope.

    Raises:
        DecodeError: the text is not a scope.
    """
    try:
        names, codes, roots, run = _decode(text)
    except ValueError as error:
        raise DecodeError(f"not a scope: {error}") from None
    for part in (names, codes, run, *roots) if type(roots) is list else (None,):
        if type(part) is not list or not all(type(item) is str for item in part):
            raise DecodeError("not a scope: lists of texts are expected")
    if not all(type(root) is list and len(root) == 2 for root in roots):
        raise DecodeError("not a scope: a function and what it is are expected")
    return Scope(
        frozenset(names), frozenset(codes), tuple((path, text) for path, text in roots), frozenset(run)
    )


def entries_text(entries: Mapping[str, str]) -> str:
    """Return a walk's entries as text."""
    return _encode(list(entries.items()))


def changes(stored: str, present: Reach) -> list[Change]:
    """Return the differences between a stored walk and one of this process, in the order of the walk.

    Args:
        stored: as `entries_text` returns it.
        present: of this process.
    """
    before: dict[str, str] = dict(_decode(stored))
    now = present.entries
    places = [*before, *(place for place in now if place not in before)]
    found = [(p, before.get(p), now.get(p)) for p in places if before.get(p) != now.get(p)]
    # a change says more than an addition or removal it caused
    return [_worded(*c) for c in sorted(found, key=lambda c: (c[1] is None) + (c[2] is None))]


_CODE = re.compile(r", code [0-9a-f]{32}")


def _worded(place: str, before: str | None, now: str | None) -> Change:
    """Return one difference in the user's terms."""
    name = place.removeprefix("local ")
    if name.startswith("class "):
        module, _, rest = name.removeprefix("class ").partition(":")
        name = where(module, rest)
    name = f"`{name}`"
    if before is not None and now is not None and _CODE.sub("", before) == _CODE.sub("", now):
        return name, None, None  # the same function with other code
    return name, before and _CODE.sub("", before), now and _CODE.sub("", now)


class Frame:
    """A frame about to be served, with the walks from it.

    Used for one look-up, under the caller's lock.

    Args:
        code: the frame's code object.
        scope: its globals.
        values: its locals.
    """

    def __init__(self, code: CodeType, scope: Mapping[str, Any], values: Mapping[str, Any]) -> None:
        self.code = code
        self.scope = scope
        self.values = values
        self._found: dict[bytes, Reach] = {}

    def forget(self) -> None:
        """Forget what walks found: the program's state is about to change."""
        self._found.clear()

    def reach(self, key: bytes, scope: Scope) -> Reach:
        """Return the result of a walk, cached by key.

        Args:
            key: of the names and code that count.
            scope: these names and code; bundles of one frame often share them.

        Raises:
            NotStorable: too much is within reach.
        """
        if key not in self._found:
            self._found[key] = reach(self.code, self.scope, self.values, scope)
        return self._found[key]
