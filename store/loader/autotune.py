"""Keep which configuration of an autotuned Triton kernel won, so that no later start measures again.

torch writes the winner to a file beside the kernel's source, at the kernel's first run: after the
artifact was recorded. A fresh machine has no such file. Here the winners live in the store's registry
under torch's own name of the file, a digest of the kernel's source, of torch and of nothing else.

Source followed: ``torch/_inductor/runtime/autotune_cache.py``.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from typing import Any

from firebrick.store import Store

CONTEXT = ".autotune"
SECTION = "best_config"


class Winners:
    """The winners of one store. Thread-safe.

    Args:
        store: where they are kept.
        recording: whether new ones are written.
        fault: called with a fault of the store; torch's own file is used then.
    """

    def __init__(self, store: Store, recording: bool, fault: Callable[[BaseException], None]) -> None:
        self._store = store
        self._recording = recording
        self._fault = fault

    def reading(self, original: Callable[[Any, str], bytes | None]) -> Callable[..., Any]:
        """Wrap ``_LocalAutotuneCacheBackend._get``: what is not on disk may be in the store."""

        @functools.wraps(original)
        def get(backend: Any, key: str) -> bytes | None:
            data = original(backend, key)
            name = os.path.basename(key)
            if data is None and name.endswith("." + SECTION):
                try:
                    data = self._store.registry_get(CONTEXT, SECTION, name)
                except Exception as error:
                    self._fault(error)
            return data

        return get

    def writing(self, original: Callable[[Any, str, bytes], None]) -> Callable[..., None]:
        """Wrap ``_LocalAutotuneCacheBackend._put``: a new winner goes to the store as well."""

        @functools.wraps(original)
        def put(backend: Any, key: str, data: bytes) -> None:
            original(backend, key, data)
            name = os.path.basename(key)
            if self._recording and name.endswith("." + SECTION):
                try:
                    self._store.registry_update(CONTEXT, {(SECTION, name): data})
                except Exception as error:
                    self._fault(error)

        return put
