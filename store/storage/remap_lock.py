"""A shared/exclusive lock: transactions share it, remapping takes it exclusively."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator


class RemapLock:
    """A count of transactions per thread; `alone` waits until there are none.

    A thread that is inside may re-enter while another waits to be alone (otherwise nested transactions would
    deadlock); everyone else waits outside. No wait exceeds its timeout, in seconds.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition(threading.Lock())
        self._inside: dict[int, int] = {}
        self._alone = False

    def enter(self, timeout: float) -> int | None:
        """Enter and return the token for `leave`; None on timeout."""
        me = threading.get_ident()
        with self._changed:
            if me not in self._inside and not self._changed.wait_for(lambda: not self._alone, timeout):
                return None
            self._inside[me] = self._inside.get(me, 0) + 1
        return me

    def leave(self, token: int) -> None:
        """Leave; any thread may call it."""
        with self._changed:
            self._inside[token] -= 1
            if not self._inside[token]:
                del self._inside[token]
                self._changed.notify_all()

    @contextlib.contextmanager
    def alone(self, timeout: float) -> Iterator[bool]:
        """Hold the lock with nobody inside; yield False on timeout."""
        with self._changed:
            granted = threading.get_ident() not in self._inside and self._changed.wait_for(
                lambda: not self._alone, timeout
            )
            if granted:
                self._alone = True
                granted = self._changed.wait_for(lambda: not self._inside, timeout)
                if not granted:
                    self._release()
        try:
            yield granted
        finally:
            if granted:
                with self._changed:
                    self._release()

    def _release(self) -> None:
        self._alone = False
        self._changed.notify_all()
