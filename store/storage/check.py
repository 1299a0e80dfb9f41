"""Check a whole store for damage."""

import time
from collections.abc import Callable, Iterator

from firebrick.base.namedtuple import NamedTuple
from firebrick.errors import DamagedError, FirebrickError, UnknownKind, UsageError
from firebrick.storage.blob import decode_blob, decode_record
from firebrick.storage.format import DATABASES, MANIFEST_VERSION
from firebrick.storage.keys import recipe_key, unpack_components
from firebrick.storage.manifest import unpack_manifest
from firebrick.storage.reader import check_parts, read_registry_entry, split_bundle
from firebrick.storage.view import ReadView, Source

_MOST_DAMAGED = 1000  # blobs that a token carries


class Problem(NamedTuple):
    """One fault of a store.

    `kind` is "structure" (of the LMDB file: no new entry repairs that), "damaged" (bytes do not match key,
    header or checksum, or are not a manifest), "missing part" (a bundle needs a blob that is missing or
    damaged), "dangling recipe" (a recipe names a bundle that is missing or damaged) or "missing components"
    (of a recipe). `database` is where the key is.
    """

    kind: str
    key: bytes
    detail: str
    database: str = ""


class Report(NamedTuple):
    """The result of `check`.

    `blobs`, `bundles` and `bytes`, of both with their headers, count the entries checked. The next call
    continues from `token`, which is empty when everything is checked.
    """

    problems: list[Problem]
    blobs: int
    bundles: int
    bytes: int
    token: str = ""

    @property
    def clean(self) -> bool:
        """Tell whether there are no problems."""
        return not self.problems


class Stat(NamedTuple):
    """Counts of a store's contents; sizes in bytes."""

    path: str
    blobs: int
    bundles: int
    recipes: int
    registry: int
    bytes_on_disk: int  # both files, as allocated
    bytes_stored: int  # bodies of the blobs
    bytes_raw: int  # and before compression
    map_size: int


def check_store(source: Source, seconds: float | None = None, token: str = "") -> Report:
    """Check every byte of a store; see `Store.check`."""
    place = _read_token(token)
    problems = [] if token else [Problem("structure", b"", error) for error in source.verify()]
    if problems:  # walking such a file could kill the process
        return Report(problems, 0, 0, 0)
    with source.begin() as txn:
        return _Checker(txn, *place).run(None if seconds is None else time.monotonic() + seconds)


def _read_token(token: str) -> tuple[str, bytes, set[bytes]]:
    database, *keys = token.split() or [next(iter(DATABASES))]
    try:
        after, *damaged = [bytes.fromhex(key) for key in keys] or [b""]
    except ValueError:
        database = ""
    if database not in DATABASES:
        raise UsageError(f"not a token of a check: {token!r}")
    return database, after, {*damaged}


class _Checker:
    """Check databases in order: blobs, then bundles, which need them, then the entries that name these."""

    def __init__(self, txn: ReadView, database: str, after: bytes, damaged: set[bytes]) -> None:
        self._txn = txn
        self._database = database
        self._after = after
        self._damaged = damaged  # blobs
        self._problems: list[Problem] = []
        self._counts = {"blobs": 0, "bundles": 0}
        self._bytes = 0

    def run(self, deadline: float | None) -> Report:
        names = list(DATABASES)
        for name in names[names.index(self._database) :]:
            self._database = name
            for key, value in self._walk():
                self._look(key, value)
                if deadline is not None and time.monotonic() > deadline:
                    return self._report(self._token(key))
            self._after = b""
        return self._report("")

    def _report(self, token: str) -> Report:
        return Report(self._problems, self._counts["blobs"], self._counts["bundles"], self._bytes, token)

    def _token(self, key: bytes) -> str:
        damaged = sorted(self._damaged)[:_MOST_DAMAGED]
        return " ".join((self._database, key.hex(), *(key.hex() for key in damaged)))

    def _look(self, key: bytes, value: memoryview) -> None:
        if self._database in self._counts:
            self._counts[self._database] += 1
            self._bytes += len(value)
        match self._database:
            case "blobs":
                if not self._sound(key, decode_blob, key, value):
                    self._damaged.add(key)
            case "bundles":
                if self._sound(key, check_bundle, self._txn, key, value):
                    for part in split_bundle(key, value)[1]:
                        if part in self._damaged or not self._txn.has("blobs", part):
                            self._add("missing part", key, f"needs blob {part.hex()}")
            case "recipes":
                self._look_at_recipe(key, bytes(value))
            case "components":
                self._sound(key, check_components, key, value)
            case "registry":
                self._sound(key, read_registry_entry, key, value)
            case other:
                self._sound(key, decode_record, other, key, value)

    def _look_at_recipe(self, recipe: bytes, bundle: bytes) -> None:
        value = self._txn.get("bundles", bundle)
        if value is None or not is_sound(check_bundle, self._txn, bundle, value):
            self._add("dangling recipe", recipe, f"names bundle {bundle.hex()}")
        if not self._txn.has("components", recipe):
            self._add("missing components", recipe, "a recipe has none")

    def _walk(self) -> Iterator[tuple[bytes, memoryview]]:
        """Walk a database, and report entries that a look-up by key does not find, or the walk does not meet.

        LMDB follows its branch pages in a look-up but not in a walk, and they have no digest.
        """
        database, start = self._database, self._after
        count, last = 0, b""
        for key, value in self._txn.items(database, start and start + b"\0"):
            count += 1
            duplicate = bytes(value) if DATABASES[database] else None
            place = key + (duplicate or b"")  # keys with duplicates have equal lengths
            if place <= last:
                self._add("structure", key, f"out of order in {database}")
            if not self._txn.has(database, key, duplicate):
                self._add("structure", key, f"in {database}, but a look-up does not find it")
            last = place
            yield key, value
        if not start and count != (entries := self._txn.entries(database)):
            self._add("structure", b"", f"{database} has {count} entries, but counts {entries}")

    def _sound(self, key: bytes, look: Callable[..., object], *args: object) -> bool:
        try:
            look(*args)
        except UnknownKind:
            return True  # written by a later version, but intact
        except FirebrickError as error:
            self._add("damaged", key, str(error))
            return False
        return True

    def _add(self, kind: str, key: bytes, detail: str) -> None:
        self._problems.append(Problem(kind, key, detail, self._database))


def is_sound(look: Callable[..., object], *args: object) -> bool:
    """Tell whether a look at something finds no damage."""
    try:
        look(*args)
    except UnknownKind:
        return True
    except FirebrickError:
        return False
    return True


def check_bundle(txn: ReadView, key: bytes, value: memoryview) -> None:
    """Look at a bundle's manifest, its schema, and its list of parts; DamagedError or DecodeError."""
    manifest, parts = split_bundle(key, value)
    blob = decode_blob(key, manifest, copy=False)
    if blob.version == MANIFEST_VERSION:  # otherwise intact, but written by another version
        unpack_manifest(blob.data)
    check_parts(txn, key, parts)


def check_components(key: bytes, value: memoryview) -> None:
    """Look at the components of a recipe; DamagedError or DecodeError."""
    if recipe_key(unpack_components(decode_record("components", key, value))) != key:
        raise DamagedError(key, "components lie under the key of another recipe")
