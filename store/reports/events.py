"""Events: the outcome of every frame looked up, compiled or left alone, in structured form.

A process keeps the latest in memory (`Events`); `runs` writes them to the store at exit, and `explain` words
them. Imports neither torch nor the store.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections import deque
from collections.abc import Iterable, Mapping
from types import CodeType
from typing import Any, Final

from firebrick.base.namedtuple import NamedTuple

_log = logging.getLogger("firebrick")

HIT: Final = "hit"  # served from the store
MISS: Final = "miss"  # looked up and not found
BYPASS: Final = "bypass"  # compiled, not stored
STORED: Final = "stored"  # compiled and stored
LEFT: Final = "left"  # torch decided to run it uncompiled
AUDITED: Final = "audited"  # served; torch's trace of it is equal
NOTICE: Final = "notice"  # something about the store that needs attention

LEAN: Final = "lean"
FULL: Final = "full"

_WRAPPER: Final = "wrap_inline.<locals>.inner"
TOLD: Final = frozenset({MISS, BYPASS, NOTICE})
_LEVELS: Final = {MISS: logging.INFO, BYPASS: logging.INFO, NOTICE: logging.WARNING}
KEPT: Final = 1000  # events of a process

# Stable names of reasons; docs/explain.md has the same table.
CODES: Final[Mapping[str, str]] = {
    "served": "the store had the function, and its guards passed",
    "stored": "the function was compiled and is now in the store",
    "known": "the function was compiled, and the identical result was already in the store",
    "unknown": "the store has no function of this name",
    "code": "the function's own code changed",
    "options": "an option of `torch.compile`, or the compiler's configuration, differs",
    "platform": "Python, torch, the machine, the GPU or its toolkit differs",
    "value": "a value that the compiled code depends on differs",
    "tensor": "a tensor's type, size, stride, dtype or device differs",
    "state": "a global state of torch differs (threads, grad mode, autocast, …)",
    "object": "a function, class, module or other object known by name and code differs",
    "changed": "something the compiled code reaches by name changed, appeared or disappeared",
    "buckets": "`DistributedDataParallel` would split the graph into other buckets",
    "process": "a process fact that torch folded into the graph differs (rank, GPU, …)",
    "lane": "only the other lane can serve the bundle",
    "untested": "the bundle's self-test failed or has not run",
    "missing": "a part of the bundle is not in the store",
    "damaged": "a part of the bundle is damaged",
    "version": "the bundle was written by another version of Firebrick",
    "another-recipe": "the bundle belongs to another recipe",
    "error": "the bundle could not be used for another reason, which is given",
    "not-storable": "the compiled function cannot be stored; the reason names the cause",
    "no-room": "the disk or the limit of the store leaves no room, and nothing more can be evicted",
    "no-backward": "the backend has no artifact: the backward graph was not compiled, or torch made none",
    "failed": "torch could not compile the frame",
    "unwatched": "Firebrick could not record the compilation; the reason says why",
    "own-precompile": "the program uses torch's own precompile, and Firebrick does not interfere",
    "export": "torch exports the function, which is never stored",
    "other-backend": "a backend other than Inductor compiles the function, which is never stored",
    "left-alone": "torch runs the frame uncompiled",
    "volatile-key": "a part of a recipe differed at every start, so nothing is ever found",
    "audited": "an audit traced the function afresh, and the trace equals the stored one",
    "differs": "an audit traced the function afresh, and the trace differs from the stored one",
    "not-audited": "an audit could not compare the function; the reason says why",
    "divergence": "equal inputs gave different bytes, so one of two stored functions is never needed",
}
NEW: Final = "new to the store"  # the store knows nothing of the function
SERVED: Final = "served", "served from the store"  # code and words
OTHER_BACKEND: Final = "other-backend", "another backend than Inductor compiles it"
DIFFERS: Final = "differs"
NOT_AUDITED: Final = "not-audited"
LEFT_ALONE: Final = "left-alone", "torch runs it as it is"


class Change(NamedTuple):
    """A difference: its name in the user's terms, and both values as texts; ``None`` for no value."""

    what: str
    stored: str | None
    here: str | None

    def __str__(self) -> str:
        """Return the change in a few words."""
        if self.stored is None and self.here is None:
            return f"{self.what} changed"
        stored = "nothing" if self.stored is None else self.stored
        here = "nothing" if self.here is None else self.here
        return f"{self.what}: stored {stored}, here {here}"


def listed(changes: Iterable[tuple[str, str | None, str | None]]) -> str:
    """Return changes as one text."""
    return "; ".join(str(Change(*change)) for change in changes)


def place(module: str, qualname: str) -> str:
    """Return the location of a module's function as ``model.py:Attention.forward``."""
    file = getattr(sys.modules.get(module), "__file__", None)
    return f"{os.path.basename(file) if file else module}:{qualname}"


class Function(NamedTuple):
    """A frame's function.

    Attributes:
        module: ``__name__`` of its globals.
        qualname: its qualified name; for a resume function without its line number.
        name: its name to the user: the class of a module, the function behind a wrapper of torch.
        file: the name of its file, without folders.
    """

    module: str
    qualname: str
    name: str = ""
    file: str = ""

    @property
    def is_wrapper(self) -> bool:
        """Whether it is torch's wrapper of a callable that Dynamo does not trace."""
        return self.qualname.endswith(_WRAPPER)

    @property
    def place(self) -> str:
        """The function as ``model.py:Attention.forward``."""
        if self.is_wrapper and self.name:
            return self.name
        known = self.file if self.file and not self.file.startswith("<") else self.module
        return f"{known}:{self.qualname}"


class Event(NamedTuple):
    """The outcome of one frame. Immutable.

    Attributes:
        function: the frame's function.
        lane: ``lean`` or ``full``.
        outcome: ``hit``, ``miss``, ``bypass``, ``stored``, ``left``, ``audited`` or ``notice``.
        code: stable name of the reason, one of `CODES`.
        reason: the reason in words.
        changes: differences from the state in which the nearest bundle was stored.
        seconds: time to look it up, or to compile it.
        recipe: key of the recipe looked up, in hexadecimal; empty for none.
        others: for a miss, why the other bundles did not serve the frame.
        when: seconds since 1970.
    """

    function: Function
    lane: str
    outcome: str
    code: str
    reason: str
    changes: tuple[Change, ...] = ()
    seconds: float = 0.0
    recipe: str = ""
    others: tuple[str, ...] = ()
    when: float = 0.0

    def __str__(self) -> str:
        """Return the event as one line."""
        name = self.function.name or self.function.qualname
        return f"{name}: {self.outcome} ({self.lane}): {' '.join(self.reason.split())}"

    def plain(self) -> list[Any]:
        """Return the event as lists, numbers and texts."""
        function, changes = list(self.function), [list(change) for change in self.changes]
        return [function, *self[1:5], changes, *self[6:8], list(self.others), self.when]

    @classmethod
    def of_plain(cls, value: Any) -> Event:
        """Return the event from the result of `plain`.

        Raises:
            TypeError, ValueError, IndexError: the value has another form.
        """
        function, lane, outcome, code, reason, changes, seconds, recipe, others, when = value
        return cls(
            Function(*map(str, function)), str(lane), str(outcome), str(code), str(reason),
            tuple(Change(*change) for change in changes), float(seconds), str(recipe),
            tuple(map(str, others)), float(when),
        )  # fmt: skip


class Events:
    """The latest events of a process, oldest first. Thread-safe.

    Args:
        size: number of events kept.
    """

    def __init__(self, size: int = KEPT) -> None:
        self._ring: deque[Event] = deque(maxlen=size)  # appending is atomic
        self._lean = threading.local()  # the lean lane's miss that precedes the full lane's

    def add(self, event: Event) -> None:
        """Keep an event and log it, at debug level if it needs no explanation."""
        self._ring.append(event)
        _log.log(_LEVELS.get(event.outcome, logging.DEBUG), "%s", event)

    def all(self) -> list[Event]:
        """Return the kept events."""
        while True:
            try:
                return list(self._ring)
            except RuntimeError:  # another thread added one meanwhile
                continue

    def clear(self) -> None:
        """Forget the events."""
        self._ring.clear()

    def told(self) -> list[Event]:
        """Return the events that need an explanation: misses, bypasses and notices."""
        return [event for event in self.all() if event.outcome in TOLD]

    def handing_over(self, code: CodeType, event: Event) -> None:
        """Remember why the lean lane did not serve the frame this thread now passes to the compiler."""
        self._lean.miss = code, event

    def handed_over(self, code: CodeType) -> Event | None:
        """Return, once, why the lean lane did not serve a frame; ``None`` if it did not try."""
        held, event = getattr(self._lean, "miss", (None, None))
        if held is not code:
            return None
        self._lean.miss = None, None
        found: Event | None = event
        return found


def function_of(code: CodeType, module: str, values: Mapping[str, Any] | None = None) -> Function:
    """Return the function of a frame, for reports. Runs no user code.

    Args:
        code: the frame's code object.
        module: ``__name__`` of its globals.
        values: its locals, if available: they tell the class of a module.
    """
    from firebrick.bundle.recipe import frame_name

    qualname = frame_name(code)
    return Function(
        module, qualname, _user_name(code, qualname, values or {}), os.path.basename(code.co_filename)
    )


def _user_name(code: CodeType, qualname: str, values: Mapping[str, Any]) -> str:
    if qualname.endswith(_WRAPPER) and "fn" in values:
        return name_of(values["fn"])
    first = code.co_varnames[0] if code.co_argcount else ""
    if first == "self" and first in values and "." in qualname and "<locals>" not in qualname:
        owner, method = type(values[first]).__qualname__, qualname.rpartition(".")[2]
        if method.removesuffix(" (resumed)") in ("forward", "_wrapped_call_impl", "_call_impl", "__call__"):
            return owner if method != "forward" else f"{owner}.forward"
    return qualname


def name_of(value: Any) -> str:
    """Return the user's name for a function, or for the class of a module or callable."""
    for _ in range(8):
        inner = vars(value).get("__wrapped__") if hasattr(value, "__dict__") else None
        inner = getattr(value, "func", None) if type(value).__name__ == "partial" else inner
        if inner is None:
            break
        value = inner
    if isinstance(value, type) or type(value).__name__ in (
        "function",
        "method",
        "builtin_function_or_method",
    ):
        return str(value.__qualname__)
    return type(value).__qualname__
