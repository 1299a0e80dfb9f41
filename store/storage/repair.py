"""Drop exactly the broken entries of a store, with those that depend on them.

A damaged blob is dropped with the bundles and registry values that need it, a damaged bundle with its names
in recipes, a recipe without its components with the bundles that no other one names. Entries that can be
rebuilt from their keys are. Each problem is rechecked in the transaction that repairs it, so entries healed
meanwhile stay. Dropped functions are compiled and stored again.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from firebrick.base.namedtuple import NamedTuple
from firebrick.errors import StoreDamaged
from firebrick.storage import deletion
from firebrick.storage import format as fmt
from firebrick.storage.blob import decode_blob, decode_record
from firebrick.storage.check import Problem, check_bundle, check_components, is_sound
from firebrick.storage.collector import drop_blob, registry_names
from firebrick.storage.environment import Engine
from firebrick.storage.reader import read_registry_entry, split_bundle
from firebrick.storage.slices import walk, write_all
from firebrick.storage.transaction import Transaction

_RECORDS: Final = ("registry", "names", "clock", "leases", "meta")
_DERIVED: Final = (fmt.NAMES_FUNCTION, fmt.NAMES_RECIPE, fmt.META_PIN[:1])  # nothing but their keys


class Repaired(NamedTuple):
    """Counts of entries a repair dropped; `entries` are records, and names in recipes."""

    blobs: int = 0
    bundles: int = 0
    entries: int = 0


def repair(engine: Engine, problems: Iterable[Problem]) -> Repaired:
    """Drop the entries that problems name; see `Store.repair`."""
    found = [*problems]
    if structure := [problem.detail for problem in found if problem.kind == "structure"]:
        raise StoreDamaged(engine.path, structure[0])
    at: dict[str, list[bytes]] = {name: [] for name in (*fmt.DATABASES, "")}
    for problem in found:
        at[problem.database].append(problem.key)
    checks = [key[1:] for key in at["names"] if key[:1] == fmt.NAME_PARTS]
    bundles, values = _users(engine, at["blobs"])
    bundles.update(at["bundles"], checks)
    records = [(name, key) for name in _RECORDS for key in at[name]]

    blobs, _ = write_all(engine, at["blobs"], lambda txn: lambda key: _drop_damaged_blob(txn, key))
    dropped, _ = write_all(engine, sorted(bundles), lambda txn: lambda key: _drop_broken_bundle(txn, key))
    recipes = sorted({*at["recipes"], *at["components"]})
    entries = write_all(engine, recipes, lambda txn: lambda key: _mend_recipe(txn, key))[0]
    entries += write_all(engine, records, lambda txn: lambda record: _mend_record(txn, *record))[0]
    entries += write_all(engine, values, lambda txn: lambda key: _drop_value(txn, key, at["blobs"]))[0]
    return Repaired(blobs, dropped, entries)


def _drop_damaged_blob(txn: Transaction, key: bytes) -> int:
    value = txn.get("blobs", key)
    return 0 if value is None or is_sound(decode_blob, key, value) else drop_blob(txn, key)


def _users(engine: Engine, blobs: Sequence[bytes]) -> tuple[set[bytes], list[bytes]]:
    """Return the keys of bundles, and of registry values, that need these blobs."""
    if not blobs:
        return set(), []
    gone = dict.fromkeys(blobs, 1)
    bundles = {
        key
        for _, key, value in walk(engine, "bundles")
        if is_sound(split_bundle, key, value) and not gone.keys().isdisjoint(split_bundle(key, value)[1])
    }
    values = [key for _, key, value in walk(engine, "registry") if any(registry_names(key, value, gone))]
    return bundles, values


def _drop_broken_bundle(txn: Transaction, key: bytes) -> int:
    value = txn.get("bundles", key)
    whole = (
        value is not None
        and is_sound(check_bundle, txn, key, value)
        and all(txn.has("blobs", part) for part in split_bundle(key, value)[1])
    )
    return 0 if whole else deletion.drop_bundle(txn, key)


def _mend_recipe(txn: Transaction, recipe: bytes) -> int:
    """Drop a recipe's dangling names, and the recipe if its components are unsound."""
    stray = [bundle for bundle in txn.duplicates("recipes", recipe) if not txn.has("bundles", bundle)]
    for bundle in stray:
        deletion.drop_name(txn, recipe, bundle)
    value = txn.get("components", recipe)
    if value is not None and is_sound(check_components, recipe, value):
        return len(stray)
    return len(stray) + deletion.drop_recipe(txn, recipe, force=True)


def _drop_value(txn: Transaction, key: bytes, blobs: Sequence[bytes]) -> int:
    value = txn.get("registry", key)
    gone = dict.fromkeys((blob for blob in blobs if not txn.has("blobs", blob)), 1)
    return value is not None and any(registry_names(key, value, gone)) and txn.delete("registry", key)


def _mend_record(txn: Transaction, database: str, key: bytes) -> int:
    value = txn.get(database, key)
    look = (read_registry_entry,) if database == "registry" else (decode_record, database)
    if value is None or is_sound(*look, key, value):
        return 0
    if database in ("names", "meta") and key[:1] in _DERIVED:
        return txn.put_record(database, key, b"")
    return txn.delete(database, key)
