"""Collect garbage in a store: blobs nothing needs, and facts of deleted entries.

A walk finds the blobs that no bundle or registry value needs; the journal lists those needed since; the rest
are deleted, all in short transactions. References from a registry value are found without knowing its form: a
blob whose key occurs in the bytes of a value, or of a blob it needs, is needed too.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Iterator, Sequence

from firebrick.base.namedtuple import NamedTuple
from firebrick.errors import CodecError, DamagedError
from firebrick.storage import format as fmt
from firebrick.storage import journal
from firebrick.storage.blob import decode_blob
from firebrick.storage.environment import Engine
from firebrick.storage.format import KEY_BYTES
from firebrick.storage.new_file import leftovers
from firebrick.storage.reader import read_registry_entry, split_bundle
from firebrick.storage.slices import walk, write_all
from firebrick.storage.transaction import Transaction
from firebrick.storage.view import ReadView

_PACKED_KEY = re.compile(rb"(?=\xc4\x20(.{32}))", re.DOTALL)  # 32 bytes as msgpack writes them


class Collected(NamedTuple):
    """Counts of entries removed by upkeep; bytes as stored."""

    blobs: int = 0
    bundles: int = 0
    entries: int = 0  # of indexes, and facts of deleted entries
    bytes: int = 0
    waiting: int = 0  # unneeded blobs within their grace
    leftovers: int = 0  # files

    def plus(self, other: Collected) -> Collected:
        """Return the sum with another count."""
        return Collected(*map(sum, zip(self, other, strict=True)))


def collect(engine: Engine, grace: float) -> Collected:
    """Remove everything that nothing needs; see `Store.gc`."""
    with engine.begin() as txn:
        began = txn.number
    unneeded = unneeded_blobs(engine)
    with engine.begin() as txn:
        doomed = sorted(unneeded.keys() - journal.needed(txn, began, grace))
    blobs, size = drop_blobs(engine, doomed, began)
    stale = [*_stale_entries(engine)]
    entries, _ = write_all(
        engine, stale, lambda txn: lambda entry: _is_stale(txn, *entry) and txn.delete(*entry)
    )
    return Collected(blobs, 0, entries, size, len(unneeded) - blobs, _remove_leftovers(engine.path))


def drop_blobs(engine: Engine, keys: Sequence[bytes], began: int) -> tuple[int, int]:
    """Remove blobs, except those needed by a transaction after the one with this number.

    Returns:
        Their number and their bytes as stored.
    """

    def dropping(txn: Transaction) -> Callable[[bytes], int]:
        spared = journal.needed(txn, began)
        return lambda key: 0 if key in spared else drop_blob(txn, key)

    return write_all(engine, keys, dropping)


def unneeded_blobs(engine: Engine) -> dict[bytes, int]:
    """Return the keys of blobs that no bundle or registry value needs, with their bytes as stored.

    Blobs needed only since the walk began may be among them.
    """
    unneeded = {key: len(value) for _, key, value in walk(engine, "blobs")}
    for _, key, value in walk(engine, "bundles"):
        with contextlib.suppress(DamagedError):
            for part in split_bundle(key, value)[1]:
                unneeded.pop(part, None)
    for txn, key, value in walk(engine, "registry"):
        keep_named(txn, registry_names(key, value, unneeded), unneeded)
    return unneeded


def registry_names(key: bytes, value: memoryview, known: dict[bytes, int]) -> Iterator[bytes]:
    """Yield the keys of known blobs in a registry value; none if it is damaged."""
    with contextlib.suppress(DamagedError):
        data = read_registry_entry(key, value)[3]
        for at in range(len(data) - KEY_BYTES + 1):
            if (name := data[at : at + KEY_BYTES]) in known:
                yield name


def keep_named(txn: ReadView, names: Iterator[bytes], unneeded: dict[bytes, int]) -> None:
    """Remove blobs, and all blobs they name, from the unneeded ones."""
    waiting = [name for name in names if unneeded.pop(name, None) is not None]
    while waiting:
        key = waiting.pop()
        value = txn.get("blobs", key)
        with contextlib.suppress(DamagedError, CodecError):
            data = b"" if value is None else decode_blob(key, value, copy=False).data
            for found in _PACKED_KEY.finditer(data):
                if unneeded.pop(found[1], None) is not None:
                    waiting.append(found[1])


def drop_blob(txn: Transaction, key: bytes) -> int:
    """Remove a blob and its last use; return its bytes as stored, 0 if it was missing."""
    value = txn.get("blobs", key)
    size = 0 if value is None else len(value)
    txn.delete("clock", fmt.CLOCK_USE + key)
    txn.delete("blobs", key)
    return size


def _stale_entries(engine: Engine) -> Iterator[tuple[str, bytes]]:
    for database in "names", "clock", "components":
        for txn, key, _ in walk(engine, database):
            if _is_stale(txn, database, key):
                yield database, key


def _is_stale(txn: Transaction, database: str, key: bytes) -> bool:
    """Tell whether an index entry or fact belongs to a deleted entry."""
    prefix, rest = key[:1], key[1:]
    match prefix if database in ("names", "clock") else database:
        case fmt.NAME_PARTS:
            return not txn.has("bundles", rest)
        case fmt.NAMES_FUNCTION:
            return not txn.has("components", rest[-KEY_BYTES:])
        case fmt.NAMES_RECIPE:
            return not txn.has("recipes", rest[KEY_BYTES:], rest[:KEY_BYTES])
        case fmt.CLOCK_JOURNAL:
            return journal.is_over(txn, key)
        case fmt.CLOCK_USE | fmt.CLOCK_NOTE:
            return not (txn.has("bundles", rest) or txn.has("blobs", rest))
        case "components":
            return not txn.has("recipes", key)
    return False


def _remove_leftovers(path: str) -> int:
    """Remove files that a killed process left in the directory; nobody else may be doing so."""
    removed = 0
    for name in leftovers(path):
        with contextlib.suppress(OSError):
            os.unlink(name)
            removed += 1
    return removed
