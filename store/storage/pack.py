"""Read a sealed pack: one immutable file, opened without a lock or a write.

| part | what it is |
|---|---|
| header | `HEADER`: magic, version, place and length of the index, its digest |
| values | those of blobs, then of bundles, by key, one right behind the other |
| index | msgpack: manifest, entries of each database; of a value that lies outside, its length |
| trailer | msgpack: signatures of the index's digest; not covered by it |

The index is read completely and compared with its digest. It locates values by lengths alone, which must add
up, so no two values overlap and none lies outside. Values are read with pread and compared with their content
keys each time, so later changes to the file do no harm: a file that shrinks under a map kills its reader, one
that shrinks under pread is a typed error. So network and read-only file systems are fine.

Source: git's packfiles (content keys, one index), SSTables (sorted, never changed), OCI image layers (media
type, manifest, a digest of the whole), squashfs.
"""

from __future__ import annotations

import bisect
import os
import stat
import struct
from collections.abc import Iterator
from itertools import accumulate, islice
from typing import Any, Final

from firebrick.base.digest import hasher_for
from firebrick.base.namedtuple import NamedTuple
from firebrick.errors import (
    CodecError,
    DamagedError,
    FirebrickError,
    StoreClosed,
    StoreDamaged,
    StoreError,
    StoreNotFound,
    StorePermissionError,
    StoreVersionError,
    StrPath,
    UsageError,
)
from firebrick.storage.blob import decode_blob
from firebrick.storage.format import DATABASES
from firebrick.storage.keys import Data
from firebrick.storage.msgpack import Limits, unpack
from firebrick.storage.os_errors import from_system
from firebrick.storage.reader import check_parts, split_bundle
from firebrick.storage.view import ReadView, Source

MAGIC: Final = b"FBRKPACK"
VERSION: Final = 1
MEDIA_TYPE: Final = "application/vnd.firebrick.pack.v1"
HEADER: Final = struct.Struct(
    "<8sIIQQ32s"
)  # magic, version, flags, place and length of the index, its digest
OUTSIDE: Final = ("blobs", "bundles")  # databases whose values lie outside, in this order
MAX_INDEX_BYTES: Final = 1 << 30
MAX_TRAILER_BYTES: Final = 1 << 16
_INDEX_LIMITS: Final = Limits(size=MAX_INDEX_BYTES, depth=8)
_TRAILER_LIMITS: Final = Limits(size=MAX_TRAILER_BYTES, depth=3, items=1 << 10)
_FIELDS_OF_TRAILER: Final = (bytes, int, int, bytes)


class Seal(NamedTuple):
    """One signature of a pack, as in the trailer; not verified."""

    key_id: bytes
    version: int
    expires: int
    signature: bytes


class Pack(Source):
    """A source of views of a sealed pack; made by `Pack.open`, and closed by its last `release`.

    Attributes:
        digest: Of the index, and so of everything in the pack.
        manifest: The pack's own description; a map of texts and numbers.
        seals: Its signatures, not verified.
        end: Where the index ends and the trailer begins.
    """

    def __init__(self, path: str, fd: int) -> None:
        """Take ownership of a descriptor; call `open` instead."""
        self.path = path
        self._fd = fd
        self._users = 1
        self._size = os.fstat(fd).st_size
        self.entries: dict[str, dict[bytes, Any]] = {}
        self.keys: dict[str, list[bytes]] = {}
        self.manifest: dict[str, Any] = {}
        self.seals: list[Seal] = []
        self.digest = b""
        self.end = 0

    @classmethod
    def open(cls, path: StrPath, *, everything: bool = False, foreign: bool = False) -> Pack:
        """Open a pack and verify its index, or every byte of it.

        Args:
            path: The file; not a symbolic link.
            everything: Compare every value with its key now; otherwise each when it is read.
            foreign: It may belong to anybody, because the caller verifies its seal.

        Raises:
            StoreError: StoreNotFound, StorePermissionError, StoreVersionError, StoreDamaged, or what the
                system says.
        """
        name = os.path.abspath(os.fsdecode(path))
        try:
            fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
        except FileNotFoundError:
            raise StoreNotFound(name, "no such file") from None
        except OSError as error:
            raise from_system(name, error) from error
        except ValueError:
            raise UsageError(f"not a path: {name!r}") from None
        pack = cls(name, fd)
        try:
            _check_file(name, os.fstat(fd), foreign=foreign)
            pack._load()
            if everything and (problems := pack.verify()):
                raise StoreDamaged(name, problems[0])
        except BaseException:
            pack.release()
            raise
        return pack

    def _load(self) -> None:
        head = self.read(0, min(HEADER.size, self._size))
        if len(head) < HEADER.size or not head.startswith(MAGIC):
            raise StoreVersionError(self.path, "it is no sealed pack")
        _, version, flags, place, length, self.digest = HEADER.unpack(head)
        if (version, flags) != (VERSION, 0):
            raise StoreVersionError(
                self.path, f"pack version {version}, flags {flags:#x}; known is {VERSION}"
            )
        rest = self._size - place - length
        if place < HEADER.size or length > MAX_INDEX_BYTES or not 0 <= rest <= MAX_TRAILER_BYTES:
            raise StoreDamaged(self.path, f"an index of {length} bytes at {place} does not fit {self._size}")
        index = self.read(place, length)
        if index_digest(index) != self.digest:
            raise StoreDamaged(self.path, "its index does not have the digest that the header names")
        try:
            self._take(unpack(index, _INDEX_LIMITS), place)
            self.end = place + length
            self.seals = _read_trailer(self.read(self.end, rest))
        except CodecError as error:
            raise StoreDamaged(self.path, f"its index: {error}") from None

    def _take(self, index: Any, place: int) -> None:
        try:
            self.manifest, tables = dict(index[0]), dict(index[1])
            if set(tables) != set(DATABASES):
                raise StoreDamaged(self.path, f"its index has the databases {sorted(map(str, tables))}")
            at = HEADER.size
            for name in (*OUTSIDE, *(name for name in DATABASES if name not in OUTSIDE)):
                keys, values = tables[name]
                if not _are_sorted(keys) or len(keys) != len(values):
                    raise StoreDamaged(
                        self.path, f"the keys of {name} are out of order, or not as many as values"
                    )
                if name in OUTSIDE:
                    at = self._place(name, keys, values, at)
                else:
                    _check_values(self.path, name, values)
                    self.entries[name] = dict(zip(keys, values, strict=True))
                self.keys[name] = keys
        except (TypeError, ValueError, IndexError, KeyError) as error:
            raise StoreDamaged(self.path, f"its index is of another form: {error}") from None
        if at != place:
            raise StoreDamaged(self.path, f"its values end at {at}, but the index begins at {place}")

    def _place(self, name: str, keys: list[bytes], lengths: list[int], at: int) -> int:
        if not all(type(length) is int and length > 0 for length in lengths):
            raise StoreDamaged(self.path, f"a length in {name} is not a positive number")
        ends = list(accumulate(lengths, initial=at))
        self.entries[name] = dict(zip(keys, zip(ends, lengths, strict=False), strict=True))
        return ends[-1]

    def read(self, at: int, length: int) -> bytes:
        """Return so many bytes; StoreDamaged if they are missing."""
        if self._fd < 0:
            raise StoreClosed(self.path)
        parts = []
        try:
            while length and (part := os.pread(self._fd, length, at)):
                parts.append(part)
                at, length = at + len(part), length - len(part)
        except OSError as error:
            raise from_system(self.path, error) from error
        if length:
            raise StoreDamaged(self.path, f"it ends {length} bytes before its index says")
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def begin(self) -> PackView:
        """Start a view; all show the same."""
        return PackView(self)

    def retain(self) -> None:
        """Increment the use count."""
        self._users += 1

    def release(self) -> None:
        """Decrement the use count; the last user closes the file."""
        self._users -= 1
        if self._users <= 0:
            fd, self._fd = self._fd, -1
            if fd >= 0:
                os.close(fd)

    def verify(self) -> list[str]:
        """Return faults: compare every blob and manifest with its key, every list of parts with its check."""
        problems = []
        with self.begin() as view:
            for name in OUTSIDE:
                for key, value in view.items(name):
                    try:
                        _check_value(view, name, key, value)
                    except FirebrickError as error:
                        problems.append(str(error))
        return problems

    def map_facts(self) -> tuple[int, int]:
        """Return the bytes of the file; nothing is mapped."""
        return 0, self._size


class PackView(ReadView):
    """A view of a pack; ending it does nothing, because a pack never changes."""

    __slots__ = ("_pack",)

    def __init__(self, pack: Pack) -> None:
        """Show a pack."""
        self._pack = pack

    @property
    def path(self) -> str:
        """The path of the pack."""
        return self._pack.path

    def get(self, database: str, key: bytes) -> memoryview | None:
        """Return a value, read from the file now."""
        found = self._pack.entries[database].get(key)
        if found is None:
            return None
        if database in OUTSIDE:
            try:
                return memoryview(self._pack.read(*found))
            except StoreDamaged as error:
                raise DamagedError(key, error.detail) from None
        return memoryview(found[0] if DATABASES[database] else found)

    def has(self, database: str, key: bytes, value: bytes | None = None) -> bool:
        """Tell whether a key is there, or with `value` that duplicate of it."""
        if value is None:
            return key in self._pack.entries[database]
        return value in self.duplicates(database, key)

    def items(
        self, database: str, start: bytes = b"", prefix: bytes = b""
    ) -> Iterator[tuple[bytes, memoryview]]:
        """Walk the keys with a prefix, in order, from `start` if that is later; with duplicates."""
        keys = self._pack.keys[database]
        for key in islice(keys, bisect.bisect_left(keys, max(start, prefix)), None):
            if not key.startswith(prefix):
                return
            if DATABASES[database]:
                yield from ((key, memoryview(value)) for value in self.duplicates(database, key))
            elif (found := self.get(database, key)) is not None:
                yield key, found

    def duplicates(self, database: str, key: bytes) -> list[bytes]:
        """Return the values of one key in a database with duplicates, sorted."""
        return [*self._pack.entries[database].get(key, ())]

    def entries(self, database: str) -> int:
        """Count the entries of a database."""
        found = self._pack.entries[database]
        return sum(map(len, found.values())) if DATABASES[database] else len(found)

    def end(self, *, commit: bool = False, pin: bool = False) -> None:
        """Do nothing."""


def index_digest(index: Data) -> bytes:
    """Return the digest of an index, which stands for the whole pack."""
    hasher = hasher_for("firebrick 1 pack index")
    hasher.update(index)
    return hasher.digest()


def problems_of(path: StrPath) -> list[str]:
    """Return the faults of a pack, checking every byte."""
    try:
        Pack.open(path, everything=True, foreign=True).release()
    except StoreError as error:
        return [error.detail]
    return []


def _check_file(path: str, info: os.stat_result, *, foreign: bool) -> None:
    if not stat.S_ISREG(info.st_mode):
        raise StorePermissionError(path, "it is not a file")
    if foreign:
        return
    if info.st_uid not in (os.geteuid(), 0):
        raise StorePermissionError(path, f"it belongs to user {info.st_uid}, and its seal is not asked for")
    if stat.S_IMODE(info.st_mode) & 0o022:
        raise StorePermissionError(
            path,
            f"mode {stat.S_IMODE(info.st_mode):o}: others may write to it, and its seal is not asked for",
        )


def _check_value(view: ReadView, name: str, key: bytes, value: memoryview) -> None:
    if name != "bundles":
        decode_blob(key, value, copy=False)
        return
    manifest, parts = split_bundle(key, value)
    decode_blob(key, manifest, copy=False)
    check_parts(view, key, parts)


def _check_values(path: str, name: str, values: list[Any]) -> None:
    if DATABASES[name]:
        sound = all(values) and all(_are_sorted(value) for value in values)
    else:
        sound = all(type(value) is bytes for value in values)
    if not sound:
        raise StoreDamaged(path, f"a value of {name} is of another form")


def _are_sorted(keys: Any) -> bool:
    return type(keys) is list and all(type(key) is bytes for key in keys) and keys == sorted(set(keys))


def _read_trailer(data: bytes) -> list[Seal]:
    seals = unpack(data, _TRAILER_LIMITS) if data else []
    if type(seals) is not list or not all(
        type(seal) is list and tuple(map(type, seal)) == _FIELDS_OF_TRAILER for seal in seals
    ):
        raise CodecError("its signatures are of another form")
    return [Seal(*seal) for seal in seals]
