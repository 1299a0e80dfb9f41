"""Write Firebrick's log to standard error where a setting asks for it."""

from __future__ import annotations

import logging
from collections.abc import Callable


def to_stderr(level: str | None) -> Callable[[], None]:
    """Write from a level on to standard error, until the function that is returned is called.

    Args:
        level: ``info`` or ``debug``; ``None`` for nothing, and Python's logging stays as the program has it.
    """
    if level is None:
        return lambda: None
    log = logging.getLogger("firebrick")
    handler, before = logging.StreamHandler(), (log.level, log.propagate)
    handler.setFormatter(logging.Formatter("firebrick: %(message)s"))
    log.addHandler(handler)
    log.setLevel(level.upper())
    log.propagate = False  # a handler of the program would say everything twice

    def undo() -> None:
        log.removeHandler(handler)
        log.setLevel(before[0])
        log.propagate = before[1]

    return undo
