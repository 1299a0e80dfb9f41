"""Rebuild backend functions from stored artifacts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from firebrick import torch_api
from firebrick.codecs import codec_for
from firebrick.codecs.attached import LIBRARIES
from firebrick.codecs.backend import decode_backend
from firebrick.errors import DecodeError
from firebrick.loader.libraries import Libraries
from firebrick.reports.counters import Stats
from firebrick.storage.format import Kind
from firebrick.storage.keys import ContentKey
from firebrick.storage.store import Store
from firebrick.torch_api import registry
from firebrick.validity.configuration import text_of


class Backends:
    """A cache of rebuilt backend functions: one function serves all frames that name it.

    Args:
        store: holds the artifacts.
        libraries: receives the shared libraries of an artifact before torch asks for them.
        stats: counts the bytes read.
    """

    def __init__(self, store: Store, libraries: Libraries, stats: Stats) -> None:
        self._store = store
        self._libraries = libraries
        self._stats = stats
        self._loaded: dict[tuple[bytes, str], Callable[..., Any]] = {}

    def load(self, key: bytes, name: str, backend: Any = None) -> Callable[..., Any]:
        """Return the function of a backend artifact.

        Args:
            key: content key of the artifact.
            name: the artifact's new name, torch's backend id.
            backend: Inductor backend whose options apply while the function is rebuilt.

        Raises:
            BlobMissing, DamagedError, CodecError: a part cannot be read.
            Unsupported: a shared library needs instructions that this CPU lacks.
        """
        api = torch_api.load()
        options = text_of(backend.config) if backend is not None else ""
        if (loaded := self._loaded.get((key, options))) is not None:
            return loaded
        artifact = self.artifact(ContentKey(key), name)
        with api.loading_backends(backend), api.naming_compile(0):
            function: Callable[..., Any] = artifact.after_deserialization()
        self._loaded[key, options] = function
        return function

    def artifact(self, key: ContentKey, name: str) -> Any:
        """Return torch's artifact, with its shared libraries offered to torch's loader."""
        blob = self._source(key)
        if blob.kind is not Kind.BACKEND:
            raise DecodeError(f"expected a backend artifact, got {blob.kind.name}")
        codec_for(Kind.BACKEND).check_version(blob.version)
        registry.artifact_module()  # decoding consults imported modules only
        artifact = decode_backend(blob.data, self._source, key=name)
        for graph in torch_api.load().graphs_of(artifact):
            self._libraries.add(vars(graph).pop(LIBRARIES, {}))
        return artifact

    def _source(self, key: ContentKey) -> Any:
        blob = self._store.get(key)
        self._stats.add_bytes(read=len(blob.data))
        return blob
