"""Blobs, bundles, recipes and names in one directory: the class `Store`.

docs/format.md describes what is on disk. The order of writes, and so what a crash leaves behind, follows from
one rule: changes that belong together are committed in one transaction. Compressing and hashing happen before
it begins.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self, TypeVar

from firebrick.errors import (
    DamagedError,
    EditConflict,
    IncompleteBundle,
    LimitExceeded,
    StoreClosed,
    StoreFull,
    StoreReadOnly,
    StrPath,
    UsageError,
)
from firebrick.storage import format as fmt
from firebrick.storage import journal
from firebrick.storage.blob import Blob, BlobInfo, StoredBlob, check_blob, encode_blob
from firebrick.storage.directory import is_file
from firebrick.storage.durability import Durability, level
from firebrick.storage.environment import Engine
from firebrick.storage.format import Kind
from firebrick.storage.keys import ContentKey, Data, pack_components, pack_strings, recipe_key
from firebrick.storage.limit import data_limit
from firebrick.storage.presence import is_intact, is_published
from firebrick.storage.reader import (
    Keys,
    check_key,
    function_prefix,
    parts_check,
    registry_key,
    registry_value,
    stray_bundles,
)
from firebrick.storage.snapshot import Snapshot
from firebrick.storage.transaction import Transaction
from firebrick.storage.upkeep import Upkeep
from firebrick.storage.view import ReadView, Source

if TYPE_CHECKING:
    from firebrick.storage.layers import Guard, Layer

T = TypeVar("T")
Values = dict[ContentKey, bytes]

__all__ = ["Blob", "BlobInfo", "Snapshot", "Store", "StoredBlob"]


class Store(Upkeep):
    """A directory of blobs, bundles, recipes and names; open one with `Store.open`.

    Thread-safe: reads run in parallel, writes are serialised. After a fork the child reopens the file
    automatically. All stores of one directory in a process share one environment. The caller owns the results
    of methods, except inside a `snapshot`.

    Methods that write raise StoreReadOnly, StoreLocked (not within `format.LOCK_TIMEOUT_S`),
    StoreFull or StoreNotFound (the directory was removed), and then have written nothing. All raise
    StoreClosed after `close`.
    """

    def __init__(self, source: Source, *, readonly: bool, durable: bool | Durability, limit: int = 0) -> None:
        """Take over one use of a source; call `Store.open` instead."""
        self._source: Source | None = source
        self._limit = limit
        self.path = source.path
        self.readonly = readonly
        self.durable = level(durable)
        self.evicted = 0  # bundles evicted to make room for writes of this store

    @classmethod
    def open(
        cls,
        path: StrPath,
        *,
        readonly: bool = False,
        create: bool = True,
        map_size: int | None = None,
        durable: bool | Durability = "each",
        max_bytes: int | None = 0,
    ) -> Self:
        """Open a directory as a store, creating it if missing.

        Args:
            path: The directory. It must be local and private (mode 0700), and its last component not a
                symbolic link. Or the file of a sealed pack, to be read.
            readonly: Change nothing in the directory, not even the lock file. Others should not write
                meanwhile; a read they may have disturbed raises StoreLocked.
            create: Create a new store if there is none.
            map_size: Initial bytes of address space; default `format.MAP_SIZE`. It grows when full.
            durable: When a write survives a system crash: "each" (or True) when it returns, "interval" within
                `format.FLUSH_INTERVAL_S`, "system" (or False) after the next write. Such a crash undoes the
                last write as a whole; a process crash loses nothing at any level.
            max_bytes: Limit of bytes on disk for writes of this store: bundles are evicted to make room for
                others. 0: no limit; None: one that fits the disk.

        Raises:
            StoreError: StoreNotFound, StorePermissionError, StoreReadOnly, StoreVersionError,
                NetworkFilesystemError, StoreDamaged, StoreLocked, StoreFull, or what the system says.
            UsageError: An argument is not valid.
        """
        if is_file(path):
            from firebrick.storage.pack import Pack  # a directory is opened without it

            pack = Pack.open(path)
            if not readonly:
                pack.release()
                raise StoreReadOnly(path, "it is a sealed pack")
            return cls(pack, readonly=True, durable=durable)
        limit = data_limit(path, max_bytes)
        engine = Engine.acquire(path, readonly=readonly, create=create, map_size=map_size, limit=limit)
        return cls(engine, readonly=readonly, durable=durable, limit=limit)

    def close(self) -> None:
        """Close the store; a second call does nothing. Open snapshots stay valid."""
        source, self._source = self._source, None
        if source is not None:
            source.release()

    def above(
        self,
        layers: Sequence[Layer],
        guard: Callable[[Source], Guard | None],
        on_fault: Callable[[BaseException], None],
    ) -> Self:
        """Return this store with layers below it, which takes it over: this object is closed.

        Reads go down the layers; what is written, and `check`, `gc` and pins, concern this store alone.

        Args:
            layers: In the order in which they are asked; taken over.
            guard: Returns who tells what of this store's own index is believed; None believes everything.
                May raise; then nothing is taken over.
            on_fault: Is told when a layer cannot be read.
        """
        from firebrick.storage.layers import Layer, Layers

        own = Layer(self._open, guard(self._open))
        self._source = None
        below = Layers([own, *layers], on_fault)
        return type(self)(below, readonly=self.readonly, durable=self.durable, limit=self._limit)

    def __enter__(self) -> Self:
        """Return the store."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the store."""
        self.close()

    @property
    def _open(self) -> Source:
        if self._source is None:
            raise StoreClosed(self.path)
        return self._source

    def _reading(self) -> ReadView:
        return self._open.begin()

    def _write(self, body: Callable[[Transaction], T], values: Iterable[bytes] = ()) -> T:
        engine = self._writable
        size = sum(len(value) + 2048 for value in values)
        if not size or not self._limit or engine.map_facts()[1] + size < self._limit // 2:
            with contextlib.suppress(StoreFull):
                return engine.write(body, durable=self.durable)
        from firebrick.storage import room  # most writes find room

        result, evicted = room.write(engine, body, durable=self.durable, limit=self._limit, size=size)
        self.evicted += evicted.bundles
        return result

    def snapshot(self) -> Snapshot:
        """Start a snapshot; use it as a context manager."""
        return Snapshot(self._open)

    # -- blobs

    def put(self, kind: Kind, data: Data, version: int = 1) -> ContentKey:
        """Store bytes and return their content key; see `put_many`."""
        return self.put_many([Blob(kind, data, version)])[0]

    def put_many(self, items: Iterable[Blob]) -> Keys:
        """Store blobs in one transaction, and return their content keys in the same order.

        An intact blob already present is not rewritten; a damaged one is replaced. If all are present, no
        lock is taken.

        Raises:
            UsageError, LimitExceeded: A blob is not valid.
        """

        def put(keys: Keys, fresh: Values) -> Keys:
            if self.readonly or fresh:
                self._write(lambda txn: _put_all(txn, fresh, keys), fresh.values())
            else:
                self._writable.settle(self.durable)
            return keys

        return self._encoded([Blob(*item) for item in items], put)

    def _encoded(self, blobs: Sequence[Blob], write: Callable[[Keys, Values], T]) -> T:
        """Encode blobs and write them, retrying if some that were present are collected in between."""
        encoded = self._encode(blobs)
        for _ in range(fmt.MAX_REMAPS):
            try:
                return write(*encoded)
            except IncompleteBundle as error:
                if not {*error.missing} <= {*encoded[0]}:  # it cannot put them back
                    raise
                encoded = self._encode(blobs)
        return write(*encoded)

    def _encode(self, blobs: Sequence[Blob]) -> tuple[Keys, Values]:
        """Return the keys of blobs, and the values of those not in the store."""
        for blob in blobs:
            check_blob(*blob)
        keyed = [(blob.key, blob) for blob in blobs]
        with self._open.top.begin() as txn:
            absent = {key: blob for key, blob in keyed if not is_intact(txn, key)}
        return [key for key, _ in keyed], {key: encode_blob(blob) for key, blob in absent.items()}

    # -- bundles and recipes

    def publish(
        self,
        recipe: bytes,
        components: Mapping[str, str],
        manifest: Blob,
        parts: Sequence[ContentKey],
        blobs: Iterable[Blob] = (),
        facts: Mapping[str, Any] | None = None,
    ) -> bool:
        """Add a bundle to a recipe: blobs, bundle, recipe and components in one transaction.

        Args:
            recipe: Key of the recipe: `recipe_key(components)`.
            components: The components of the recipe.
            manifest: The bundle, a blob of kind BUNDLE; its content key is the bundle's.
            parts: Content keys of all blobs the bundle needs, in any order. They follow from the manifest:
                whoever publishes the same manifest passes the same parts.
            blobs: Blobs to store with it.
            facts: Facts to note if it is new to the recipe, as with `note`: ``seconds`` of compilation, and
                ``when``, decide how long it stays.

        Returns:
            True if the bundle was new to the recipe. If everything was present, no lock was taken.

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
        value = encode_blob(manifest) + b"".join(wanted)
        noted = None if facts is None else _packed(facts)
        bundle = manifest.key

        def body(txn: Transaction, keys: Keys, fresh: Values) -> bool:
            _put_all(txn, fresh, keys)
            if missing := [part for part in wanted if not txn.has("blobs", part)]:
                raise IncompleteBundle(missing)
            journal.note(txn, [bundle])
            txn.put("bundles", bundle, value)
            txn.put_record("names", fmt.NAME_PARTS + bundle, parts_check(wanted))
            txn.put_record("components", recipe, packed)
            for stray in stray_bundles(txn, txn.duplicates("recipes", recipe)):
                txn.delete_duplicate("recipes", recipe, stray)
            module, name = components.get("function.module"), components.get("function.name")
            if module is not None and name is not None:
                txn.put_record("names", function_prefix(module, name) + recipe, b"")
            txn.put_record("names", fmt.NAMES_RECIPE + bundle + recipe, b"")
            new = txn.put("recipes", recipe, bundle)
            if new and noted is not None:
                txn.put_record("clock", fmt.CLOCK_NOTE + bundle, noted)
            return new

        def write(keys: Keys, fresh: Values) -> bool:
            if not fresh and not self.readonly:
                with self._open.top.begin() as txn:
                    there = is_published(txn, recipe, packed, bundle, value, wanted)
                if there:
                    self._writable.settle(self.durable)
                    return False
            return self._write(lambda txn: body(txn, keys, fresh), fresh.values())

        return self._encoded([Blob(*blob) for blob in blobs], write)

    # -- volatile facts

    def note(self, key: bytes, facts: Mapping[str, Any]) -> None:
        """Note facts of a bundle (when, seconds, host), replacing earlier ones."""
        body = _packed(facts)
        check_key(key)
        self._write(lambda txn: txn.put_record("clock", fmt.CLOCK_NOTE + key, body))

    def touch(self, key: bytes, now: float | None = None) -> bool:
        """Note that an entry is used, at most once per `format.TOUCH_PERIOD_S`.

        Args:
            key: Content key of a bundle or a blob.
            now: Seconds since 1970; default the clock.

        Returns:
            Whether something was written; never in a read-only store.
        """
        seconds = max(0, int(time.time() if now is None else now))  # a clock may be before 1970
        check_key(key)
        if self.readonly:
            return False
        with contextlib.suppress(DamagedError):  # is rewritten
            last = self.last_use(key)
            if last is not None and abs(seconds - last) < fmt.TOUCH_PERIOD_S:
                return False
        if self._open.top is not self._open:  # what lies in a layer is not this user's to look after
            with self._open.top.begin() as txn:
                if not (txn.has("bundles", key) or txn.has("blobs", key)):
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
        """Change values of a context in one transaction.

        Args:
            context: Its name.
            changes: (section, name) to the new value; None removes it.
            blobs: Blobs to store with it.
            expect: (section, name) to the value that must be present now, None for none.

        Raises:
            EditConflict: Another value is present; names it as "section/name". Nothing is written.
        """

        def body(txn: Transaction, keys: Keys, fresh: Values) -> None:
            expected = (expect or {}).items()
            with self._open.over(txn) as view:
                wrong = [name for name, value in expected if registry_value(view, context, *name) != value]
            if wrong:
                raise EditConflict(context, sorted("/".join(name) for name in wrong))
            _put_all(txn, fresh, keys)
            for (section, name), value in changes.items():
                key = registry_key(context, section, name)
                if value is None:
                    txn.delete("registry", key)
                else:
                    names = (context.encode(), section.encode(), name.encode())
                    txn.put_record("registry", key, pack_strings((*names, value)))

        def write(keys: Keys, fresh: Values) -> None:
            self._write(lambda txn: body(txn, keys, fresh), fresh.values())

        self._encoded([Blob(*blob) for blob in blobs], write)


def _packed(facts: Mapping[str, Any]) -> bytes:
    from firebrick.storage.msgpack import pack  # not needed for reading

    return pack(dict(facts))


def _put_all(txn: Transaction, values: Values, needed: Sequence[bytes]) -> None:
    """Write the new blobs among the needed ones, and record the need in the journal.

    Raises:
        IncompleteBundle: Others no longer exist.
    """
    for key, value in values.items():
        txn.put("blobs", key, value)
    if missing := [key for key in needed if not txn.has("blobs", key)]:
        raise IncompleteBundle(missing)
    journal.note(txn, needed)
