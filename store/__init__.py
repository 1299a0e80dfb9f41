"""Firebrick: a persistent, content-addressed store for what `torch.compile` makes.

Names are loaded when they are first used: importing this package imports neither torch nor lmdb.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from firebrick._explain import explain as explain
    from firebrick.attach import compile as compile
    from firebrick.attach import disable as disable
    from firebrick.attach import enable as enable
    from firebrick.attach import enabled as enabled
    from firebrick.attach import flush as flush
    from firebrick.attach import stats as stats
    from firebrick.audits import audit as audit
    from firebrick.context import Context as Context
    from firebrick.context import PrecompileContext as PrecompileContext
    from firebrick.counters import Stats as Stats
    from firebrick.settings import Settings as Settings
    from firebrick.store import Store as Store

_PUBLIC = {
    "Context": "firebrick.context",
    "PrecompileContext": "firebrick.context",
    "Settings": "firebrick.settings",
    "Stats": "firebrick.counters",
    "Store": "firebrick.store",
    "audit": "firebrick.audits",
    "compile": "firebrick.attach",
    "disable": "firebrick.attach",
    "enable": "firebrick.attach",
    "enabled": "firebrick.attach",
    "explain": "firebrick._explain",
    "flush": "firebrick.attach",
    "stats": "firebrick.attach",
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
