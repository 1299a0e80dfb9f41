"""`firebrick.audit`: audit the hits of a block, whatever the settings say."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from firebrick.errors import UsageError
from firebrick.session import session as attach
from firebrick.session.auditor import Audits, SessionAuditor


@contextlib.contextmanager
def audit(*, raises: bool = True) -> Iterator[Audits]:
    """Audit every hit in a ``with`` block, whatever the setting ``audit`` says, and yield the results.

    Args:
        raises: raise at the first hit that differs; otherwise serve it and add it to the results.

    Raises:
        UsageError: Firebrick is not enabled.
        AuditError: inside the block, from the call of the compiled function.

    Functions served before the block are in use and are not served again. The block applies to all threads.
    It ends with the session in which it began.
    """
    session = attach.session()
    if session is None:
        raise UsageError("nothing can be audited: call firebrick.enable first, or set FIREBRICK_CACHE_DIR")
    auditor = SessionAuditor(session, raises=raises)
    before, session.auditor = session.auditor, auditor
    try:
        yield auditor.found
    finally:
        session.auditor = before
