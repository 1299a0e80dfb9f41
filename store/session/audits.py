"""`firebrick.audit`: audit the hits of a block, whatever the settings say."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from firebrick.errors import UsageError
from firebrick.session import session as attach
from firebrick.session.auditor import Audits, SessionAuditor


@contextlib.contextmanager
def audit(*, raises: bool = True) -> Iterator[Audits]:
    """Audit every hit in a ``with`` block, whatever the setting ``audit`` says, and yield what is found.

    Args:
        raises: raise at the first hit that differs; otherwise it is served, and told in the result.

    Raises:
        UsageError: where Firebrick is not enabled.
        AuditError: in the block, out of the call of the compiled function.

    Functions that were served before the block are in use, and are not served again. The block holds for all
    threads. It ends with the session in which it began.
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
