"""Audits: trace served frames afresh, and report differences.

Off by default, and then not even imported. In audit mode Dynamo traces each hit of either lane once more,
before its result is used; nothing is executed or compiled. A difference is an `AuditError`. A start sampled
for audit does the same in forks, and only reports.
"""

from __future__ import annotations

import contextlib
import logging
import os
import random
import signal
import stat
import sys
import threading
import warnings
from collections import Counter
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, Protocol

from firebrick.errors import AuditError, FirebrickError
from firebrick.reports.events import AUDITED, DIFFERS, NOT_AUDITED, NOTICE, Event, Function
from firebrick.validity.audit import diff, differing, texts_of, whole

if TYPE_CHECKING:
    from firebrick.base.patches import Patches
    from firebrick.reports.counters import Stats
    from firebrick.settings import Settings
    from firebrick.storage.store import Store
    from firebrick.validity.audit import Texts

_log = logging.getLogger("firebrick")
_FORKS: Final = 32  # per start: a model has as many frames, a loop that compiles has more
_SECONDS: Final = 600  # time limit of one fork
_SAME: Final = "audited", "torch traces it to what is stored"


class Audits:
    """The results of audits since they were switched on.

    Attributes:
        same: hits whose trace equals the stored one.
        differed: the errors of hits whose trace differs.
        not_audited: reason -> hits that could not be compared.
    """

    def __init__(self) -> None:
        self.same = 0
        self.differed: list[AuditError] = []
        self.not_audited: Counter[str] = Counter()

    def __repr__(self) -> str:
        """Show the counts."""
        left = f", {self.not_audited.total()} not audited" if self.not_audited else ""
        return f"<{type(self).__name__}: {self.same} the same, {len(self.differed)} differ{left}>"


class AuditedSession(Protocol):
    """A session whose hits are audited."""

    settings: Settings
    stats: Stats
    store: Store | None

    def fault(self, error: BaseException, outcome: str = "") -> None:
        """Count a fault; see `firebrick.session.session.Session.fault`."""


class SessionAuditor:
    """An auditor of a session's hits. Used by one thread at a time, where a frame is served.

    Args:
        session: audits its hits.
        raises: whether to raise on a difference.
        forks: audit in forks of this process, which report to the store and the log.
    """

    def __init__(self, session: AuditedSession, *, raises: bool = True, forks: bool = False) -> None:
        self._session = session
        self._raises = raises
        self._forks = forks
        self._forked = 0
        self.found = Audits()

    def hit(
        self, function: Function, lane: str, text: Callable[[], str], frame: Any, how: Mapping[str, Any]
    ) -> None:
        """Audit a frame that is about to be served.

        Args:
            function: of the frame, for reports.
            lane: the lane that serves it.
            text: reads the text the bundle keeps for audits; empty for none.
            frame: torch's view of the frame.
            how: the arguments of ``torch.compile`` that affect a trace.

        Raises:
            AuditError: the trace differs from the stored one.
        """
        if not self._forks:
            self._audit(function, lane, text, frame, how)
        elif why := self._cannot_fork():
            self._not_audited(function, lane, why)
        else:
            self._forked += 1
            self._in_fork(lambda: self._audit(function, lane, text, frame, how))

    def _audit(
        self, function: Function, lane: str, text: Callable[[], str], frame: Any, how: Mapping[str, Any]
    ) -> None:
        try:
            kept = text()
            stored = texts_of(kept) if kept else None
        except FirebrickError as error:
            self._not_audited(function, lane, f"what the bundle keeps for it: {error}")
            return
        if stored is None:
            self._not_audited(function, lane, "the bundle keeps nothing to compare (an older writer made it)")
            return
        try:
            fresh = retraced(stored, frame, how)
        except Exception as error:
            said = str(error).strip().partition("\n")[0]
            self._not_audited(function, lane, f"torch cannot trace it: {type(error).__name__}: {said:.200}")
            return
        parts = differing(stored, fresh)
        if not parts:
            self.found.same += 1
            self._record(Event(function, lane, AUDITED, *_SAME))
            return
        found = AuditError(function.place, lane, parts, diff(stored, fresh), whole(stored), whole(fresh))
        self.found.differed.append(found)
        self._record(Event(function, lane, NOTICE, DIFFERS, f"{', '.join(parts)}:\n{found.diff}"))
        if self._raises:
            raise found

    def _not_audited(self, function: Function, lane: str, why: str) -> None:
        self.found.not_audited[why] += 1
        self._record(Event(function, lane, NOTICE, NOT_AUDITED, why))

    def _record(self, event: Event) -> None:
        self._session.stats.record(event)

    def _cannot_fork(self) -> str:
        """Return why this process cannot be forked to audit in the background; empty if it can."""
        if sys.platform != "linux":
            return "processes are forked on Linux alone"
        if self._forked >= _FORKS:
            return f"{_FORKS} functions of this start are audited already"
        if threading.active_count() > 1 or threading.current_thread() is not threading.main_thread():
            return "the process has several threads, and is not forked"
        torch = sys.modules["torch"]
        if torch.cuda.is_initialized():
            return "CUDA is initialised, and the process is not forked"
        return ""

    def _in_fork(self, audit: Callable[[], None]) -> None:
        """Run an audit in a fork of a fork, so that nobody has to wait for it. Never raises.

        The copy keeps the frame as it is now, whatever the program does with it next.
        """
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)  # threads of libraries; see `_alone`
                child = os.fork()
            if child:
                os.waitpid(child, 0)
                return
        except OSError as error:
            self._session.fault(error)
            return
        try:
            if os.fork() == 0:
                self._alone(audit)
        finally:
            os._exit(0)

    def _alone(self, audit: Callable[[], None]) -> None:
        """Audit in a fork, at the lowest priority, and keep the result in the store.

        A lock held by a library's thread at the fork stays locked: then the alarm ends the process.
        """
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(_SECONDS)
        let_go()
        os.setsid()
        os.nice(19)
        session = self._session
        session.stats.events.clear()  # the parent keeps its own
        sys.modules["torch"].set_num_threads(1)
        with contextlib.suppress(Exception):
            audit()
        if session.store is not None:
            from firebrick.reports.runs import keep

            keep(session.store, session.stats)


def let_go() -> None:
    """Release the pipes and sockets of the parent process, so that nobody waits for this one.

    The null device takes their numbers, so that nothing else is later closed in their place.
    """
    null = os.open(os.devnull, os.O_RDWR)
    for number in [*range(3), *map(int, os.listdir("/proc/self/fd"))]:
        with contextlib.suppress(OSError):
            mode = os.fstat(number).st_mode
            if number < 3 or stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode):
                os.dup2(null, number)


def auditor_of(session: AuditedSession) -> SessionAuditor | None:
    """Return a session's auditor by its settings: of every hit, or of those in a share of the starts."""
    share = session.settings.audit
    if share >= 1.0:
        return SessionAuditor(session)
    chosen = random.SystemRandom().random() < share  # leaves the program's generators alone
    return SessionAuditor(session, raises=False, forks=True) if chosen else None


def retraced(stored: Texts, frame: Any, how: Mapping[str, Any]) -> Texts:
    """Trace a frame afresh, and return Dynamo's result in canonical form.

    Args:
        stored: of the bundle that serves it; Dynamo's recorded knowledge of sizes applies again.
        frame: torch's view of the frame.
        how: the arguments of ``torch.compile`` that affect a trace.

    Raises:
        Exception: torch cannot trace it. Imports torch's compiler.
    """
    from firebrick import torch_api
    from firebrick.capture.audited import Audited
    from firebrick.capture.traced import Traced

    api = torch_api.load()
    listener, traced = Audited(stored.sizes), Traced(frame.f_code)

    def patch(patches: Patches) -> None:
        api.as_recorded(patches)
        api.note_tracing(patches, lambda: traced)  # reading a value can add a guard

    made = api.retrace(frame, listener, patch, **how)
    listener.guards(made.guards)
    return listener.texts(made.code, made.resumes, frame.f_code)
