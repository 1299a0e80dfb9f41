"""Write Firebrick's log to standard error if a setting asks for it."""

from __future__ import annotations

import logging
from collections.abc import Callable


def to_stderr(level: str | None) -> Callable[[], None]:
    """Log to standard error from a level up, until the returned function is called.

    Args:
        level: ``info`` or ``debug``; ``None`` leaves Python's logging unchanged.
    """
    if level is None:
        return lambda: None
    log = logging.getLogger("firebrick")
    handler, before = logging.StreamHandler(), (log.level, log.propagate)
    handler.setFormatter(logging.Formatter("firebrick: %(message)s"))
    log.addHandler(handler)
    log.setLevel(level.upper())
    log.propagate = False  # a handler of the program would repeat everything

    def undo() -> None:
        log.removeHandler(handler)
        log.setLevel(before[0])
        log.propagate = before[1]

    return undo
