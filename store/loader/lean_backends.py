"""Rebuild backend functions without torch's compiler."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from firebrick.codecs.lean_backend import LeanBackendCodec
from firebrick.errors import DecodeError
from firebrick.loader.libraries import Libraries
from firebrick.reports.counters import Stats
from firebrick.runtime import load
from firebrick.storage.format import Kind
from firebrick.storage.keys import ContentKey
from firebrick.storage.store import Store
from firebrick.torch_api import native

if TYPE_CHECKING:
    from firebrick.codecs.launch import Choice, Launch


class LeanBackends:
    """A cache of rebuilt backend functions: one function serves all frames that name it. Thread-safe.

    Args:
        store: holds the backends.
        libraries: shared with other loaders of the process, so that each library is loaded once.
        stats: counts the bytes read.
    """

    def __init__(self, store: Store, libraries: Libraries | None = None, stats: Stats | None = None) -> None:
        self._store = store
        self._libraries = libraries if libraries is not None else Libraries()
        self._stats = stats
        self._loaded: dict[tuple[bytes, bool, int | None], Callable[..., list[Any]]] = {}
        self._lock = threading.Lock()
        self._codec = LeanBackendCodec()

    def load(
        self, key: bytes, *, disable_autocast: bool | None = None, device: int | None = None
    ) -> Callable[..., list[Any]]:
        """Return the function of a lean backend.

        Args:
            key: content key of the backend.
            disable_autocast, device: as in `firebrick.runtime.load`; part of the cache key.

        Raises:
            BlobMissing, DamagedError, CodecError: a part cannot be read.
            Unsupported: this CPU, GPU or torch lacks something it needs.
            Miss: the fastest configuration of a Triton kernel is unknown.
        """
        if disable_autocast is None:
            disable_autocast = native.is_any_autocast_enabled()
        known = bytes(key), disable_autocast, device
        with self._lock:
            if (function := self._loaded.get(known)) is None:
                function = self._loaded[known] = self._load(*known)
            return function

    def _load(self, key: bytes, disable_autocast: bool, device: int | None) -> Callable[..., list[Any]]:
        blob = self._source(ContentKey(key))
        if blob.kind is Kind.LEAN_SPLIT:
            from firebrick.codecs.lean_split import get_split  # few starts need it
            from firebrick.runtime.split import join

            steps, keys = get_split(blob.data)
            blobs = [self._source(ContentKey(part)) for _, part in keys]
            return join(steps, [self._backend(part, disable_autocast, device) for part in blobs])
        return self._backend(blob, disable_autocast, device)

    def _backend(self, blob: Any, disable_autocast: bool, device: int | None) -> Callable[..., list[Any]]:
        if blob.kind is not Kind.LEAN_BACKEND:
            raise DecodeError(f"expected a lean backend, got {blob.kind.name}")
        lean = self._codec.choosing(blob.data, self._source, blob.version, self._choose)
        self._libraries.add(lean.libraries)
        return load(lean, self._libraries, disable_autocast=disable_autocast, device=device)

    def _choose(self, choice: Choice) -> int | Launch:
        from firebrick.loader.autotune_choice import Launches  # not needed for a start on a CPU

        return Launches(self._store).choose(choice)

    def _source(self, key: ContentKey) -> Any:
        blob = self._store.get(key)
        if self._stats is not None:
            self._stats.add_bytes(read=len(blob.data))
        return blob
