"""Look for damage in a whole store."""

from collections.abc import Callable

from firebrick._reads import read_registry_entry, split_bundle
from firebrick._transaction import Transaction
from firebrick._tuples import NamedTuple
from firebrick.blob import decode_blob, decode_record
from firebrick.engine import Engine
from firebrick.errors import DamagedError, FirebrickError, UnknownKind
from firebrick.keys import recipe_key, unpack_components


class Problem(NamedTuple):
    """Name one thing that is wrong.

    `kind` is "structure" (of the LMDB file), "damaged" (bytes do not match key, header or
    checksum), "missing part" (a bundle needs a blob that is not there or damaged), "dangling
    recipe" (a recipe names a bundle that is not there or damaged) or "missing components" (of a
    recipe).
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


def check_store(engine: Engine) -> Report:
    """Look at every byte of a store; see `Store.check`."""
    problems = [Problem("structure", b"", error) for error in engine.verify()]
    if problems:  # walking such a file could kill the process
        return Report(problems, 0, 0, 0)
    with engine.begin() as txn:
        return _Checker(txn, problems).run()


class _Checker:
    def __init__(self, txn: Transaction, problems: list[Problem]) -> None:
        self._txn = txn
        self._problems = problems
        self._bytes = 0

    def run(self) -> Report:
        blobs, bundles = set[bytes](), set[bytes]()
        for key, value in self._txn.items("blobs"):
            self._bytes += len(value)
            if self._sound(key, decode_blob, key, value):
                blobs.add(key)
        for key, value in self._txn.items("bundles"):
            self._bytes += len(value)
            if self._sound(key, _check_bundle, key, value):
                bundles.add(key)
                for part in split_bundle(key, value)[1]:
                    if part not in blobs:
                        self._add("missing part", key, f"needs blob {part.hex()}")
        for recipe, value in self._txn.items("recipes"):
            if (bundle := bytes(value)) not in bundles:
                self._add("dangling recipe", recipe, f"names bundle {bundle.hex()}")
            if not self._txn.has("components", recipe):
                self._add("missing components", recipe, "a recipe has none")
        self._records()
        return Report(self._problems, self._txn.entries("blobs"), self._txn.entries("bundles"), self._bytes)

    def _records(self) -> None:
        for key, value in self._txn.items("components"):
            self._sound(key, _check_components, key, value)
        for key, value in self._txn.items("registry"):
            self._sound(key, read_registry_entry, key, value)
        for name in ("names", "clock", "leases", "meta"):
            for key, value in self._txn.items(name):
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


def _check_bundle(key: bytes, value: memoryview) -> None:
    decode_blob(key, split_bundle(key, value)[0], copy=False)


def _check_components(key: bytes, value: memoryview) -> None:
    if recipe_key(unpack_components(decode_record("components", key, value))) != key:
        raise DamagedError(key, "components lie under the key of another recipe")
