"""Let another process restore each new bundle before the lean lane may serve it.

A bundle whose test is pending or failed has a note (`SELF_TEST` among its facts); the lean lane skips it, and
the full lane serves it. One child process tests all bundles of this process, alongside the program, at low
priority.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from typing import Any, Final

from firebrick.errors import DamagedError
from firebrick.loader.bundles import PENDING, SELF_TEST
from firebrick.loader.self_test import READY
from firebrick.storage.keys import ContentKey
from firebrick.storage.store import Store

_log = logging.getLogger("firebrick")
_SECONDS: Final = 60.0  # that process exit waits for tests


class SelfTests:
    """The tests one process has requested. Thread-safe; a fork has none.

    Args:
        store: holds the bundles and their test results.
        fault: called with an error of the store; must not raise.
    """

    def __init__(self, store: Store, fault: Callable[[BaseException], None]) -> None:
        self._store = store
        self._fault = fault
        self._keys: queue.SimpleQueue[ContentKey | None] = queue.SimpleQueue()
        self._asked: set[ContentKey] = set()
        self._thread: threading.Thread | None = None
        self._child: subprocess.Popen[str] | None = None
        self._possible = bool(sys.executable)
        self._pid = os.getpid()
        self._lock = threading.Lock()

    def facts(self) -> dict[str, Any]:
        """Return the facts of a bundle whose test is pending."""
        return {SELF_TEST: PENDING} if self._possible and os.getpid() == self._pid else {}

    def add(self, key: ContentKey) -> None:
        """Test a bundle in the background and store the result."""
        with self._lock:
            if key in self._asked or not self.facts():
                return
            self._asked.add(key)
            self._keys.put(key)
            if self._thread is None:
                thread = threading.Thread(target=self._work, name="firebrick self-tests", daemon=True)
                with contextlib.suppress(RuntimeError):  # an exiting process starts none: see `close`
                    thread.start()
                    self._thread = thread

    def close(self) -> None:
        """Wait up to a minute for the tests under way; leave the rest to another process."""
        if not self._asked or os.getpid() != self._pid:
            return
        self._keys.put(None)
        thread = self._thread
        if thread is None:
            self._work()
            return
        thread.join(_SECONDS)
        if thread.is_alive() and self._child is not None:
            self._child.kill()
            thread.join()

    def _work(self) -> None:
        while (key := self._keys.get()) is not None:
            try:
                verdict = self._test(key)
                facts: dict[str, Any] = {}
                with contextlib.suppress(DamagedError):  # is rewritten
                    facts = {name: fact for name, fact in self._store.facts(key).items() if name != SELF_TEST}
                self._store.note(key, facts | ({SELF_TEST: verdict} if verdict else {}))
            except Exception as error:
                self._fault(error)
            else:
                if verdict:
                    _log.warning("bundle %s is not for the lean lane: %s", key.hex()[:12], verdict)
        self._end()

    def _test(self, key: ContentKey) -> str:
        """Return what is wrong with a bundle; empty too if no process can be started to test it."""
        if self._possible and self._child is None:
            self._child = _start(self._store)
            self._possible = self._child is not None
        if self._child is None:
            return ""
        answer = _ask(self._child, key.hex())
        return f"the process that restored it ended ({self._end()})" if answer is None else json.loads(answer)

    def _end(self) -> int:
        child, self._child = self._child, None
        if child is None:
            return 0
        with contextlib.suppress(OSError):
            child.communicate()
        return child.returncode


def _start(store: Store) -> subprocess.Popen[str] | None:
    """Start the process that restores bundles, or log that it cannot be started."""
    try:
        child = subprocess.Popen(
            [sys.executable, "-P", "-m", "firebrick.loader.self_test", str(store.path)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
            env=_environment(os.environ),
        )  # fmt: skip
    except OSError as error:
        _log.warning("bundles are not tested: %s", error)
        return None
    if _ask(child, None) == READY:
        return child
    child.communicate()
    _log.warning("bundles are not tested: the process for it ended at once (%s)", child.returncode)
    return None


def _ask(child: subprocess.Popen[str], line: str | None) -> str | None:
    """Send a line and return the answer; ``None`` if the child has exited."""
    if child.stdin is None or child.stdout is None:
        return None
    try:
        if line is not None:
            child.stdin.write(f"{line}\n")
            child.stdin.flush()
        return child.stdout.readline().rstrip("\n") or None
    except OSError:
        return None


def _environment(variables: Mapping[str, str]) -> dict[str, str]:
    own = {name: value for name, value in variables.items() if not name.startswith("FIREBRICK_")}
    return own | {"CUDA_VISIBLE_DEVICES": ""}
