"""A pending registry transaction: values become blobs, registry values and expectations."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Any

from firebrick.codecs.abc import Sink, Stored
from firebrick.codecs.backend import BackendCodec, decode_backend, encode_backend
from firebrick.codecs.dynamo import DynamoCodec
from firebrick.codecs.graph import PLAIN, decode_graph, encode_graph
from firebrick.context.canonical import canonical_names, file_names, restore_files
from firebrick.context.revision import (
    BACKEND,
    DYNAMO,
    KINDS,
    Name,
    Record,
    RevisionFacts,
    pack_revision,
    past,
    past_name,
)
from firebrick.errors import DecodeError, EncodeError, LimitExceeded, UsageError
from firebrick.storage.compression import compress, content_size, decompress
from firebrick.storage.format import MAX_RECORD_BYTES, Kind
from firebrick.storage.keys import ContentKey, content_key
from firebrick.storage.store import Blob
from firebrick.torch_api import registry

if TYPE_CHECKING:
    from firebrick.storage.store import Store

# Volatile values are plain data, in one piece.
_VOLATILE = dataclasses.replace(PLAIN, leaf_bytes=MAX_RECORD_BYTES)


class Plan:
    """A collection of changes to names; nothing is written until `commit`. Not thread-safe.

    Args:
        read: returns the registry value of a name, ``None`` for none; the commit expects it to be unchanged.
        order: index of the next new name.
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
        self.parts: dict[Name, tuple[ContentKey, tuple[ContentKey, ...]]] = {}
        self.changes: dict[Name, bytes | None] = {}
        self.expect: dict[Name, bytes | None] = {}

    def put(self, name: Name, value: Any) -> None:
        """Give a name a content; a content it had before makes that revision current again.

        Backends must be put before the entries that name them.

        Raises:
            CodecError: the value cannot be encoded; then the plan must not be committed.
            UsageError: the artifact's key differs from the name.
        """
        if name.section == BACKEND and getattr(value, "key", name.name) != name.name:
            raise UsageError(f"an artifact with the key {value.key!r} cannot be {name.name!r}")
        old = self._touch(name)
        kind = KINDS[name.section]
        blobs: list[Blob] = []

        def sink(kind: Kind, data: bytes, version: int) -> ContentKey:
            blobs.append(Blob(kind, data, version))
            return content_key(kind, data, version)

        body, beside = _encode(name, value, sink, self._content)
        content = content_key(kind, body, beside.version)
        self.parts[name] = content, tuple(blob.key for blob in blobs)
        blobs.append(Blob(kind, body, beside.version))
        if old is None:
            new = self._revise(name, None, content, beside)
        elif old.content == content:
            beside = dataclasses.replace(beside, when=old.beside.when)
            new = dataclasses.replace(old, beside=beside)
        elif known := next((r for r, c in old.log if c == content), None):
            beside = dataclasses.replace(beside, when=past(name, known, self._planned).when)
            new = self._make_current(name, old, known, content, beside)
        else:
            new = self._revise(name, old, content, beside)
        if new != old or name in self._suspects:
            self.blobs += blobs
            self.changes[name] = new.pack()

    def delete(self, name: Name) -> None:
        """Remove a name and its history; do nothing if it does not exist."""
        if old := self._touch(name):
            self.changes[name] = None
            self.changes |= {past_name(name, r): None for r, _ in old.log if r != old.revision}

    def erase(self, name: Name) -> None:
        """Remove a registry value, whatever it is; its history must be erased too."""
        self.expect[name] = self._read(name)
        self.changes[name] = None

    def revert(self, name: Name, to: ContentKey) -> None:
        """Make an earlier revision of a name current.

        Raises:
            UsageError: the name does not exist, or never had this revision.
        """
        old = self._touch(name)
        content = dict(old.log).get(to) if old else None
        if old is None or content is None:
            raise UsageError(f"{name.name} never had the revision {to.hex()}")
        if to != old.revision:
            new = self._make_current(name, old, to, content, past(name, to, self._planned))
            self.changes[name] = new.pack()

    def commit(self, store: Store, context: str, *, always: bool = False) -> None:
        """Write everything in one transaction.

        Args:
            store: the destination.
            context: name of the context.
            always: compare the touched names even if nothing changed.

        Raises:
            EditConflict: naming the names that changed since they were read; nothing is written.
            StoreError: the store cannot write.
        """
        if self.changes or always:
            changes = {(name.section, name.name): value for name, value in self.changes.items()}
            expect = {(name.section, name.name): value for name, value in self.expect.items()}
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

    def _revise(self, name: Name, old: Record | None, content: ContentKey, beside: RevisionFacts) -> Record:
        data = pack_revision(name.section, content, None if old is None else old.revision)
        blob = Blob(Kind.REVISION, data)
        self.blobs.append(blob)
        if old is None:
            self.order += 1
            pair = (blob.key, content)
            return Record(self.order - 1, blob.key, content, beside, (pair,))
        new = self._make_current(name, old, blob.key, content, beside)
        return dataclasses.replace(new, log=(*old.log, (blob.key, content)))

    def _make_current(
        self, name: Name, old: Record, revision: ContentKey, content: ContentKey, beside: RevisionFacts
    ) -> Record:
        self.changes[past_name(name, old.revision)] = old.beside.pack()
        if revision in dict(old.log):
            self.changes[past_name(name, revision)] = None
        return dataclasses.replace(old, revision=revision, content=content, beside=beside)


def read_value(store: Store, name: Name, data: bytes) -> Any:
    """Return the decoded value that a registry value points to.

    Returns:
        A fresh artifact or entry that nobody else holds.

    Raises:
        NotFoundError: the blob is gone.
        DamagedError: its bytes do not match its key.
        CodecError: it cannot be decoded.
    """
    record = Record.unpack(data)
    blob = store.get(record.content)
    if blob.kind != KINDS[name.section]:
        raise DecodeError(f"{name.name} points to a blob of kind {blob.kind}")
    registry.artifact_module()  # decoding consults imported modules only
    with registry.no_dispatch():
        volatile = _unpack_volatile(record.beside.volatile)
        if name.section == DYNAMO:
            names = record.beside.names
            entry = DynamoCodec().decode(blob.data, store.get, blob.version, names)
            if volatile:
                restore_files(entry, volatile)
            return entry
        BackendCodec().check_version(blob.version)
        return decode_backend(blob.data, store.get, key=name.name, volatile=volatile)


def _encode(
    name: Name, value: Any, sink: Sink, content_of: Callable[[str], ContentKey | None]
) -> tuple[bytes, RevisionFacts]:
    names: dict[str, str] = {}
    with registry.no_dispatch():
        if name.section == BACKEND:
            version = BackendCodec.version
            body, aside = encode_backend(value, sink)
        elif not isinstance(value, registry.entry_class()):
            raise EncodeError(type(value).__name__, reason="not a Dynamo entry")
        else:
            version = DynamoCodec.version
            names = canonical_names(value, content_of)
            body, aside = DynamoCodec().encode(value, sink, names), file_names(value)
    originals = {canonical: generated for generated, canonical in names.items()}
    return body, RevisionFacts(version, time.time_ns() // 1_000_000, originals, _pack_volatile(aside))


def _pack_volatile(values: list[Any]) -> bytes:
    if not values:
        return b""
    return compress(encode_graph(values, _VOLATILE, _no_sink)[0], 3)


def _no_sink(kind: Kind, data: bytes, version: int) -> ContentKey:
    raise EncodeError(kind.name, "a volatile value", "it cannot be a blob of its own")


def _unpack_volatile(data: bytes) -> list[Any] | None:
    if not data:
        return None
    try:
        size = content_size(data)
        if not 0 <= size <= MAX_RECORD_BYTES:
            raise LimitExceeded("length of the volatile values", size, MAX_RECORD_BYTES)
        packed = decompress(data, size)
    except DecodeError as error:
        raise DecodeError(f"volatile values: {error.reason}") from error
    values = decode_graph(packed, _VOLATILE, _no_source)
    if not isinstance(values, list):
        raise DecodeError("volatile values: a list expected")
    return values


def _no_source(key: ContentKey) -> Stored:
    raise DecodeError("volatile values have no blobs of their own")
