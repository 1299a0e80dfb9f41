"""Say what a store is read from: a `Source` gives a `ReadView`, which shows one moment of it.

An LMDB environment is a source (`environment`), so is a sealed pack (`pack`), and so are several of them, one
upon another (`layers`). What reads a store knows these two classes alone.
"""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Self

from firebrick.errors import StoreError
from firebrick.storage.blob import decode_record


class ReadView(ABC):
    """Read the named databases of `format.DATABASES` as they are at one moment; a context manager.

    Memory that it hands out is valid until it ends. One thread at a time may use it.
    """

    __slots__ = ()

    @property
    @abstractmethod
    def path(self) -> str:
        """Where the store is."""

    @abstractmethod
    def get(self, database: str, key: bytes) -> memoryview | None:
        """Look a value up."""

    @abstractmethod
    def has(self, database: str, key: bytes, value: bytes | None = None) -> bool:
        """Tell whether a key is there, or with `value` that duplicate of it, without reading it."""

    @abstractmethod
    def items(
        self, database: str, start: bytes = b"", prefix: bytes = b""
    ) -> Iterator[tuple[bytes, memoryview]]:
        """Walk the keys with a prefix, in order, from `start` if that is later; with duplicates."""

    @abstractmethod
    def duplicates(self, database: str, key: bytes) -> list[bytes]:
        """List the values of one key in a database that has duplicates, sorted."""

    @abstractmethod
    def entries(self, database: str) -> int:
        """Count the entries of a database."""

    def record(self, database: str, key: bytes) -> bytes | None:
        """Read a record, None if there is none; DamagedError if its header or checksum is wrong."""
        value = self.get(database, key)
        return None if value is None else decode_record(database, key, value)

    @abstractmethod
    def end(self, *, commit: bool = False, pin: bool = False) -> None:
        """End the view; ending it again does nothing.

        Args:
            commit: Keep what was written, where the view is one that writes.
            pin: Never unmap memory that was handed out, because it is still in use.
        """

    def __enter__(self) -> Self:
        """Return the view."""
        return self

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        """End it; an error that is on its way already is not replaced."""
        with contextlib.suppress(*([] if error is None else [StoreError])):
            self.end()


class Source(ABC):
    """Give views of a store; any thread may ask.

    Attributes:
        path: Where it is.
    """

    path: str

    @abstractmethod
    def begin(self) -> ReadView:
        """Start a view; the caller ends it, or uses it as a context manager."""

    @property
    def top(self) -> Source:
        """The source that is written to where this one has layers, else itself."""
        return self

    def over(self, view: ReadView) -> AbstractContextManager[ReadView]:
        """Lay a view of `top` over the layers below it; it goes on afterwards."""
        return contextlib.nullcontext(view)

    @abstractmethod
    def retain(self) -> None:
        """Count one more user."""

    @abstractmethod
    def release(self) -> None:
        """Count one user less; the last one closes it."""

    @abstractmethod
    def verify(self) -> list[str]:
        """List what is structurally wrong."""

    @abstractmethod
    def map_facts(self) -> tuple[int, int]:
        """Return bytes of the map, and bytes of the file that were ever in use."""
