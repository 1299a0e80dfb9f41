"""The interface for reading a store: a `Source` returns a `ReadView` of one moment.

An LMDB environment is a source (`environment`), as is a sealed pack (`pack`) and a stack of sources
(`layers`). Readers of a store know only these two classes.
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
    """A view of the databases of `format.DATABASES` at one moment; a context manager.

    Returned memory is valid until it ends. One thread at a time may use it.
    """

    __slots__ = ()

    @property
    @abstractmethod
    def path(self) -> str:
        """The path of the store."""

    @abstractmethod
    def get(self, database: str, key: bytes) -> memoryview | None:
        """Return the value of a key."""

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
        """Return the values of one key in a database with duplicates, sorted."""

    @abstractmethod
    def entries(self, database: str) -> int:
        """Return the number of entries of a database."""

    def record(self, database: str, key: bytes) -> bytes | None:
        """Return a record, None if there is none; DamagedError if its header or checksum is wrong."""
        value = self.get(database, key)
        return None if value is None else decode_record(database, key, value)

    @abstractmethod
    def end(self, *, commit: bool = False, pin: bool = False) -> None:
        """End the view; a second call does nothing.

        Args:
            commit: Keep the writes, if the view writes.
            pin: Never unmap returned memory, because it is still in use.
        """

    def __enter__(self) -> Self:
        """Return the view."""
        return self

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        """End the view, without replacing a propagating error."""
        with contextlib.suppress(*([] if error is None else [StoreError])):
            self.end()


class Source(ABC):
    """A source of views of a store. Thread-safe.

    Attributes:
        path: Path of the store.
    """

    path: str

    @abstractmethod
    def begin(self) -> ReadView:
        """Start a view; the caller ends it, or uses it as a context manager."""

    @property
    def top(self) -> Source:
        """The source written to if this one has layers, else itself."""
        return self

    def over(self, view: ReadView) -> AbstractContextManager[ReadView]:
        """Lay a view of `top` over the layers below it; it continues afterwards."""
        return contextlib.nullcontext(view)

    @abstractmethod
    def retain(self) -> None:
        """Increment the use count."""

    @abstractmethod
    def release(self) -> None:
        """Decrement the use count; the last user closes it."""

    @abstractmethod
    def verify(self) -> list[str]:
        """Return the structural faults."""

    @abstractmethod
    def map_facts(self) -> tuple[int, int]:
        """Return bytes of the map, and bytes of the file ever in use."""
