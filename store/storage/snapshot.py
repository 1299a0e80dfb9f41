"""Read a store as of one moment, without copies."""

from __future__ import annotations

import contextlib
from types import TracebackType
from typing import ClassVar, Self

from firebrick.errors import UsageError
from firebrick.storage.blob import StoredBlob
from firebrick.storage.lmdb_api import translated
from firebrick.storage.reader import Reads
from firebrick.storage.view import ReadView, Source


class Snapshot(Reads):
    """The store as of one moment, whatever is written meanwhile; a context manager.

    The data of a blob that is not compressed is a read-only view of the store's own memory, which is valid
    until the snapshot ends and is then released; copy anything that must live longer. Slices of a view are
    not tracked: they must not be used afterwards. If an array still uses a view at the end, UsageError is
    raised, and the memory stays mapped for the life of the process.

    While a snapshot is open, space of deleted entries is not reused, and the map cannot grow: keep it short.
    One thread at a time may use it; a child process may not.
    """

    _copy: ClassVar[bool] = False

    def __init__(self, source: Source) -> None:
        """Start a snapshot; use `Store.snapshot`."""
        self._source: Source | None = source
        source.retain()
        try:
            self._txn = source.begin()
        except BaseException:
            source.release()
            raise
        self._views: list[memoryview] = []

    def _reading(self) -> translated[ReadView]:
        return translated(self._txn.path, self._txn)

    @property
    def view(self) -> ReadView:
        """What it reads: the databases themselves."""
        return self._txn

    def get(self, key: bytes) -> StoredBlob:
        """Return a blob; raise BlobMissing, DamagedError or UnknownKind if that fails."""
        blob = super().get(key)
        if isinstance(blob.data, memoryview):
            self._views.append(blob.data)
        return blob

    def close(self) -> None:
        """End the snapshot; a second call does nothing."""
        source, self._source = self._source, None
        if source is None:
            return
        in_use = 0
        for view in self._views:
            try:
                view.release()
            except BufferError:
                in_use += 1
        try:
            self._txn.end(pin=bool(in_use))
        finally:
            source.release()
        if in_use:
            raise UsageError(f"{in_use} views of a snapshot are in use at its end")

    def __enter__(self) -> Self:
        """Return the snapshot."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End the snapshot, without replacing a propagating exception."""
        with contextlib.suppress(*([] if error is None else [Exception])):
            self.close()
