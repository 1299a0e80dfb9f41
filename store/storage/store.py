"""Keep blobs, bundles, recipes and names in one directory: the class `Store`.

docs/format.md describes what is on disk. The order of writes, and so what a crash leaves behind,
follows from one rule: what belongs together is committed in one transaction. Compressing and
hashing happen before it begins.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self, TypeVar

from firebrick.errors import (
    CodecError,
    DamagedError,
    EditConflict,
    IncompleteBundle,
    LimitExceeded,
    StillReferenced,
    StoreClosed,
    StoreReadOnly,
    StrPath,
    UsageError,
)
from firebrick.storage import format as fmt
from firebrick.storage.blob import Blob, BlobInfo, StoredBlob, check_blob, decode_blob, encode_blob
from firebrick.storage.environment import Engine
from firebrick.storage.format import Kind
from firebrick.storage.keys import ContentKey, Data, pack_components, pack_strings, recipe_key, short
from firebrick.storage.lmdb_api import verify
from firebrick.storage.reader import (
    Keys,
    Reads,
    blob_infos,
    check_key,
    function_prefix,
    parts_check,
    read_registry_entry,
    registry_key,
    registry_value,
    split_bundle,
    stray_bundles,
)
from firebrick.storage.snapshot import Snapshot
from firebrick.storage.transaction import Transaction

if TYPE_CHECKING:
    from firebrick.storage.check import Report, Stat

T = TypeVar("T")
Values = dict[ContentKey, bytes]

__all__ = ["Blob", "BlobInfo", "Snapshot", "Store", "StoredBlob"]


class Store(Reads):
    """Keep blobs, bundles, recipes and names in a directory; open one with `Store.open`.

    Any thread may use a store: reads go on side by side, writes wait for each other. After a fork
    the child opens the file again by itself. All stores of one directory in a process share one
    environment. What methods return is owned by the caller, except inside a `snapshot`.

    Methods that write raise StoreReadOnly, StoreLocked (not within `format.LOCK_TIMEOUT_S`),
    StoreFull or StoreNotFound (the directory was removed), and then have written nothing. All raise
    StoreClosed after `close`.
    """

    def __init__(self, engine: Engine, *, readonly: bool, durable: bool) -> None:
        """Take over one use of an engine; call `Store.open` instead."""
        self._engine: Engine | None = engine
        self.path = engine.path
        self.readonly = readonly
        self.durable = durable

    @classmethod
    def open(
        cls,
        path: StrPath,
        *,
        readonly: bool = False,
        create: bool = True,
        map_size: int | None = None,
        durable: bool = True,
    ) -> Self:
        """Open a directory as a store, and make it if it is not there.

        Args:
            path: The directory. It must be local and private (mode 0700), and its last component no
                symbolic link.
            readonly: Change nothing in the directory, not even the lock file. Others should not
                write meanwhile; a read that they may have disturbed raises StoreLocked.
            create: Make a new store if there is none.
            map_size: Bytes of address space to begin with; default `format.MAP_SIZE`. It grows when
                it is full.
            durable: A write returns when it survives a crash of the system. False: such a crash may
                undo the last writes, each as a whole; that of a process loses nothing either way.

        Raises:
            StoreError: StoreNotFound, StorePermissionError, StoreReadOnly, StoreVersionError,
                NetworkFilesystemError, StoreDamaged, StoreLocked, StoreFull, or what the system says.
            UsageError: An argument is not valid.
        """
        engine = Engine.acquire(path, readonly=readonly, create=create, map_size=map_size)
        return cls(engine, readonly=readonly, durable=durable)

    def close(self) -> None:
        """Close the store; closing it again does nothing. Open snapshots stay valid."""
        engine, self._engine = self._engine, None
        if engine is not None:
            engine.release()

    def __enter__(self) -> Self:
        """Return the store."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the store."""
        self.close()

    @property
    def _open(self) -> Engine:
        if self._engine is None:
            raise StoreClosed(self.path)
        return self._engine

    def _reading(self) -> Transaction:
        return self._open.begin()

    def _write(self, body: Callable[[Transaction], T]) -> T:
        engine = self._open
        if self.readonly:
            raise StoreReadOnly(self.path)
        return engine.write(body, durable=self.durable)

    def snapshot(self) -> Snapshot:
        """Start a snapshot; use it as a context manager."""
        return Snapshot(self._open)

    # -- blobs

    def put(self, kind: Kind, data: Data, version: int = 1) -> ContentKey:
        """Keep bytes and return their content key; see `put_many`."""
        return self.put_many([Blob(kind, data, version)])[0]

    def put_many(self, items: Iterable[Blob]) -> Keys:
        """Keep blobs, all in one transaction, and return their content keys in the same order.

        A blob that is there, intact, is not written again; a damaged one is replaced. If all are
        there, no lock is taken.

        Raises:
            UsageError, LimitExceeded: A blob is not valid.
        """
        keys, fresh = self._encode(items)
        if self.readonly or fresh:
            self._write(lambda txn: _put_all(txn, fresh))
        return keys

    def _encode(self, items: Iterable[Blob]) -> tuple[Keys, Values]:
        """Return the keys of blobs, and the values of those that are not in the store."""
        blobs = [Blob(*item) for item in items]
        for blob in blobs:
            check_blob(*blob)
        keyed = [(blob.key, blob) for blob in blobs]
        with self._reading() as txn:
            absent = {key: blob for key, blob in keyed if not _intact(txn, key)}
        return [key for key, _ in keyed], {key: encode_blob(blob) for key, blob in absent.items()}

    def delete(self, key: bytes, *, force: bool = False) -> bool:
        """Delete a blob; False if it was not there.

        Args:
            key: Its content key.
            force: Delete it even if it is needed; `check` then reports what needs it.

        Raises:
            StillReferenced: A bundle or a registry entry needs it.
        """
        check_key(key)

        def body(txn: Transaction) -> bool:
            if not force and txn.has("blobs", key) and (users := _users(txn, key)):
                raise StillReferenced(key, users)
            return txn.delete("blobs", key)

        return self._write(body)

    # -- bundles and recipes

    def publish(
        self,
        recipe: bytes,
        components: Mapping[str, str],
        manifest: Blob,
        parts: Sequence[ContentKey],
        blobs: Iterable[Blob] = (),
    ) -> bool:
        """Add a bundle to a recipe: blobs, bundle, recipe and components in one transaction.

        Args:
            recipe: Key of the recipe: `recipe_key(components)`.
            components: What the recipe is made of.
            manifest: The bundle, a blob of kind BUNDLE; its content key is the bundle's.
            parts: Content keys of all blobs that the bundle needs, in any order. They follow from
                the manifest: whoever publishes the same manifest gives the same parts.
            blobs: Blobs that are to be kept with it.

        Returns:
            True if the bundle was new to the recipe. If all was there, no lock was taken.

        Raises:
            IncompleteBundle: Parts are neither in the store nor among `blobs`; nothing is written.
            UsageError, LimitExceeded: An argument is not valid.
        """
        packed = pack_components(components)
        if recipe != recipe_key(components):
            raise UsageError("the recipe's key is not that of its components")
        if manifest.kind is not Kind.BUNDLE:
            raise UsageError(f"a manifest is of kind BUNDLE, not {manifest.kind!r}")
        wanted = sorted({check_key(part) for part in parts})
        if len(wanted) > fmt.MAX_PARTS:
            raise LimitExceeded("number of parts", len(wanted), fmt.MAX_PARTS)
        _, fresh = self._encode(blobs)
        value = encode_blob(manifest) + b"".join(wanted)
        bundle = manifest.key

        def body(txn: Transaction) -> bool:
            _put_all(txn, fresh)
            if missing := [part for part in wanted if not txn.has("blobs", part)]:
                raise IncompleteBundle(missing)
            txn.put("bundles", bundle, value)
            txn.put_record("names", fmt.NAME_PARTS + bundle, parts_check(wanted))
            txn.put_record("components", recipe, packed)
            for stray in stray_bundles(txn, txn.duplicates("recipes", recipe)):
                txn.delete_duplicate("recipes", recipe, stray)
            module, name = components.get("function.module"), components.get("function.name")
            if module is not None and name is not None:
                txn.put_record("names", function_prefix(module, name) + recipe, b"")
            return txn.put("recipes", recipe, bundle)

        if not fresh and not self.readonly:
            with self._reading() as txn:
                if _is_published(txn, recipe, packed, bundle, value, wanted):
                    return False
        return self._write(body)

    # -- volatile facts

    def note(self, key: bytes, facts: Mapping[str, Any]) -> None:
        """Keep facts beside a bundle (when, seconds, host), in place of those noted before."""
        from firebrick.storage.msgpack import pack  # the package loads every codec

        body = pack(dict(facts))
        check_key(key)
        self._write(lambda txn: txn.put_record("clock", fmt.CLOCK_NOTE + key, body))

    def touch(self, key: bytes, now: float | None = None) -> bool:
        """Note that an entry is used, at most once in `format.TOUCH_PERIOD_S`.

        Args:
            key: Content key of a bundle or a blob.
            now: Seconds since 1970; default the clock.

        Returns:
            Whether something was written; never in a store that is open for reading.
        """
        seconds = max(0, int(time.time() if now is None else now))  # a clock may be before 1970
        check_key(key)
        if self.readonly:
            return False
        with contextlib.suppress(DamagedError):  # is written anew
            last = self.last_use(key)
            if last is not None and abs(seconds - last) < fmt.TOUCH_PERIOD_S:
                return False
        body = seconds.to_bytes(8, "little")
        return self._write(lambda txn: txn.put_record("clock", fmt.CLOCK_USE + key, body))

    # -- names

    def registry_update(
        self,
        context: str,
        changes: Mapping[tuple[str, str], bytes | None],
        *,
        blobs: Iterable[Blob] = (),
        expect: Mapping[tuple[str, str], bytes | None] | None = None,
    ) -> None:
        """Change values of a context, all in one transaction.

        Args:
            context: Its name.
            changes: (section, name) to the new value; None removes it.
            blobs: Blobs that are to be kept with it.
            expect: (section, name) to the value that must be there now, None for none.

        Raises:
            EditConflict: Something else is there; names it as "section/name". Nothing is written.
        """
        _, fresh = self._encode(blobs)

        def body(txn: Transaction) -> None:
            wrong = [
                name for name, value in (expect or {}).items() if registry_value(txn, context, *name) != value
            ]
            if wrong:
                raise EditConflict(context, sorted("/".join(name) for name in wrong))
            _put_all(txn, fresh)
            for (section, name), value in changes.items():
                key = registry_key(context, section, name)
                if value is None:
                    txn.delete("registry", key)
                else:
                    names = (context.encode(), section.encode(), name.encode())
                    txn.put_record("registry", key, pack_strings((*names, value)))

        self._write(body)

    # -- the whole

    @staticmethod
    def verify(path: StrPath) -> list[str]:
        """List what is wrong with the structure of a store that nobody writes to.

        It is not opened, and no byte of it trusted: damage that would kill a process that opens it
        is found as well.
        """
        return verify(os.fspath(path))

    def check(self) -> Report:
        """Look at every byte: the file's structure, headers, digests, and where references lead.

        Writers are locked out while the structure is looked at; the rest sees one moment. Nothing
        is changed.
        """
        from firebrick.storage.check import check_store

        return check_store(self._open)

    def stat(self) -> Stat:
        """Count entries and bytes; reads every header."""
        from firebrick.storage.check import Stat

        disk, map_size = self._open.sizes()
        with self._reading() as txn:
            infos = [*blob_infos(txn)]
            return Stat(
                path=self.path,
                blobs=txn.entries("blobs"),
                bundles=txn.entries("bundles"),
                recipes=txn.entries("components"),
                registry=txn.entries("registry"),
                bytes_on_disk=disk,
                bytes_stored=sum(info.stored for info in infos),
                bytes_raw=sum(info.raw for info in infos),
                map_size=map_size,
            )


def _put_all(txn: Transaction, values: Values) -> None:
    for key, value in values.items():
        txn.put("blobs", key, value)


def _is_published(
    txn: Transaction, recipe: bytes, packed: bytes, bundle: bytes, value: bytes, parts: list[bytes]
) -> bool:
    stored = txn.get("bundles", bundle)
    with contextlib.suppress(DamagedError):
        return (
            txn.has("recipes", recipe, bundle)
            and stored is not None
            and bytes(stored) == value
            and txn.record("names", fmt.NAME_PARTS + bundle) == parts_check(parts)
            and not stray_bundles(txn, txn.duplicates("recipes", recipe))
            and txn.record("components", recipe) == packed
            and all(txn.has("blobs", part) for part in parts)
        )
    return False


def _intact(txn: Transaction, key: ContentKey) -> bool:
    value = txn.get("blobs", key)
    try:
        return value is not None and bool(decode_blob(key, value, copy=False))
    except (DamagedError, CodecError):
        return False


def _users(txn: Transaction, key: bytes) -> list[str]:
    users = []
    for bundle, value in txn.items("bundles"):
        with contextlib.suppress(DamagedError):
            if key in split_bundle(bundle, value)[1]:
                users.append(f"bundle {short(bundle)}")
    for entry, value in txn.items("registry"):
        with contextlib.suppress(DamagedError):
            context, section, name, data = read_registry_entry(entry, value)
            if data == key:
                users.append(f"{section}/{name} of context {context}")
    return users
