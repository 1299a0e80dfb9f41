"""Detect useless growth of a store: keys, or bytes, that differ at every start."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from firebrick.errors import FirebrickError
from firebrick.reports.events import FULL, MISS, NOTICE, Change, Event
from firebrick.storage.manifest import Compiled, LeanForm, Manifest, unpack_manifest

if TYPE_CHECKING:
    from firebrick.storage.store import Blob, Store

_STARTS: Final = 3  # with different values, before a key counts as volatile
_COMPARED: Final = 16  # bundles of a recipe
_OF_RECIPES: Final = frozenset({"options", "platform", "code"})
_OUTPUTS: Final = ("code", "resumes", "backends", "imports")


def divergent(store: Store, recipe: bytes, manifest: Blob) -> str:
    """Return the differences between a new bundle and an older one of equal inputs; empty for none.

    Args:
        store: holds both.
        recipe: key of the recipe.
        manifest: of the new bundle.

    Inputs are equal if guards, reach and process facts are, under one recipe. Bundles without full-lane
    guards are compared by their guard programs.
    """
    others = store.bundles(recipe)
    if len(others) < 2:
        return ""
    new = unpack_manifest(bytes(manifest.data))
    if new.compiled is None:
        return ""
    for key in others[:_COMPARED]:
        if key == manifest.key:
            continue
        try:
            old = unpack_manifest(store.bundle(key))
        except FirebrickError:
            continue
        if old.compiled is not None and _inputs(old, old.compiled) == _inputs(new, new.compiled):
            outputs = zip(_OUTPUTS, _outputs(old.compiled), _outputs(new.compiled), strict=True)
            differ = [name for name, before, after in outputs if before != after]
            if differ:
                return f"equal inputs gave other bytes than in {key.hex()[:12]}: {', '.join(differ)}"
    return ""


def _inputs(manifest: Manifest, compiled: Compiled) -> list[Any]:
    """Return the inputs of a bundle."""
    lean, reached = manifest.lean, manifest.reached
    program = lean.guards if isinstance(lean, LeanForm) and compiled.guards is None else None
    reach = b"" if reached is None else reached.digest
    guards = program, compiled.guards, compiled.expected
    return [*guards, reach, manifest.process, compiled.requires, manifest.buckets]


def _outputs(compiled: Compiled) -> list[Any]:
    """Return the outputs of a bundle, in the order of `_OUTPUTS`."""
    return [compiled.code, compiled.resumes, compiled.backends, compiled.imports]


def volatile(runs: Sequence[Sequence[Event]], now: Sequence[Event]) -> list[Event]:
    """Return a notice for each part of a recipe that differed at every start and was not reported before.

    Args:
        runs: events of earlier processes, oldest first.
        now: events of this one.
    """
    known = {
        (event.function[:2], event.changes[0].what) for run in runs for event in run if _is_volatile(event)
    }
    found: list[Event] = []
    for event in now:
        if event.outcome != MISS or event.lane != FULL or event.code not in _OF_RECIPES:
            continue
        for change in event.changes:
            place = event.function[:2], change.what
            values = [_value(event, change), *filter(None, (_missed(run, place) for run in reversed(runs)))]
            if place not in known and len(values) >= _STARTS and len(set(values)) == len(values):
                known.add(place)
                reason = f"{change.what} was another at each of {len(values)} starts: nothing is found"
                found.append(
                    event._replace(
                        outcome=NOTICE, code="volatile-key", reason=reason, changes=(change,), others=()
                    )
                )
    return found


def _is_volatile(event: Event) -> bool:
    return event.code == "volatile-key" and bool(event.changes)


def _missed(run: Sequence[Event], place: tuple[Any, str]) -> str:
    """Return a run's value for a key that it missed; empty if it did not miss."""
    for event in run:
        for change in event.changes if event.outcome == MISS and event.code in _OF_RECIPES else ():
            if (event.function[:2], change.what) == place:
                return _value(event, change)
    return ""


def _value(event: Event, change: Change) -> str:
    """Return the present value; for code, which has none in words, the recipe."""
    return change.here if change.here is not None else event.recipe
