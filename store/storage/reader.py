"""Read a store: `Store` uses one transaction per call, `Snapshot` a single one."""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from typing import Any, ClassVar, TypeAlias

from firebrick.errors import (
    BlobMissing,
    BundleMissing,
    CodecError,
    DamagedError,
    UnknownVersion,
    UsageError,
)
from firebrick.storage import format as fmt
from firebrick.storage.blob import BlobInfo, StoredBlob, decode_blob, decode_record, parse_header
from firebrick.storage.format import HEADER, KEY_BYTES, MANIFEST_VERSION, Kind
from firebrick.storage.keys import ContentKey, Data, short_hash, unpack_components, unpack_strings
from firebrick.storage.view import ReadView

_KINDS = frozenset(int(kind) for kind in Kind)
Keys: TypeAlias = list[ContentKey]
Names: TypeAlias = list[str]
Recipes: TypeAlias = list[bytes]


class Reads(ABC):
    """All reading methods; digests and checksums are verified before anything is returned."""

    _copy: ClassVar[bool] = True  # blobs are owned bytes, not views

    @abstractmethod
    def _reading(self) -> AbstractContextManager[ReadView]:
        """Return a transaction to read in."""

    def get(self, key: bytes) -> StoredBlob:
        """Return a blob; raise BlobMissing, DamagedError or UnknownKind if that fails."""
        with self._reading() as txn:
            value = txn.get("blobs", check_key(key))
            if value is None:
                raise BlobMissing(key)
            return decode_blob(key, value, copy=self._copy)

    def has(self, key: bytes) -> bool:
        """Tell whether a blob exists, without reading it."""
        with self._reading() as txn:
            return txn.has("blobs", check_key(key))

    def list(self, kind: Kind | None = None) -> Iterator[BlobInfo]:
        """Yield the present blobs, by key, except those with a damaged or unknown header."""
        with self._reading() as txn:
            return iter([info for info in blob_infos(txn) if kind in (None, info.kind)])

    def bundles(self, recipe: bytes) -> Keys:
        """Return the bundles of a recipe, by key; an unknown recipe has none.

        Raises:
            DamagedError: It names a missing bundle; publishing one under it removes such names.
        """
        with self._reading() as txn:
            keys = txn.duplicates("recipes", check_key(recipe))
            if stray := stray_bundles(txn, keys):
                raise DamagedError(recipe, f"names bundle {stray[0].hex()}, which is not there")
            return [ContentKey(key) for key in keys]

    def bundle(self, key: bytes) -> bytes:
        """Return the manifest of a bundle; BundleMissing, DamagedError or UnknownVersion."""
        with self._reading() as txn:
            blob = decode_blob(key, split_bundle(key, _bundle(txn, key))[0])
            if blob.version > MANIFEST_VERSION:
                raise UnknownVersion(Kind.BUNDLE, blob.version)
            return bytes(blob.data)

    def parts(self, key: bytes) -> Keys:
        """Return the blobs a bundle needs, by key; BundleMissing or DamagedError."""
        with self._reading() as txn:
            manifest, parts = split_bundle(key, _bundle(txn, key))
            decode_blob(key, manifest, copy=False)  # its length determines where the list begins
            if not check_parts(txn, key, parts):  # from an earlier version
                for part in parts:
                    if not txn.has("blobs", part):
                        raise DamagedError(key, f"needs blob {part.hex()}, which is not there")
            return parts

    def recipes(self) -> Iterator[bytes]:
        """Yield the keys of all present recipes, in order, except those without components."""
        with self._reading() as txn:
            keys = dict.fromkeys(key for key, _ in txn.items("recipes"))
            return iter([key for key in keys if txn.has("components", key)])

    def components(self, recipe: bytes) -> dict[str, str] | None:
        """Return the components of a recipe, None if it is unknown; DamagedError."""
        with self._reading() as txn:
            body = txn.record("components", check_key(recipe))
        return None if body is None else unpack_components(body)

    def recipes_of(self, module: str, name: str, *, limit: int | None = None) -> Recipes:
        """Return the indexed recipes of a function, by key, at most `limit`.

        Args:
            module: Component ``function.module`` of the recipes.
            name: Component ``function.name``.
            limit: The most to look at.
        """
        prefix = function_prefix(module, name)
        with self._reading() as txn:
            found = (key[len(prefix) :] for key, _ in txn.items("names", prefix=prefix))
            return [*itertools.islice(found, limit)]

    @property
    def indexed(self) -> bool:
        """Whether every recipe is in both indexes; false in stores that predate them."""
        with self._reading() as txn:
            return is_indexed(txn)

    def facts(self, key: bytes) -> dict[str, Any]:
        """Return the facts noted for a bundle, empty for none; DamagedError."""
        with self._reading() as txn:
            body = txn.record("clock", fmt.CLOCK_NOTE + check_key(key))
        if body is None:
            return {}
        from firebrick.storage.msgpack import unpack  # the package loads every codec

        facts = unpack(body)
        if not isinstance(facts, dict):
            raise DamagedError(key, "its facts are no map")
        return facts

    def last_use(self, key: bytes) -> int | None:
        """Return an entry's last use in seconds since 1970, None for none; DamagedError."""
        with self._reading() as txn:
            body = txn.record("clock", fmt.CLOCK_USE + check_key(key))
        return None if body is None else int.from_bytes(body, "little")

    def pins(self) -> Keys:
        """Return the pinned bundles, by key."""
        with self._reading() as txn:
            found = txn.items("meta", prefix=fmt.META_PIN)
            return [ContentKey(key[len(fmt.META_PIN) :]) for key, _ in found]

    def registry(self, context: str) -> dict[tuple[str, str], bytes]:
        """Return all values of a context, (section, name) to value, sorted; may be empty; DamagedError."""
        with self._reading() as txn:
            entries = txn.items("registry", prefix=context_prefix(context))
            found = [read_registry_entry(key, value) for key, value in entries]
        return {(section, name): value for _, section, name, value in sorted(found)}

    def registry_get(self, context: str, section: str, name: str) -> bytes | None:
        """Return one value of a context, None if it is missing; DamagedError."""
        with self._reading() as txn:
            return registry_value(txn, context, section, name)

    def contexts(self) -> Names:
        """Return the names of all non-empty contexts, sorted; DamagedError."""
        names, start = [], b""
        with self._reading() as txn:
            while entry := next(txn.items("registry", start), None):
                names.append(read_registry_entry(*entry)[0])
                start = entry[0][:16] + b"\xff" * 17
        return sorted(names)


def is_indexed(txn: ReadView) -> bool:
    """Tell whether `names` has a check for every bundle, and each recipe by function and by bundle."""
    wanted = sum(map(txn.entries, ("components", "bundles", "recipes")))
    return txn.entries("names") >= wanted


def check_key(key: bytes) -> bytes:
    """Raise UsageError unless this is a key of 32 bytes."""
    if not isinstance(key, bytes) or len(key) != KEY_BYTES:
        raise UsageError(f"a key is {KEY_BYTES} bytes, not {key!r}")
    return key


def blob_infos(txn: ReadView) -> Iterator[BlobInfo]:
    """Yield the headers of all blobs, except damaged or unknown ones."""
    for key, value in txn.items("blobs"):
        try:
            header = parse_header(key, value)
        except DamagedError:
            continue
        if header.kind in _KINDS:
            kind = Kind(header.kind)
            yield BlobInfo(ContentKey(key), kind, header.version, header.stored, header.raw)


def split_bundle(key: bytes, value: Data) -> tuple[Data, Keys]:
    """Split the value of a bundle into its manifest's value and the keys of its parts."""
    end = HEADER.size + parse_header(key, value).stored
    parts = bytes(value[end:])
    if len(parts) % KEY_BYTES:
        raise DamagedError(key, f"its list of parts has {len(parts)} bytes")
    keys = [ContentKey(parts[at : at + KEY_BYTES]) for at in range(0, len(parts), KEY_BYTES)]
    return value[:end], keys


def parts_check(parts: Iterable[bytes]) -> bytes:
    """Return the check of a bundle's list of parts; it detects damage, not forgery."""
    return short_hash("parts", *parts)


def check_parts(txn: ReadView, key: bytes, parts: Keys) -> bool:
    """Compare a bundle's list of parts with its check.

    Returns:
        False if there is no check because an earlier version published the bundle.

    Raises:
        DamagedError: The list does not match, or the check is damaged.
    """
    check = txn.record("names", fmt.NAME_PARTS + key)
    if check is not None and check != parts_check(parts):
        raise DamagedError(key, "its list of parts is not the one that was published")
    return check is not None


def stray_bundles(txn: ReadView, keys: Iterable[bytes]) -> list[bytes]:
    """Return the missing bundles of a recipe."""
    return [key for key in keys if not txn.has("bundles", key)]


def _bundle(txn: ReadView, key: bytes) -> memoryview:
    value = txn.get("bundles", check_key(key))
    if value is None:
        raise BundleMissing(key)
    return value


def context_prefix(context: str) -> bytes:
    """Return the prefix of a context's registry keys."""
    return short_hash("context", context.encode())


def function_prefix(module: str, name: str) -> bytes:
    """Return the prefix of a function's keys in `names`."""
    return fmt.NAMES_FUNCTION + short_hash("function", module.encode(), name.encode())


def registry_key(context: str, section: str, name: str) -> bytes:
    """Return the key of a registry entry; names may be of any length, LMDB's keys may not."""
    return context_prefix(context) + short_hash("name", section.encode(), name.encode())


def registry_value(txn: ReadView, context: str, section: str, name: str) -> bytes | None:
    """Return one value of a context, None if it is missing; DamagedError."""
    key = registry_key(context, section, name)
    value = txn.get("registry", key)
    return None if value is None else read_registry_entry(key, value)[3]


def read_registry_entry(key: bytes, value: Data) -> tuple[str, str, str, bytes]:
    """Check a registry record and split it into context, section, name and value; DamagedError."""
    try:
        context, section, name, data = unpack_strings(decode_record("registry", key, value))
        entry = context.decode(), section.decode(), name.decode(), data
    except (CodecError, ValueError) as error:
        raise DamagedError(key, f"registry entry: {error}") from None
    if registry_key(*entry[:3]) != key:
        raise DamagedError(key, "a registry entry lies under another name")
    return entry
