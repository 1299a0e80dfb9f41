"""Look for damage in a whole store."""

from collections.abc import Callable, Iterator

from firebrick.base.namedtuple import NamedTuple
from firebrick.errors import DamagedError, FirebrickError, UnknownKind
from firebrick.storage.blob import decode_blob, decode_record
from firebrick.storage.format import DATABASES, MANIFEST_VERSION
from firebrick.storage.keys import recipe_key, unpack_components
from firebrick.storage.manifest import unpack_manifest
from firebrick.storage.reader import check_parts, read_registry_entry, split_bundle
from firebrick.storage.view import ReadView, Source


class Problem(NamedTuple):
    """Name one thing that is wrong.

    `kind` is "structure" (of the LMDB file: no new entry mends that), "damaged" (bytes do not match
    key, header or checksum, or are no manifest), "missing part" (a bundle needs a blob that is not there or
    damaged), "dangling recipe" (a recipe names a bundle that is not there or damaged) or "missing
    components" (of a recipe).
    """

    kind: str
    key: bytes
    detail: str


class Report(NamedTuple):
    """Hold what `check` found; `bytes` is the size of all blobs and bundles with their headers."""

    problems: list[Problem]
    blobs: int
    bundles: int
    bytes: int

    @property
    def clean(self) -> bool:
        """Tell whether nothing is wrong."""
        return not self.problems


class Stat(NamedTuple):
    """Count what a store holds; sizes in bytes."""

    path: str
    blobs: int
    bundles: int
    recipes: int
    registry: int
    bytes_on_disk: int  # both files, as allocated
    bytes_stored: int  # bodies of the blobs
    bytes_raw: int  # and before compression
    map_size: int


def check_store(source: Source) -> Report:
    """Look at every byte of a store; see `Store.check`."""
    problems = [Problem("structure", b"", error) for error in source.verify()]
    if problems:  # walking such a file could kill the process
        return Report(problems, 0, 0, 0)
    with source.begin() as txn:
        return _Checker(txn, problems).run()


class _Checker:
    def __init__(self, txn: ReadView, problems: list[Problem]) -> None:
        self._txn = txn
        self._problems = problems
        self._bytes = 0

    def run(self) -> Report:
        blobs, bundles = set[bytes](), set[bytes]()
        for key, value in self._walk("blobs"):
            self._bytes += len(value)
            if self._sound(key, decode_blob, key, value):
                blobs.add(key)
        for key, value in self._walk("bundles"):
            self._bytes += len(value)
            if self._sound(key, _check_bundle, self._txn, key, value):
                bundles.add(key)
                for part in split_bundle(key, value)[1]:
                    if part not in blobs:
                        self._add("missing part", key, f"needs blob {part.hex()}")
        for recipe, value in self._walk("recipes"):
            if (bundle := bytes(value)) not in bundles:
                self._add("dangling recipe", recipe, f"names bundle {bundle.hex()}")
            if not self._txn.has("components", recipe):
                self._add("missing components", recipe, "a recipe has none")
        self._records()
        return Report(self._problems, self._txn.entries("blobs"), self._txn.entries("bundles"), self._bytes)

    def _walk(self, database: str) -> Iterator[tuple[bytes, memoryview]]:
        """Walk a database, and report what a look-up by key does not find, or the walk does not meet.

        LMDB follows its branch pages in a look-up but not in a walk, and they have no digest.
        """
        count, last = 0, b""
        for key, value in self._txn.items(database):
            count += 1
            duplicate = bytes(value) if DATABASES[database] else None
            place = key + (duplicate or b"")  # keys that have duplicates are all as long
            if place <= last:
                self._add("structure", key, f"out of order in {database}")
            if not self._txn.has(database, key, duplicate):
                self._add("structure", key, f"in {database}, but a look-up does not find it")
            last = place
            yield key, value
        if count != (entries := self._txn.entries(database)):
            self._add("structure", b"", f"{database} has {count} entries, but counts {entries}")

    def _records(self) -> None:
        for key, value in self._walk("components"):
            self._sound(key, _check_components, key, value)
        for key, value in self._walk("registry"):
            self._sound(key, read_registry_entry, key, value)
        for name in ("names", "clock", "leases", "meta"):
            for key, value in self._walk(name):
                self._sound(key, decode_record, name, key, value)

    def _sound(self, key: bytes, look: Callable[..., object], *args: object) -> bool:
        try:
            look(*args)
        except UnknownKind:
            return True  # written by a later version, and intact
        except FirebrickError as error:
            self._add("damaged", key, str(error))
            return False
        return True

    def _add(self, kind: str, key: bytes, detail: str) -> None:
        self._problems.append(Problem(kind, key, detail))


def _check_bundle(txn: ReadView, key: bytes, value: memoryview) -> None:
    manifest, parts = split_bundle(key, value)
    blob = decode_blob(key, manifest, copy=False)
    if blob.version == MANIFEST_VERSION:  # else intact, and written by another version
        unpack_manifest(blob.data)
    check_parts(txn, key, parts)


def _check_components(key: bytes, value: memoryview) -> None:
    if recipe_key(unpack_components(decode_record("components", key, value))) != key:
        raise DamagedError(key, "components lie under the key of another recipe")
