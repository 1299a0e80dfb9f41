"""Load shared libraries from bytes where torch would run the C++ compiler.

Source followed: ``CppCodeCache.load_async`` and ``CppPythonBindingsCodeCache`` of
``torch/_inductor/codecache.py``.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any

from firebrick import torch_api
from firebrick.bundle.platform import missing_isa
from firebrick.codecs.library import Library
from firebrick.errors import Unsupported
from firebrick.torch_api.shared_object import ENTRY, as_file, load_extension


class Libraries:
    """The libraries available in this process, by request digest. Thread-safe."""

    def __init__(self) -> None:
        self._known: dict[str, Library] = {}
        self._loaded: dict[str, Any] = {}
        self._lock = threading.RLock()

    def add(self, libraries: Mapping[str, Library]) -> None:
        """Offer libraries.

        Raises:
            Unsupported: naming the instructions this CPU lacks; then nothing is offered.
        """
        for library in libraries.values():
            if missing := missing_isa(library.flags):
                raise Unsupported(f"library for {library.isa}: this CPU lacks {', '.join(missing)}")
        self._known.update(libraries)

    def get(self, digest: str) -> Library | None:
        """Return the library that answers a request."""
        return self._known.get(digest)

    def discard(self, digest: str) -> None:
        """Withdraw a library, because it cannot be loaded here."""
        self._known.pop(digest, None)

    def loader(self, cls: Any, digest: str) -> Callable[[], Any] | None:
        """Return a function that loads the library as ``load_async`` does, or ``None``."""
        library = self._known.get(digest)
        if library is None:
            return None

        def load() -> Any:
            with self._lock:
                if digest not in self._loaded:
                    with as_file(library.data) as path:
                        self._loaded[digest] = torch_api.load().load_binding(cls, digest, path)
                return self._loaded[digest]

        return load

    def kernel(self, digest: str) -> Callable[..., Any]:
        """Return the kernel of an extension module, without torch's compiler.

        Raises:
            Unsupported: there is no such library, or it is not an extension module.
        """
        library = self._known.get(digest)
        if library is None or library.symbols != (f"PyInit_{ENTRY}",):
            raise Unsupported(f"kernel {digest[:12]}: {'unknown' if library is None else library.symbols}")
        with self._lock:
            if digest not in self._loaded:
                with as_file(library.data) as path:
                    self._loaded[digest] = load_extension(f"{digest}.{ENTRY}", path)
            kernel: Callable[..., Any] = getattr(self._loaded[digest], ENTRY)
            return kernel
