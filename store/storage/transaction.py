"""One LMDB transaction."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from firebrick.errors import StoreClosed, StoreError, StoreLocked
from firebrick.storage.blob import encode_record
from firebrick.storage.format import DATABASES
from firebrick.storage.keys import Data
from firebrick.storage.lmdb_api import translated
from firebrick.storage.view import ReadView

if TYPE_CHECKING:
    from firebrick.storage.environment import Engine
    from firebrick.storage.lmdb_api import Handles, Raw


_OWN_PAGES = 4  # two meta pages, the list of databases, and at least one free-list page


class Transaction(ReadView):
    """A transaction on named databases; made by `Engine.begin` and `Engine.write`.

    A context manager. Its views are valid until it ends. One thread at a time may use it.
    """

    __slots__ = ("_engine", "_handles", "_raw", "_token", "dirty")

    def __init__(self, engine: Engine, raw: Raw, handles: Handles, token: int) -> None:
        """Take ownership of an LMDB transaction, its databases, and its place in the engine's gate."""
        self._engine = engine
        self._handles = handles
        self._raw: Raw | None = raw
        self._token = token
        self.dirty = False

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        """End it without a commit; LMDB errors become store errors."""
        if error is None:
            return self.end()
        with contextlib.suppress(StoreError):
            self.end()
        translated(self.path, None).__exit__(None, error, None)

    @property
    def path(self) -> str:
        """The directory of the store."""
        return self._engine.path

    @property
    def _open(self) -> Raw:
        if self._raw is None:
            raise StoreClosed(self.path, "the transaction has ended, or is the parent process's")
        return self._raw

    @property
    def number(self) -> int:
        """The number of the last commit it sees, or of its own if it writes."""
        return self._open.id()

    def get(self, database: str, key: bytes) -> memoryview | None:
        """Return the value of a key; the view is valid until the transaction ends."""
        return self._open.get(key, db=self._handles[database])

    def has(self, database: str, key: bytes, value: bytes | None = None) -> bool:
        """Tell whether a key, or with `value` that duplicate of it, exists, without reading it."""
        with self._open.cursor(self._handles[database]) as cursor:
            return cursor.set_key(key) if value is None else cursor.set_key_dup(key, value)

    def items(
        self, database: str, start: bytes = b"", prefix: bytes = b""
    ) -> Iterator[tuple[bytes, memoryview]]:
        """Walk the keys with a prefix, in order, from `start` if that is later; with duplicates."""
        with self._open.cursor(self._handles[database]) as cursor:
            start = max(start, prefix)
            more = cursor.set_range(start) if start else cursor.first()
            while more and (key := bytes(cursor.key())).startswith(prefix):
                yield key, cursor.value()
                more = cursor.next()

    def duplicates(self, database: str, key: bytes) -> list[bytes]:
        """Return the values of one key in a DUPSORT database, sorted."""
        with self._open.cursor(self._handles[database]) as cursor:
            return [bytes(value) for _, value in cursor.getmulti([key], dupdata=True)]

    def entries(self, database: str) -> int:
        """Return the number of entries of a database."""
        return self._open.stat(self._handles[database])["entries"]

    def live_bytes(self) -> int:
        """Return the bytes of all pages in use, except those of the free list."""
        pages = _OWN_PAGES
        for handle in self._handles.values():
            stat = self._open.stat(handle)
            pages += stat["branch_pages"] + stat["leaf_pages"] + stat["overflow_pages"]
        return pages * stat["psize"]

    def put(self, database: str, key: bytes, value: Data) -> bool:
        """Write a value, or add a duplicate; return False if exactly that already exists."""
        handle = self._handles[database]
        new = DATABASES[database] or self._open.get(key, db=handle) != value
        new = new and self._open.put(key, value, dupdata=not DATABASES[database], db=handle)
        self.dirty = self.dirty or new
        return new

    def delete(self, database: str, key: bytes) -> bool:
        """Remove a key with all its values; return False if it did not exist."""
        gone = self._open.delete(key, db=self._handles[database])
        self.dirty = self.dirty or gone
        return gone

    def delete_duplicate(self, database: str, key: bytes, value: bytes) -> bool:
        """Remove one value of a key in a DUPSORT database; return False if it did not exist."""
        gone = self._open.delete(key, value, db=self._handles[database])
        self.dirty = self.dirty or gone
        return gone

    def put_record(self, database: str, key: bytes, body: Data) -> bool:
        """Write a record; return False if it already exists."""
        return self.put(database, key, encode_record(database, key, body))

    def end(self, *, commit: bool = False, pin: bool = False) -> None:
        """End the transaction; a second call does nothing.

        Args:
            commit: Keep the writes.
            pin: Never remap or unmap the memory from now on, because a view of it is still in use.

        Raises:
            StoreLocked: It read without a lock, and others wrote so much that it may have read reused pages.
        """
        raw, self._raw = self._raw, None
        if raw is None:
            return
        engine = self._engine
        try:
            if commit and self.dirty:
                raw.commit()  # the writer handles its errors
            else:
                with translated(engine.path, None):
                    stale = engine.is_stale(raw)
                    raw.abort()
                if stale:
                    raise StoreLocked(
                        engine.path, "another process wrote to it while it was read without a lock"
                    )
        finally:
            engine.live.discard(self)
            if not pin:
                engine.remap_lock.leave(self._token)

    def forget(self) -> None:
        """Drop the parent's transaction without ending it; called in a new child process."""
        self._raw = None
