"""Hold off garbage collection: one over the heap of a process with torch takes longer than a whole load."""

from __future__ import annotations

import gc
from types import TracebackType


class no_collection:
    """Context manager: no cyclic garbage collection in this block, in any thread."""

    def __enter__(self) -> None:
        self._collecting = gc.isenabled()
        gc.disable()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._collecting:
            gc.enable()
