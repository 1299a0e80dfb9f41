"""Load shared libraries from bytes, where torch would run the C++ compiler.

Source followed: ``CppCodeCache.load_async`` and ``CppPythonBindingsCodeCache`` of
``torch/_inductor/codecache.py``.
"""

from __future__ import annotations

import inspect
import itertools
import os
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from blake3 import blake3

from firebrick import torch_api
from firebrick.codecs._msgpack import pack
from firebrick.codecs.library import Library
from firebrick.errors import Unsupported
from firebrick.platform import missing_isa


def request_digest(
    cls: type, original: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> str:
    """Return the digest (hex) of what a wrapper asks for: kind of library, source and flags.

    It leaves out how the compiler is called, so that no compiler need be there to compute it.
    """
    call = inspect.signature(original).bind(cls, *args, **kwargs)
    call.apply_defaults()
    request = {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in call.arguments.items()
        if name not in ("cls", "submit_fn")
    }
    return blake3(pack([cls.__name__, request])).hexdigest()


_count = itertools.count(1)


class Libraries:
    """The libraries at hand in this process, by the digest of the request. Thread-safe."""

    def __init__(self) -> None:
        self._known: dict[str, Library] = {}
        self._loaded: dict[str, Any] = {}
        self._lock = threading.RLock()

    def add(self, libraries: Mapping[str, Library]) -> None:
        """Offer libraries.

        Raises:
            Unsupported: naming the instructions that this CPU lacks; nothing is offered then.
        """
        for library in libraries.values():
            if missing := missing_isa(library.flags):
                raise Unsupported(f"library for {library.isa}: this CPU lacks {', '.join(missing)}")
        self._known.update(libraries)

    def get(self, digest: str) -> Library | None:
        """Return the library that answers a request."""
        return self._known.get(digest)

    def loader(self, cls: Any, digest: str) -> Callable[[], Any] | None:
        """Return a function that loads the library as ``load_async`` does, or ``None``."""
        library = self._known.get(digest)
        if library is None:
            return None

        def load() -> Any:
            with self._lock:
                if digest not in self._loaded:
                    with _as_file(library.data) as path:
                        self._loaded[digest] = torch_api.load().load_binding(cls, digest, path)
                return self._loaded[digest]

        return load


@contextmanager
def _as_file(data: bytes) -> Iterator[str]:
    """Give bytes a path from which they can be executed: in memory, else in a private folder."""
    try:
        fd = os.memfd_create("firebrick", os.MFD_CLOEXEC)
    except OSError:
        with tempfile.TemporaryDirectory(prefix="firebrick-") as folder:
            path = os.path.join(folder, "library.so")
            with open(path, "wb") as file:
                file.write(data)
            yield path
        return
    try:
        with os.fdopen(os.dup(fd), "wb") as file:
            file.write(data)
        # The dynamic linker takes a path that it has seen for the library it found there, and numbers
        # of descriptors come back: so every path is spelled differently.
        spelling = "".join("//." if bit == "1" else "/." for bit in f"{next(_count):b}")
        yield f"/proc/self/fd{spelling}/{fd}"
    finally:
        os.close(fd)
