"""Pause garbage collection: one pass over the heap of a process with torch outlasts a whole load."""

from __future__ import annotations

import gc
from types import TracebackType


class no_collection:
    """A context manager that stops cyclic garbage collection, in all threads."""

    def __enter__(self) -> None:
        self._collecting = gc.isenabled()
        gc.disable()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._collecting:
            gc.enable()
