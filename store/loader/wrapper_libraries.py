"""Record which shared libraries a generated wrapper loads, so that its artifact can hold them.

torch's entries omit the C++ libraries of CPU kernels, so a fresh machine needs a compiler. While a wrapper
module is executed, every library it requests is recorded under the wrapper's key.
"""

from __future__ import annotations

import functools
import threading
import weakref
from collections.abc import Callable, Iterable
from pathlib import Path
from types import ModuleType
from typing import Any

from firebrick import torch_api
from firebrick.bundle.platform import isa_flags
from firebrick.codecs.library import Library
from firebrick.errors import DecodeError, NotStorable
from firebrick.loader.elf import reduce_elf
from firebrick.loader.libraries import Libraries
from firebrick.torch_api.library_requests import request_digest


class WrapperLibraries:
    """The libraries that this process's wrappers loaded. Thread-safe.

    Args:
        provided: the loader's libraries; asked before anything is compiled.
        on_fault: called with the reason a provided library could not be loaded, after which it is compiled.
            Without it the error is raised.
    """

    def __init__(self, provided: Libraries, on_fault: Callable[[BaseException], None] | None = None) -> None:
        self._provided = provided
        self._on_fault = on_fault
        self._wrapper = threading.local()
        self._wrappers: dict[str, dict[str, None]] = {}
        self._modules: weakref.WeakValueDictionary[str, ModuleType] = weakref.WeakValueDictionary()
        self._compiled: dict[str, Callable[[], Any]] = {}
        self._awaited: list[tuple[set[str], Callable[[], None]]] = []

    def loading_wrapper(self, original: Callable[..., Any]) -> Callable[..., Any]:
        """Wrap ``PyCodeCache.load_by_key_path`` (a function whose first parameter is the class)."""

        @functools.wraps(original)
        def load_by_key_path(cls: Any, key: str, *args: Any, **kwargs: Any) -> Any:
            outer = getattr(self._wrapper, "key", None)
            self._wrapper.key = key
            self._wrappers.setdefault(key, {})
            try:
                module = original(cls, key, *args, **kwargs)
            finally:
                self._wrapper.key = outer
            self._modules[key] = module
            for entry in [entry for entry in self._awaited if not self.absent(entry[0])]:
                self._awaited.remove(entry)
                entry[1]()
            return module

        return load_by_key_path

    def loading_library(self, original: Callable[..., Any]) -> Callable[..., Any]:
        """Wrap ``CppCodeCache.load_async`` (a function whose first parameter is the class).

        A provided library is loaded from memory: no compiler runs and the vector ISA is not probed.
        """

        @functools.wraps(original)
        def load_async(cls: Any, *args: Any, **kwargs: Any) -> Any:
            digest = request_digest(cls, original, args, kwargs)
            if (key := getattr(self._wrapper, "key", None)) is not None:
                self._wrappers[key][digest] = None
            compile_it = functools.partial(original, cls, *args, **kwargs)
            if provided := self._provided.loader(cls, digest):
                return functools.partial(self._load, digest, provided, compile_it)
            self._compiled[digest] = result = compile_it()
            return result

        return load_async

    def _load(
        self, digest: str, provided: Callable[[], Any], compile_it: Callable[[], Callable[[], Any]]
    ) -> Any:
        """Load a provided library, or compile it if that fails: torch's caller expects no miss."""
        try:
            return provided()
        except Exception as error:
            if self._on_fault is None:
                raise
            self._on_fault(error)
        self._provided.discard(digest)
        self._compiled[digest] = result = compile_it()
        return result()

    def absent(self, wrapper_keys: Iterable[str]) -> set[str]:
        """Return which of these wrappers this process did not load."""
        return set(wrapper_keys) - self._wrappers.keys()

    def when_loaded(self, wrapper_keys: set[str], then: Callable[[], None]) -> None:
        """Call a function once all these wrappers are loaded; it must not raise."""
        self._awaited.append((wrapper_keys, then))

    def of(self, wrapper_key: str) -> dict[str, Library]:
        """Return the libraries of a wrapper by request digest.

        Raises:
            NotStorable: one is missing; names the wrapper.
        """
        digests = self._wrappers.get(wrapper_key)
        if digests is None:
            raise NotStorable(f"wrapper {wrapper_key} was not loaded in this process")
        return {digest: self._library(digest, wrapper_key) for digest in digests}

    def tuners_of(self, wrapper_key: str) -> dict[str, Any]:
        """Return the autotuners of a wrapper's Triton kernels, by their names in it."""
        from firebrick.torch_api.autotuners import (
            autotuners_in,  # not imported if there are no such kernels
        )

        module = self._modules.get(wrapper_key)
        return autotuners_in(vars(module)) if module is not None else {}

    def _library(self, digest: str, wrapper_key: str) -> Library:
        if provided := self._provided.get(digest):
            return provided
        loaded = self._compiled[digest]()
        module = isinstance(loaded, ModuleType)
        path = Path(loaded.__file__ if module else loaded._name)
        try:
            elf = reduce_elf(path.read_bytes())
        except (OSError, DecodeError) as error:
            raise NotStorable(f"library of wrapper {wrapper_key}: {error}") from error
        # Inductor compiles for its own machine (-march=native): any flag may be in use
        library = Library(
            name=f"{digest[:32]}.so",
            symbols=("PyInit_kernel",) if module else ("kernel",),
            isa=torch_api.load().vec_isa_name(),
            flags=tuple(sorted(isa_flags())),
            data=elf,
        )
        self._provided.add({digest: library})
        return library
