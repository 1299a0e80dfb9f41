"""Store the C modules that Triton builds for itself, so that no later start needs a C compiler.

They are Triton's driver module, and a launcher per signature of the kernels that torch's static launcher does
not accept. Triton keeps them in its cache directory under a digest of their source and the platform; a fresh
machine has none. Here they are in the store, registered under that digest and the file name, which has the
suffix of Python's extension modules. The platform's name comes from a program (``file``) that may be missing;
here it is the same without it.

Source followed: ``triton/runtime/build.py`` and ``triton/runtime/cache.py`` (Triton 3.6).
"""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

from firebrick import codecs
from firebrick.base.patches import Patches
from firebrick.codecs.abc import child
from firebrick.codecs.library import Library
from firebrick.loader.elf import reduce_elf
from firebrick.storage.format import Kind
from firebrick.storage.store import Store

CONTEXT = ".triton"
SECTION = "modules"


class TritonModules:
    """The modules of one store. Thread-safe.

    Args:
        store: keeps them.
        recording: whether new ones are written.
        fault: called with a fault of the store; Triton's own cache is then used.
    """

    def __init__(self, store: Store, recording: bool, fault: Callable[[BaseException], None]) -> None:
        self._store = store
        self._recording = recording
        self._fault = fault

    def install(self, patches: Patches, build: ModuleType) -> None:
        """Put the store behind ``triton.runtime.build``."""
        patches.set(build, "get_cache_manager", self.managing(build.get_cache_manager))
        patches.set(build, "platform_key", _naming(build.platform_key))
        driver = getattr(sys.modules.get("triton.runtime.driver"), "driver", None)
        if self._recording and (utils := getattr(getattr(driver, "_active", None), "utils", None)):
            type(utils).__init__(utils)  # again: the module is now in Triton's directory

    def managing(self, original: Callable[..., Any]) -> Callable[..., Any]:
        """Wrap ``triton.runtime.build.get_cache_manager``."""

        @functools.wraps(original)
        def get_cache_manager(key: str, *args: Any, **kwargs: Any) -> Any:
            return _Manager(original(key, *args, **kwargs), key, self)

        return get_cache_manager

    def load(self, name: str) -> bytes | None:
        """Return a module's bytes, or ``None`` if the store has none."""
        try:
            key = self._store.registry_get(CONTEXT, SECTION, name)
            if key is None:
                return None
            blob = child(self._store.get, key, Kind.LIBRARY)
            library: Library = codecs.decode(blob.kind, blob.version, blob.data, self._store.get)
        except Exception as error:
            self._fault(error)
            return None
        return library.data

    def keep(self, name: str, data: bytes) -> None:
        """Write a module to the store unless it is already there."""
        if not self._recording:
            return
        try:
            if self._store.registry_get(CONTEXT, SECTION, name) is not None:
                return
            file = os.path.basename(name)
            library = Library(file, (f"PyInit_{file.partition('.')[0]}",), "", (), reduce_elf(data))
            blob = codecs.encode(Kind.LIBRARY, library).root
            self._store.registry_update(CONTEXT, {(SECTION, name): blob.key}, blobs=[blob])
        except Exception as error:
            self._fault(error)


def _naming(original: Callable[[], str]) -> Callable[[], str]:
    """Wrap ``triton.runtime.build.platform_key``: its last part is the format of executables."""

    @functools.wraps(original)
    def platform_key() -> str:
        key = original()
        return key + "ELF" if key.endswith(",") else key

    return platform_key


class _Manager:
    """A Triton cache manager that asks the store for files missing from its directory."""

    def __init__(self, manager: Any, key: str, modules: TritonModules) -> None:
        self._manager = manager
        self._key = key
        self._modules = modules

    def __getattr__(self, name: str) -> Any:
        return getattr(self._manager, name)

    def get_file(self, filename: str) -> str | None:
        """Return the path of a file, written from the store if necessary."""
        name = f"{self._key}/{filename}"
        path: str | None = self._manager.get_file(filename)
        if path is None:
            data = self._modules.load(name)
            return None if data is None else self._manager.put(data, filename, binary=True)
        with open(path, "rb") as file:
            self._modules.keep(name, file.read())
        return path

    def put(self, data: Any, filename: str, binary: bool = True) -> Any:
        """Write a file like Triton, and to the store."""
        if isinstance(data, bytes):
            self._modules.keep(f"{self._key}/{filename}", data)
        return self._manager.put(data, filename, binary=binary)
