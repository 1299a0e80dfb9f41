"""Firebrick: a persistent, content-addressed store for the output of `torch.compile`.

Names are loaded on first use: importing this package imports neither torch nor lmdb.
"""

from __future__ import annotations

import importlib

TYPE_CHECKING = False  # type checkers know the name; importing typing takes as long as all the rest
if TYPE_CHECKING:
    from typing import Any

    from firebrick.context.context import Context as Context
    from firebrick.context.context import PrecompileContext as PrecompileContext
    from firebrick.reports.counters import Stats as Stats
    from firebrick.session.audits import audit as audit
    from firebrick.session.explain import explain as explain
    from firebrick.session.session import compile as compile
    from firebrick.session.session import disable as disable
    from firebrick.session.session import enable as enable
    from firebrick.session.session import enabled as enabled
    from firebrick.session.session import flush as flush
    from firebrick.session.session import stats as stats
    from firebrick.settings import Settings as Settings
    from firebrick.storage.store import Store as Store

_PUBLIC = {
    "Context": "firebrick.context.context",
    "PrecompileContext": "firebrick.context.context",
    "Settings": "firebrick.settings",
    "Stats": "firebrick.reports.counters",
    "Store": "firebrick.storage.store",
    "audit": "firebrick.session.audits",
    "compile": "firebrick.session.session",
    "disable": "firebrick.session.session",
    "enable": "firebrick.session.session",
    "enabled": "firebrick.session.session",
    "explain": "firebrick.session.explain",
    "flush": "firebrick.session.session",
    "stats": "firebrick.session.session",
}
__all__ = sorted(_PUBLIC)
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_PUBLIC[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
