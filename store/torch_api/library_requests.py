"""Digests of a generated wrapper's requests to the C++ compiler. Imports nothing of torch.

Source followed: ``CppCodeCache.load_async`` of ``torch/_inductor/codecache.py``.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from firebrick.base.digest import hex_digest
from firebrick.storage.msgpack import pack


def request_digest(
    cls: type, original: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> str:
    """Return the digest (hex) of a wrapper's request: kind of library, source and flags.

    It omits the compiler's command line, so that computing it needs no compiler.
    """
    call = inspect.signature(original).bind(cls, *args, **kwargs)
    call.apply_defaults()
    request = {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in call.arguments.items()
        if name not in ("cls", "submit_fn")
    }
    return hex_digest(pack([cls.__name__, request]))
