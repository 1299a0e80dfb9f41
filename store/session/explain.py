"""Explain the outcome for a function: `firebrick.explain`.

An explanation is made from an event (`firebrick.reports.events`) of this process, or of the last one kept in
the store. The nearest stored recipe, which the event does not name, is read on demand.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final

from firebrick.errors import FirebrickError, UsageError
from firebrick.reports.advice import ADVICE
from firebrick.reports.events import FULL, HIT, MISS, NEW, TOLD, Change, Event, Function, name_of
from firebrick.session import session as attach

if TYPE_CHECKING:
    from firebrick.bundle.recipe import RecipeDifference
    from firebrick.storage.store import Store

_OF_RECIPES: Final = frozenset({"unknown", "code", "options", "platform"})
_SCANNED: Final = 2000  # recipes of a store that predates the index


class Explanation:
    """Why a function was served, compiled or not stored. Prints as text.

    Attributes:
        event: the event; ``None`` if there is none yet.
        function: the function explained.
        outcome: ``hit``, ``miss``, ``bypass``, ``stored``, ``left``, ``notice``, or ``none``.
        code: stable name of the reason, one of `firebrick.reports.events.CODES`; empty if nothing happened.
        reason: the reason in words.
        changes: the differences, with stored and present values.
        nearest: key of the nearest stored recipe in hexadecimal; ``None`` if there is none.
        advice: what to do.
    """

    def __init__(
        self, function: Function, event: Event | None, reason: str, nearest: str | None = None
    ) -> None:
        self.event = event
        self.function = function
        self.outcome = "none" if event is None else event.outcome
        self.code = "" if event is None else event.code
        self.reason = reason
        self.changes: tuple[Change, ...] = () if event is None else event.changes
        self.nearest = nearest
        self.advice = ADVICE.get(self.code, "")

    def __str__(self) -> str:
        """Return the explanation in a few lines."""
        name = self.function.name or self.function.qualname
        where = "" if self.function.place == name else self.function.place
        lane = f", {self.event.lane} lane" if self.event is not None else ""
        lines = [f"{name}{f' ({where})' if where else ''}: {self.outcome}{lane}"]
        if self.changes:
            lines += [f"  {worded(change)}" for change in self.changes]
        else:
            lines.append(f"  {self.reason}")
        if self.event is not None and self.event.others:
            lines += [f"  another stored one: {other}" for other in self.event.others]
        if self.nearest:
            lines.append(f"  nearest stored recipe: {self.nearest[:12]}")
        if self.advice:
            lines.append(f"  {self.advice}")
        return "\n".join(lines)

    def __repr__(self) -> str:
        """Show the function and outcome."""
        return f"<{type(self).__name__} of {self.function.name or self.function.qualname}: {self.outcome}>"


class Explanations(Sequence[Explanation]):
    """The explanations of a process. Prints as text.

    Attributes:
        source: the process the events belong to.
    """

    def __init__(self, source: str, items: Iterable[Explanation]) -> None:
        self.source = source
        self._items = list(items)

    def __len__(self) -> int:
        """Return the number of explanations."""
        return len(self._items)

    def __getitem__(self, index: Any) -> Any:
        """Return one explanation, or a slice."""
        return self._items[index]

    def __str__(self) -> str:
        """Return all explanations, one block each."""
        if not self._items:
            return f"{self.source}: no misses and no bypasses"
        return "\n\n".join([f"{self.source}:", *map(str, self._items)])

    __repr__ = __str__


def worded(change: Change) -> str:
    """Return a change in the user's terms: ``global `SCALE` was 2, is 3``."""
    what, stored, here = change
    if stored is None and here is None:
        return f"{what} changed"
    if stored is None and here == NEW:
        return f"{what} is {NEW}"
    if what.startswith(("global ", "type of global ")):
        return f"{what} was {stored or 'nothing'}, is {here or 'nothing'}"
    if what.startswith(("`L[", "type of `L[", "dispatch keys of L[")) or what.endswith(")`"):
        return f"{what} stored {stored or 'nothing'}, now {here or 'nothing'}"
    return f"{what} {stored or 'nothing'} → {here or 'nothing'}"


def explain(what: Any = None) -> Explanation | Explanations:
    """Explain why a function was compiled, served or not stored.

    Args:
        what: a function, a module, or the result of ``torch.compile`` for one; or an event of
            ``firebrick.stats().events``. By default all misses and bypasses of this process are explained; if
            there are none, those of the last process kept in the store.

    Raises:
        UsageError: it is something else.

    Never raises for faults of the store: unreadable parts are left out. Any thread may call it.
    """
    session = attach.session()
    store = session.store if session is not None else None
    stats = attach.stats()
    if isinstance(what, Event):
        return _explained(what, store)
    events = stats.events.all()
    if what is None:
        told = _distinct(events)
        if told or store is None:
            return Explanations("this process", [_explained(event, store) for event in told])
        return _last_run(store)
    functions = _functions(what)
    matching = [event for event in events if any(_is(event.function, known) for known in functions)]
    chosen = next((e for e in reversed(matching) if e.outcome in TOLD), None)
    last = matching[-1] if matching else None
    if chosen is not None and last is not None and last.outcome == HIT and chosen.lane != FULL:
        chosen = last  # the full lane served it
    if chosen is not None or last is not None:
        return _explained(chosen or last, store)  # type: ignore[arg-type]
    return _nothing_yet(functions[0], store)


def _distinct(events: Sequence[Event]) -> list[Event]:
    """Return the events that need an explanation, one per function and reason."""
    found: dict[Any, Event] = {}
    full = {event.function for event in events if event.lane == FULL and event.outcome in (MISS, HIT)}
    for event in events:
        if event.outcome in TOLD and (event.lane == FULL or event.function not in full):
            found.setdefault((event.function, event.outcome, event.reason), event)
    return list(found.values())


def _last_run(store: Store) -> Explanations:
    try:
        runs = explain_runs(store, 1)
    except FirebrickError:
        runs = []
    return runs[0] if runs else Explanations("this process", [])


def explain_runs(store: Store, number: int) -> list[Explanations]:
    """Explain the misses and bypasses of the latest processes kept in a store, latest first.

    Args:
        store: holds their events.
        number: of processes.

    Raises:
        FirebrickError: the store cannot be read.
    """
    from firebrick.reports.runs import read

    explained = []
    for run in list(reversed(read(store).values()))[:number]:
        when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(run.when))
        items = [_explained(event, store) for event in _distinct(run.events)]
        explained.append(Explanations(f"process {run.pid}, which ended at {when}", items))
    return explained


def _explained(event: Event, store: Store | None) -> Explanation:
    if event.outcome != MISS or store is None or not event.recipe:
        return Explanation(event.function, event, event.reason)
    if event.code not in _OF_RECIPES:
        return Explanation(event.function, event, event.reason, event.recipe)  # its bundles were refused
    try:
        key, differ = _nearest(event, store)
    except FirebrickError:
        return Explanation(event.function, event, event.reason)
    # the store has no index of functions; the words of the changes need torch
    if event.code == "unknown" and differ and "torch" in sys.modules:
        from firebrick.reports.wording import code_of, recipe_changes

        changes = tuple(recipe_changes(differ, event.function.place))
        event = event._replace(code=code_of(differ), changes=changes)
    return Explanation(event.function, event, event.reason, key)


def _nearest(event: Event, store: Store) -> tuple[str | None, list[RecipeDifference]]:
    """Return the stored recipe of the same function that differs least, and its differences."""
    from firebrick.bundle.recipe import nearest
    from firebrick.reports.inventory import components_of

    recipe = bytes.fromhex(event.recipe)
    known = dict(components_of(store, _recipes(store, event.function)))
    known.pop(recipe, None)
    wanted = store.components(recipe)  # present if it was stored
    found = nearest(wanted, known) if wanted else None
    if found is not None and not event.function.qualname.endswith("(resumed)"):
        return found[0].hex(), found[1]
    return next((key.hex() for key in known), None), []


def _recipes(store: Store, function: Function) -> list[bytes]:
    """Return the recipes of a function; a store without a complete index is scanned, up to a limit."""
    found = store.recipes_of(function.module, function.qualname, limit=_SCANNED)
    if found or store.indexed:
        return found
    for number, key in enumerate(store.recipes()):
        if number >= _SCANNED:
            break
        parts = store.components(key) or {}
        if (parts.get("function.module"), parts.get("function.name")) == function[:2]:
            found.append(key)
    return found


def _nothing_yet(function: Function, store: Store | None) -> Explanation:
    if store is None:
        return Explanation(function, None, "Firebrick is not enabled in this process")
    try:
        number = sum(len(store.bundles(key)) for key in _recipes(store, function))
    except FirebrickError:
        number = 0
    stored = f"the store has {number} compiled forms of it" if number else "the store has nothing of it"
    return Explanation(function, None, f"it has not been called in this process; {stored}")


def _is(function: Function, known: Function) -> bool:
    if known.module and function[:2] == known[:2]:
        return True
    if not known.name or known.name != function.name:
        return False
    return function.is_wrapper or function.module == known.module


def _functions(what: Any) -> list[Function]:
    """Return the names by which the frames of a function or module may be known.

    Raises:
        UsageError: it is neither.
    """
    for _ in range(8):
        attributes = getattr(what, "__dict__", {})
        inner = attributes.get("_modules", {}).get("_orig_mod") or attributes.get("_orig_mod")
        if inner is None and "_modules" not in attributes:  # a module is known as itself
            inner = attributes.get("_torchdynamo_orig_callable") or attributes.get("__wrapped__")
            inner = inner or getattr(what, "__func__", None)
        if inner is None:
            break
        what = inner
    if not callable(what):
        raise UsageError(f"explain takes a function, a module or an event, not {type(what).__qualname__}")
    found = [_function(what)] if hasattr(what, "__code__") else []
    if not isinstance(what, type) and (forward := getattr(type(what), "forward", None)) is not None:
        name = type(what).__qualname__
        found += [Function(type(what).__module__, f"{name}.forward", f"{name}.forward"), _function(forward)]
    return [*found, Function("", "", name_of(what))]


def _function(function: Any) -> Function:
    code = getattr(function, "__code__", None)
    file = "" if code is None else code.co_filename.rpartition("/")[2]
    module, qualname = str(function.__module__), str(function.__qualname__)
    return Function(module, qualname, qualname, file)
