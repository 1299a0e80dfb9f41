"""Maintain a store: delete, pin, collect, check, count. The part of `Store` that no start needs."""

from __future__ import annotations

import contextlib
import os
from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, TypeVar

from firebrick.errors import BundleMissing, DamagedError, StillReferenced, StoreReadOnly, StrPath, UsageError
from firebrick.storage import format as fmt
from firebrick.storage.directory import is_file
from firebrick.storage.environment import Engine
from firebrick.storage.keys import short
from firebrick.storage.lmdb_api import translated, verify
from firebrick.storage.reader import Reads, blob_infos, check_key, read_registry_entry, split_bundle
from firebrick.storage.transaction import Transaction
from firebrick.storage.view import Source

if TYPE_CHECKING:
    from firebrick.storage.check import Problem, Report, Stat
    from firebrick.storage.collector import Collected
    from firebrick.storage.repair import Repaired

T = TypeVar("T")


class Upkeep(Reads):
    """The maintenance methods of `Store`; its rules apply."""

    path: str
    readonly: bool

    @property
    @abstractmethod
    def _open(self) -> Source:
        """What it is read from; StoreClosed after `close`."""

    @abstractmethod
    def _write(self, body: Callable[[Transaction], T], values: Iterable[bytes] = ()) -> T:
        """Run a body in a writing transaction, with room made for values."""

    @property
    def _writable(self) -> Engine:
        engine = self._open.top
        if self.readonly or not isinstance(engine, Engine):
            raise StoreReadOnly(self.path)
        return engine

    # -- deleting

    def delete(self, key: bytes, *, force: bool = False) -> bool:
        """Delete a blob, a bundle or a recipe; return False if there is none.

        A bundle is deleted with its names in recipes, and a recipe with its bundles that no other one names.
        Their blobs stay until `gc` finds that nothing else needs them.

        Args:
            key: Its key; the keys of blobs, bundles and recipes never coincide.
            force: Delete it even if it is pinned or needed; `check` then reports its users.

        Raises:
            StillReferenced: A bundle or a registry entry needs the blob, or the bundle is pinned.
        """
        from firebrick.storage import deletion, journal

        check_key(key)

        def body(txn: Transaction) -> bool:
            if not force and txn.has("blobs", key) and (users := _users(txn, key)):
                raise StillReferenced(key, users)
            if not force and deletion.is_pinned(txn, key):
                raise StillReferenced(key, ["a pin"])
            gone = txn.delete("blobs", key)
            journal.note(txn, journal.parts_of(txn, key))
            gone = deletion.drop_bundle(txn, key) or gone
            return deletion.drop_recipe(txn, key, force=force) or gone

        return self._write(body)

    def delete_context(self, name: str) -> bool:
        """Delete all values of a context; return False if there are none. Its blobs stay until `gc`."""
        from firebrick.storage.deletion import drop_context

        return self._write(lambda txn: drop_context(txn, name))

    def pin(self, key: bytes) -> bool:
        """Protect a bundle from eviction, and from deletion without force, until it is unpinned.

        Returns:
            False if it was already pinned.

        Raises:
            BundleMissing: It is not there.
        """
        check_key(key)

        def body(txn: Transaction) -> bool:
            if not txn.has("bundles", key):
                raise BundleMissing(key)
            return txn.put_record("meta", fmt.META_PIN + key, b"")

        return self._write(body)

    def unpin(self, key: bytes) -> bool:
        """Unpin a bundle; return False if it was not pinned."""
        check_key(key)
        return self._write(lambda txn: txn.delete("meta", fmt.META_PIN + key))

    def attach(self, signatures: Mapping[bytes, bytes]) -> None:
        """Keep signatures of index entries, in place of those under the same keys of `meta`."""
        if wrong := [key for key in signatures if not key.startswith(fmt.META_SIGNATURE)]:
            raise UsageError(f"not the key of a signature: {wrong[0]!r}")

        def body(txn: Transaction) -> None:
            for key, value in signatures.items():
                txn.put_record("meta", key, value)

        self._write(body)

    def gc(self, *, grace: float = fmt.GRACE_S) -> Collected:
        """Remove blobs that nothing needs, facts of deleted entries, and leftover files.

        Works in transactions of `format.SLICE_S`, so that nobody waits for it; blobs that others need
        meanwhile stay.

        Args:
            grace: Seconds for which blobs stay after they were put, or released by a deletion, since somebody
                may be about to use them.

        Raises:
            StoreLocked: Somebody else is collecting or evicting.
        """
        from firebrick.storage.collector import collect

        engine = self._writable
        with engine.upkeep(fmt.LOCK_TIMEOUT_S):
            return collect(engine, grace)

    def evict(self, max_bytes: int) -> Collected:
        """Evict bundles until the pages in use have at most so many bytes, as far as pins allow.

        Bundles that save the fewest seconds of compilation per byte, and are longest unused, go first. The
        file keeps its length, and its free space is reused.

        Raises:
            StoreLocked: Somebody else is collecting or evicting.
            StoreFull: There is no room for the pages that a deletion changes.
        """
        from firebrick.storage.eviction import evict

        engine = self._writable
        with engine.upkeep(fmt.LOCK_TIMEOUT_S):
            return evict(engine, max_bytes)

    def compact(self) -> int:
        """Make the file as small as what is in use, and return the bytes on disk that it has less.

        It is copied, while others read and write, and the copy takes its place. Processes that have the old
        one open go on to the new one at their next use; until then, the old one keeps its space. The disk
        needs room for the copy.

        Raises:
            StoreLocked: Somebody else collects or evicts, or others write faster than it can be copied.
            StoreFull: There is no room for the copy.
        """
        from firebrick.storage.compaction import compact

        engine = self._writable
        with engine.upkeep(fmt.LOCK_TIMEOUT_S), translated(self.path, None):
            return compact(engine)

    # -- the whole

    def set_aside(self, *, most: int = 0) -> str:
        """Begin an empty file if the structure of this one is damaged, and return the first fault; else "".

        The damaged one is kept in the directory, as `format.DAMAGED_FILE`, until the next `gc`.

        Args:
            most: Spare a file of more bytes; 0: spare none. Looking takes about half a millisecond per MiB.

        Raises:
            StoreLocked: Others write to it, or open it, and do not get on.
        """
        from firebrick.storage.quarantine import set_aside

        engine = self._writable
        fault = set_aside(self.path, most=most)
        if fault:
            engine.look()
        return fault

    @staticmethod
    def verify(path: StrPath) -> list[str]:
        """Return the structural faults of a store that nobody is writing to.

        It is not opened, and no byte of it is trusted: even damage that would kill a process opening it is
        found.
        """
        if is_file(path):
            from firebrick.storage.pack import problems_of

            return problems_of(path)
        return verify(os.fspath(path))

    def check(self, *, seconds: float | None = None, token: str = "") -> Report:
        """Check every byte: the file's structure, headers, digests, schemas, and references.

        Writers are locked out while the structure is checked, in the first of several calls; the rest of a
        call sees one moment. Nothing is changed. Of a store with layers only the top is checked.

        Args:
            seconds: About how long to look, not counting the structure; None: to the end.
            token: What an earlier call returned, to go on from there.

        Raises:
            UsageError: The token is none.
        """
        from firebrick.storage.check import check_store

        return check_store(self._open.top, seconds, token)

    def repair(self, problems: Iterable[Problem]) -> Repaired:
        """Drop exactly the broken entries, with those that depend on them; sound ones stay.

        Args:
            problems: What `check` found. Each is looked at again before anything is dropped for it.

        Returns:
            How much was dropped.

        Raises:
            StoreDamaged: The structure of the file is broken, which only another file mends.
        """
        from firebrick.storage.repair import repair

        engine = self._writable
        with engine.upkeep(fmt.LOCK_TIMEOUT_S):
            return repair(engine, problems)

    def drop_damaged(self, key: bytes) -> Repaired:
        """Drop the damaged entry under a key, like `repair`; do nothing if it is sound.

        For who met a DamagedError: `key` is that of the error, of a blob, a bundle, a recipe or a record.

        Raises:
            StoreLocked: Somebody else collects, evicts or repairs.
        """
        from firebrick.storage.check import Problem
        from firebrick.storage.repair import repair

        places = [name for name in fmt.DATABASES if name != "meta"]
        engine = self._writable
        with engine.upkeep(fmt.OPEN_TIMEOUT_S):
            return repair(engine, [Problem("damaged", key, "", place) for place in places])

    def stat(self) -> Stat:
        """Return counts of entries and bytes; reads every header."""
        from firebrick.storage.check import Stat

        map_size, _ = self._open.map_facts()
        with self._reading() as txn:
            infos = [*blob_infos(txn)]
            return Stat(
                path=self.path,
                blobs=txn.entries("blobs"),
                bundles=txn.entries("bundles"),
                recipes=txn.entries("components"),
                registry=txn.entries("registry"),
                bytes_on_disk=disk_bytes(self.path),
                bytes_stored=sum(info.stored for info in infos),
                bytes_raw=sum(info.raw for info in infos),
                map_size=map_size,
            )


def disk_bytes(path: str) -> int:
    """Return the bytes on disk of a store's files, as allocated; StoreError if they cannot be examined."""
    names = (fmt.DATA_FILE, fmt.LOCK_FILE)
    files = [path] if is_file(path) else [os.path.join(path, name) for name in names]
    with translated(path, None):
        return sum(os.stat(file).st_blocks * 512 for file in files if os.path.exists(file))


def _users(txn: Transaction, key: bytes) -> list[str]:
    users = []
    for bundle, value in txn.items("bundles"):
        with contextlib.suppress(DamagedError):
            if key in split_bundle(bundle, value)[1]:
                users.append(f"bundle {short(bundle)}")
    for entry, value in txn.items("registry"):
        with contextlib.suppress(DamagedError):
            context, section, name, data = read_registry_entry(entry, value)
            if key in data:
                users.append(f"{section}/{name} of context {context}")
    return users
