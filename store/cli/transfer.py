"""Copy bundles between stores, with the data for serving them: options, winners, Triton's modules."""

import contextlib
from collections.abc import Iterable

from firebrick.base.namedtuple import NamedTuple
from firebrick.errors import CodecError, FirebrickError, StoreDamaged
from firebrick.reports.inventory import Held
from firebrick.storage.blob import Blob
from firebrick.storage.format import KEY_BYTES, MANIFEST_VERSION, Kind
from firebrick.storage.keys import ContentKey
from firebrick.storage.msgpack import unpack
from firebrick.storage.reader import Reads
from firebrick.storage.store import Store

# Registry contexts needed for serving; others belong to processes.
SERVING = (".ambient", ".autotune", ".triton")


class Copied(NamedTuple):
    """Counts of copied bundles: new ones, and ones already present."""

    new: int
    known: int


def copy(source: Reads, target: Store, bundles: Iterable[Held]) -> Copied:
    """Copy bundles with all their parts, each completely or not at all. Every digest is compared.

    Raises:
        DamagedError, NotFoundError: of a part; earlier bundles are copied.
        StoreError: of the target.
    """
    new = known = 0
    for held in bundles:
        manifest = Blob(Kind.BUNDLE, source.bundle(held.key), MANIFEST_VERSION)
        parts = list(held.parts)
        blobs = [_blob(source, part) for part in parts]
        if target.publish(held.recipe, held.components, manifest, parts, blobs):
            new += 1
            with contextlib.suppress(FirebrickError):  # volatile
                if facts := source.facts(held.key):
                    target.note(held.key, facts)
        else:
            known += 1
    for context in SERVING:
        _copy_context(source, target, context)
    return Copied(new, known)


def _copy_context(source: Reads, target: Store, context: str) -> None:
    """Copy the values of a context that the target lacks, with the blobs they name."""
    there = target.registry(context)
    fresh = {name: value for name, value in source.registry(context).items() if name not in there}
    blobs = [blob for value in fresh.values() for blob in _named(source, value)]
    if fresh:
        target.registry_update(context, fresh, blobs=blobs)


def _named(source: Reads, value: bytes) -> list[Blob]:
    """Return the blob that a registry value names, if any, after the one that blob names in turn."""
    if len(value) != KEY_BYTES or not source.has(value):
        return []
    blob = _blob(source, ContentKey(value))
    child: list[Blob] = []
    if blob.kind is Kind.LAUNCH:
        with contextlib.suppress(CodecError, TypeError, IndexError):
            child = [_blob(source, ContentKey(unpack(blob.data)[-1][1]))]
    return [*child, blob]


def _blob(source: Reads, key: ContentKey) -> Blob:
    found = source.get(key)
    return Blob(found.kind, bytes(found.data), found.version)


def refuse_damaged(path: str, store: Store) -> None:
    """Check every byte of a store from elsewhere.

    Raises:
        StoreDamaged: naming the first fault.
    """
    for problem in store.check().problems:
        raise StoreDamaged(path, f"{problem.kind} {problem.key.hex()[:12]}: {problem.detail}")
