"""Counters of one process: what was found, what was missed and why, what was stored."""

from __future__ import annotations

import threading
from collections import Counter
from typing import Any


class Stats:
    """What Firebrick did since it was enabled. Thread-safe; read it at any time.

    Attributes:
        hits: frames that were served from the store.
        misses: reason -> frames that were looked up in vain.
        bypasses: reason -> frames that were compiled but could not be stored.
        faults: kind of error -> faults of the store that were passed over.
        stored: bundles that were published.
        bytes_read: raw bytes of the blobs that were read.
        bytes_written: raw bytes of the blobs that were handed to the store.
        lean: how many of the hits were served without the compiler.
        not_lean: reason -> bundles that were stored for the full lane only.
        seconds_saved: seconds that compiling the served frames took when they were stored.
    """

    def __init__(self) -> None:
        self.hits = 0
        self.misses: Counter[str] = Counter()
        self.bypasses: Counter[str] = Counter()
        self.faults: Counter[str] = Counter()
        self.stored = 0
        self.bytes_read = 0
        self.bytes_written = 0
        self.seconds_saved = 0.0
        self.lean = 0
        self.not_lean: Counter[str] = Counter()
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        """Show the counters."""
        return f"{type(self).__name__}({self.as_dict()})"

    def hit(self, seconds: float, *, lean: bool = False) -> None:
        """Count a served frame and the seconds of compilation that it saved."""
        with self._lock:
            self.hits += 1
            self.lean += lean
            self.seconds_saved += seconds

    def miss(self, reason: str) -> None:
        """Count a frame that was looked up in vain."""
        with self._lock:
            self.misses[reason] += 1

    def bypass(self, reason: str) -> None:
        """Count a compiled frame that could not be stored."""
        with self._lock:
            self.bypasses[reason] += 1

    def fault(self, error: BaseException) -> None:
        """Count a fault that was passed over."""
        with self._lock:
            self.faults[type(error).__name__] += 1

    def eligible(self, refused: str | None) -> None:
        """Count a stored bundle that the compiler-free lane refuses, with the reason."""
        with self._lock:
            if refused is not None:
                self.not_lean[refused] += 1

    def published(self) -> None:
        """Count a published bundle."""
        with self._lock:
            self.stored += 1

    def moved(self, *, read: int = 0, written: int = 0) -> None:
        """Count raw bytes that were read from or handed to the store."""
        with self._lock:
            self.bytes_read += read
            self.bytes_written += written

    def as_dict(self) -> dict[str, Any]:
        """Return the counters as plain values, fit for JSON."""
        with self._lock:
            values = {name: value for name, value in vars(self).items() if not name.startswith("_")}
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
