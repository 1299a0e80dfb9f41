"""One registry transaction in the making: values become blobs, registry values and expectations."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Any

import zstandard

from firebrick._names import canonical_names
from firebrick._revision import (
    BACKEND,
    DYNAMO,
    KINDS,
    Beside,
    Name,
    Record,
    pack_revision,
    past,
    past_name,
)
from firebrick.codecs import backend, dynamo
from firebrick.codecs._msgpack import pack, unpack
from firebrick.errors import DecodeError, LimitExceeded, UsageError
from firebrick.format import MAX_RECORD_BYTES, Kind
from firebrick.keys import ContentKey, content_key
from firebrick.store import Blob
from firebrick.torch_api import registry

if TYPE_CHECKING:
    from firebrick.store import Store


class Plan:
    """Collect changes of names; nothing is written until `commit`. Not thread-safe.

    Args:
        read: the registry value of a name, ``None`` for none; what it returns is expected to be
            there still when the plan is committed.
        order: place of the next new name.
        suspects: names whose stored bytes are doubtful: they are written even if nothing changed.
    """

    def __init__(
        self,
        read: Callable[[Name], bytes | None],
        order: int,
        suspects: Collection[Name] = (),
    ) -> None:
        self._read = read
        self._suspects = suspects
        self.order = order
        self.blobs: list[Blob] = []
        self.changes: dict[Name, bytes | None] = {}
        self.expect: dict[Name, bytes | None] = {}

    def put(self, name: Name, value: Any) -> None:
        """Give a name a content; a content that it had before makes that revision current again.

        Backends must be put before the entries that name them.

        Raises:
            CodecError: for a value that can not be encoded; the plan must not be committed then.
            UsageError: for an artifact with another key than its name.
        """
        if name.section == BACKEND and getattr(value, "key", name.name) != name.name:
            raise UsageError(f"an artifact with the key {value.key!r} can not be {name.name!r}")
        old = self._touch(name)
        kind = KINDS[name.section]
        blobs: list[Blob] = []

        def sink(kind: Kind, data: bytes, version: int) -> ContentKey:
            blobs.append(Blob(kind, data, version))
            return content_key(kind, data, version)

        names: dict[str, str] = {}
        volatile: list[Any] = []
        with registry.no_dispatch():
            if name.section == BACKEND:
                version = backend.BackendCodec.version
                body, volatile = backend.encode_backend(value, sink)
            else:
                version = dynamo.DynamoCodec.version
                names = canonical_names(value, self._content)
                body = dynamo.encode_dynamo(value, sink, names)
        content = content_key(kind, body, version)
        blobs.append(Blob(kind, body, version))
        beside = Beside(
            version=version,
            when=time.time_ns() // 1_000_000,
            names={canonical: generated for generated, canonical in names.items()},
            volatile=zstandard.compress(pack(volatile), 3) if volatile else b"",
        )
        if old is None:
            new = self._revise(name, None, content, beside)
        elif old.content == content:
            beside = dataclasses.replace(beside, when=old.beside.when)
            new = dataclasses.replace(old, beside=beside)
        elif known := next((r for r, c in old.log if c == content), None):
            beside = dataclasses.replace(beside, when=past(name, known, self._planned).when)
            new = self._point(name, old, known, content, beside)
        else:
            new = self._revise(name, old, content, beside)
        if new != old or name in self._suspects:
            self.blobs += blobs
            self.changes[name] = new.pack()

    def delete(self, name: Name) -> None:
        """Take a name away, with its history; nothing happens if it is not there."""
        if old := self._touch(name):
            self.changes[name] = None
            self.changes |= {past_name(name, r): None for r, _ in old.log if r != old.revision}

    def erase(self, name: Name) -> None:
        """Take a registry value away, whatever it is; its history must be erased with it."""
        self.expect[name] = self._read(name)
        self.changes[name] = None

    def revert(self, name: Name, to: ContentKey) -> None:
        """Make an earlier revision of a name current.

        Raises:
            UsageError: for a name that is not there, or a revision that it never had.
        """
        old = self._touch(name)
        content = dict(old.log).get(to) if old else None
        if old is None or content is None:
            raise UsageError(f"{name.name} never had the revision {to.hex()}")
        if to != old.revision:
            new = self._point(name, old, to, content, past(name, to, self._planned))
            self.changes[name] = new.pack()

    def commit(self, store: Store, context: str, *, always: bool = False) -> None:
        """Write everything in one transaction.

        Args:
            store: where to.
            context: name of the context.
            always: compare the names that were touched even if nothing changed.

        Raises:
            EditConflict: naming the names that are not as they were read; nothing is written.
            StoreError: where the store can not write.
        """
        if self.changes or always:
            changes = {tuple(name): value for name, value in self.changes.items()}
            expect = {tuple(name): value for name, value in self.expect.items()}
            store.registry_update(context, changes, blobs=self.blobs, expect=expect)

    def _touch(self, name: Name) -> Record | None:
        if name not in self.expect:
            self.expect[name] = self._read(name)
        data = self._planned(name)
        return None if data is None else Record.unpack(data)

    def _content(self, key: str) -> ContentKey | None:
        name = Name(BACKEND, key)
        data = self._planned(name)
        return None if data is None else Record.unpack(data).content

    def _planned(self, name: Name) -> bytes | None:
        return self.changes[name] if name in self.changes else self._read(name)

    def _revise(
        self, name: Name, old: Record | None, content: ContentKey, beside: Beside
    ) -> Record:
        data = pack_revision(name.section, content, old and old.revision)
        blob = Blob(Kind.REVISION, data)
        self.blobs.append(blob)
        if old is None:
            self.order += 1
            pair = (blob.key, content)
            return Record(self.order - 1, blob.key, content, beside, (pair,))
        new = self._point(name, old, blob.key, content, beside)
        return dataclasses.replace(new, log=(*old.log, (blob.key, content)))

    def _point(
        self, name: Name, old: Record, revision: ContentKey, content: ContentKey, beside: Beside
    ) -> Record:
        self.changes[past_name(name, old.revision)] = old.beside.pack()
        if revision in dict(old.log):
            self.changes[past_name(name, revision)] = None
        return dataclasses.replace(old, revision=revision, content=content, beside=beside)


def read_value(store: Store, name: Name, data: bytes) -> Any:
    """Decode what a registry value points to.

    Returns:
        A fresh artifact or entry that nobody else holds.

    Raises:
        NotFoundError: for a blob that is gone.
        DamagedError: for one whose bytes do not match its key.
        CodecError: for one that can not be decoded.
    """
    record = Record.unpack(data)
    blob = store.get(record.content)
    if blob.kind != KINDS[name.section]:
        raise DecodeError(f"{name.name} points to a blob of kind {blob.kind}")
    with registry.no_dispatch():
        if name.section == DYNAMO:
            return dynamo.decode_dynamo(blob.data, store.get, record.beside.names)
        volatile = _unpack_volatile(record.beside.volatile)
        return backend.decode_backend(blob.data, store.get, key=name.name, volatile=volatile)


def _unpack_volatile(data: bytes) -> list[Any]:
    if not data:
        return []
    try:
        size = zstandard.frame_content_size(data)
        if not 0 <= size <= MAX_RECORD_BYTES:
            raise LimitExceeded("length of the volatile values", size, MAX_RECORD_BYTES)
        values = unpack(zstandard.decompress(data, max_output_size=size))
    except zstandard.ZstdError as error:
        raise DecodeError(f"volatile values: {error}") from error
    if not isinstance(values, list):
        raise DecodeError("volatile values: a list expected")
    return values
