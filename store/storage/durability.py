"""Decide when commits are flushed: each at once, at most an interval later, or when the system does.

LMDB flushes the pages of a commit before its meta page, and so the commit before it as well. No level risks
more than the last commits of a crash of the system, each as a whole, and none risks the file.
"""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import threading
from typing import Literal, TypeAlias

from firebrick.storage import format as fmt

Durability: TypeAlias = Literal["each", "interval", "system"]

_log = logging.getLogger("firebrick")


def level(durable: bool | Durability) -> Durability:
    """Return the level that is meant; True is "each" and False "system"."""
    if isinstance(durable, bool):
        return "each" if durable else "system"
    return durable


class Flusher:
    """Flush one file within `format.FLUSH_INTERVAL_S` after a commit, by a thread that lives until then.

    It has a descriptor of its own while a flush is due, so it needs nothing that may be closed meanwhile.
    Any thread may call its methods. A process that is killed leaves the flush to the next commit, or to the
    system.
    """

    def __init__(self) -> None:
        """Begin with no flush due."""
        self._lock = threading.Lock()
        self._fd = -1
        self._timer: threading.Timer | None = None

    def later(self, fd: int) -> None:
        """See to a flush of what a descriptor is of; it may be closed afterwards."""
        with self._lock:
            if self._fd >= 0 or fd < 0:
                return
            self._fd = os.dup(fd)
            self._timer = threading.Timer(fmt.FLUSH_INTERVAL_S, self.now)
            self._timer.daemon = True
            self._timer.start()
            atexit.register(self.now)

    def now(self) -> None:
        """Do the flush that is due, if one is."""
        with self._lock:
            fd, self._fd = self._fd, -1
            timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()
        if fd < 0:
            return
        atexit.unregister(self.now)
        try:
            os.fdatasync(fd)
        except OSError as error:
            _log.warning("the last writes may not survive a crash of the system: %s", error)
        finally:
            os.close(fd)

    def forget(self) -> None:
        """Leave it to the parent process; called in a new child process."""
        with contextlib.suppress(OSError):
            if self._fd >= 0:
                os.close(self._fd)
        atexit.unregister(self.now)
