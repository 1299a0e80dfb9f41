"""Counters of one process: hits, misses and their reasons, stored bundles."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

from firebrick.reports.events import (
    AUDITED,
    BYPASS,
    DIFFERS,
    FULL,
    HIT,
    LEAN,
    MISS,
    NOT_AUDITED,
    NOTICE,
    STORED,
    Event,
    Events,
    Function,
)

_STORE: Final = Function("", "the store", "the store")


class Stats:
    """Counters since Firebrick was enabled. Thread-safe; may be read at any time.

    Attributes:
        hits: frames served from the store.
        misses: reason -> frames not found.
        bypasses: reason -> frames compiled that could not be stored.
        faults: kind of error -> faults of the store that were ignored.
        stored: bundles published.
        bytes_read: raw bytes of blobs read.
        bytes_written: raw bytes of blobs handed to the store.
        lean: hits served without the compiler.
        not_lean: reason -> bundles stored for the full lane only.
        audited: hits that an audit found equal to torch's present result.
        differed: function -> hits that an audit found to differ.
        not_audited: reason -> hits that an audit could not compare.
        seconds_saved: seconds that compiling the served frames took when they were recorded.
        functions: name of a function -> its ``hits``, of these ``lean``, ``misses``, ``bypasses`` and
            ``stored`` frames; zeros are left out.
    """

    def __init__(self) -> None:
        self.hits = 0
        self.misses: Counter[str] = Counter()
        self.bypasses: Counter[str] = Counter()
        self.faults: Counter[str] = Counter()
        self.damaged = 0
        self.stored = 0
        self.bytes_read = 0
        self.bytes_written = 0
        self.seconds_saved = 0.0
        self.lean = 0
        self.not_lean: Counter[str] = Counter()
        self.audited = 0
        self.differed: Counter[str] = Counter()
        self.not_audited: Counter[str] = Counter()
        self.functions: dict[str, Counter[str]] = {}
        self._events = Events()
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        """Show the counters."""
        return f"{type(self).__name__}({self.as_dict()})"

    def record(self, event: Event, *, saved: float = 0.0) -> None:
        """Count an event and keep it in `events`.

        Args:
            event: the outcome of a frame. A miss of the lean lane is not counted: the full lane is next.
            saved: for a hit, the seconds of compilation it saved.
        """
        if not event.when:
            event = event._replace(when=time.time())
        lean = event.lane == LEAN
        with self._lock:
            counts = self.functions.setdefault(event.function.name or event.function.qualname, Counter())
            if event.outcome == HIT:
                self.hits += 1
                self.lean += lean
                self.seconds_saved += saved
                counts["hits"] += 1
                if lean:
                    counts["lean"] += 1
            elif event.outcome == MISS and not lean:
                self.misses[event.reason] += 1
                counts["misses"] += 1
            elif event.outcome == BYPASS:
                self.bypasses[event.reason] += 1
                counts["bypasses"] += 1
            elif event.outcome == STORED:
                counts["stored"] += 1
            elif event.outcome == AUDITED:
                self.audited += 1
            elif event.code == DIFFERS:
                self.differed[event.function.place] += 1
            elif event.code == NOT_AUDITED:
                self.not_audited[event.reason] += 1
            if not counts:
                del self.functions[event.function.name or event.function.qualname]
        self.events.add(event)

    @property
    def events(self) -> Events:
        """The last events of this process."""
        return self._events

    def fault(self, error: BaseException) -> None:
        """Count an ignored fault."""
        with self._lock:
            self.faults[type(error).__name__] += 1

    def damage_met(self, error: BaseException, dropped: Sequence[int]) -> None:
        """Count damage that was met, and note it as an event.

        Args:
            error: describes the damage.
            dropped: the number of blobs, bundles and other entries dropped for it.
        """
        with self._lock:
            self.damaged += 1
        words = "{}; dropped {} blobs, {} bundles and {} other entries".format(error, *dropped)
        self.events.add(Event(_STORE, FULL, NOTICE, "damaged", words, when=time.time()))

    def count_not_lean(self, reason: str | None) -> None:
        """Count a stored bundle that the lean lane refuses, by reason."""
        with self._lock:
            if reason is not None:
                self.not_lean[reason] += 1

    def published(self) -> None:
        """Count a published bundle."""
        with self._lock:
            self.stored += 1

    def add_bytes(self, *, read: int = 0, written: int = 0) -> None:
        """Count raw bytes read from or handed to the store."""
        with self._lock:
            self.bytes_read += read
            self.bytes_written += written

    def as_dict(self) -> dict[str, Any]:
        """Return the counters as plain values, fit for JSON."""
        with self._lock:
            values = {name: value for name, value in vars(self).items() if not name.startswith("_")}
            values["functions"] = {name: dict(counts) for name, counts in self.functions.items()}
        return {k: dict(v) if isinstance(v, Counter) else v for k, v in values.items()}

    def summary(self) -> str:
        """Return one line for the log."""
        with self._lock:
            return (
                f"{self.hits} hits ({self.lean} lean), {self.misses.total()} misses, "
                f"{self.bypasses.total()} bypasses, {self.stored} bundles stored, "
                f"{self.bytes_read} bytes read, {self.bytes_written} bytes written, "
                f"{self.seconds_saved:.1f} s of compilation saved"
            )

    def not_stored(self) -> str:
        """Return one line with the number of functions not stored, and why; empty if all were."""
        with self._lock:
            total = sum(1 for counts in self.functions.values() if counts)
            lost = sum(1 for counts in self.functions.values() if counts["bypasses"])
            common = self.bypasses.most_common(3)
            reasons = [f"{' '.join(reason.split()):.200} ({number})" for reason, number in common]
            more = len(self.bypasses) - len(reasons)
        if not lost:
            return ""
        rest = f"; and {more} more" if more > 0 else ""
        return f"{lost} of {total} functions were not stored: {'; '.join(reasons)}{rest}"
