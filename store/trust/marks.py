"""Remember the highest version of each signed entry, so that an older one is not trusted again.

The file is beside the keys, outside every store, and append-only: records of a subject (16 bytes), a version
(u64) and a check (8 bytes). The highest version counts, so writers need no lock; torn records are skipped. An
entry never met before is trusted at any version.
"""

from __future__ import annotations

import logging
import os
import struct
from typing import Final

from firebrick.errors import StoreError
from firebrick.storage.keys import short_hash
from firebrick.trust.folder import TrustFolder

FILE: Final = "marks"
_RECORD: Final = struct.Struct("<16sQ8s")
_log = logging.getLogger("firebrick")


class Marks:
    """The marks of a directory, read on first use. Thread-safe."""

    def __init__(self, folder: TrustFolder) -> None:
        """Refer to a directory."""
        self._folder = folder
        self._marks: dict[bytes, int] | None = None

    def rose(self, place: str, subject: bytes, version: int) -> bool:
        """Tell whether a version is at least the mark, and raise the mark to it.

        Args:
            place: Where the entry was met: a path. Layers do not vouch for each other's age.
            subject: The subject of the statement.
            version: Of the statement.
        """
        if self._marks is None:
            self._marks = self._load()
        key = short_hash("mark", os.fsencode(place), subject)
        mark = self._marks.get(key, -1)
        if version > mark:
            self._marks[key] = version
            self._append(key, version)
        return version >= mark

    def _load(self) -> dict[bytes, int]:
        marks: dict[bytes, int] = {}
        try:
            with open(self._folder.open(FILE, os.O_RDONLY), "rb") as file:
                data = file.read()
        except FileNotFoundError:
            return marks
        at = 0
        while at + _RECORD.size <= len(data):
            key, version, check = _RECORD.unpack_from(data, at)
            if check != _check(key, version):  # a torn record; the next one begins somewhere here
                at += 1
                continue
            marks[key] = max(version, marks.get(key, -1))
            at += _RECORD.size
        return marks

    def _append(self, key: bytes, version: int) -> None:
        try:
            fd = self._folder.open(FILE, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            try:
                os.write(fd, _RECORD.pack(key, version, _check(key, version)))
            finally:
                os.close(fd)
        except (OSError, StoreError) as error:
            _log.warning("an older version would not be noticed by the next start: %s", error)


def _check(key: bytes, version: int) -> bytes:
    return short_hash("mark check", key, version.to_bytes(8, "little"))[:8]
