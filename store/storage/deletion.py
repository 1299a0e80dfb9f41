"""Remove bundles, recipes and contexts from a store, with all references to them.

Each function works inside a writing transaction of its caller. Blobs stay: those no longer needed are
collected later, after their grace.
"""

from __future__ import annotations

import contextlib

from firebrick.errors import DamagedError, DecodeError, StillReferenced
from firebrick.storage import format as fmt
from firebrick.storage import journal
from firebrick.storage.keys import unpack_components
from firebrick.storage.reader import (
    context_prefix,
    function_prefix,
    is_indexed,
)
from firebrick.storage.transaction import Transaction


def recipes_of(txn: Transaction, bundle: bytes) -> list[bytes]:
    """Return the recipes that name a bundle; walk all recipes if the index is incomplete."""
    prefix = fmt.NAMES_RECIPE + bundle
    if is_indexed(txn):
        return [key[len(prefix) :] for key, _ in txn.items("names", prefix=prefix)]
    return [key for key, value in txn.items("recipes") if value == bundle]


def drop_bundle(txn: Transaction, bundle: bytes) -> bool:
    """Remove a bundle, its names in recipes, recipes left empty by this, and its facts.

    Returns:
        False if neither the bundle nor a name of it existed.
    """
    found = recipes_of(txn, bundle)
    for recipe in found:
        drop_name(txn, recipe, bundle)
    gone = txn.delete("bundles", bundle)
    txn.delete("names", fmt.NAME_PARTS + bundle)
    txn.delete("meta", fmt.META_PIN + bundle)
    for prefix in fmt.CLOCK_USE, fmt.CLOCK_NOTE:
        txn.delete("clock", prefix + bundle)
    return gone or bool(found)


def drop_name(txn: Transaction, recipe: bytes, bundle: bytes) -> None:
    """Remove a bundle from a recipe, and the recipe if that was its last."""
    txn.delete_duplicate("recipes", recipe, bundle)
    txn.delete("names", fmt.NAMES_RECIPE + bundle + recipe)
    if not txn.has("recipes", recipe):
        drop_components(txn, recipe)


def drop_components(txn: Transaction, recipe: bytes) -> bool:
    """Remove the components of a recipe and their entry in the function index."""
    with contextlib.suppress(DamagedError, DecodeError):
        components = unpack_components(txn.record("components", recipe) or b"")
        module, name = components.get("function.module"), components.get("function.name")
        if module is not None and name is not None:
            txn.delete("names", function_prefix(module, name) + recipe)
    return txn.delete("components", recipe)


def drop_recipe(txn: Transaction, recipe: bytes, *, force: bool) -> bool:
    """Remove a recipe, and its bundles that no other recipe names.

    Raises:
        StillReferenced: One of its bundles is pinned, and `force` is False.
    """
    bundles = txn.duplicates("recipes", recipe)
    if not force and (pinned := [bundle for bundle in bundles if is_pinned(txn, bundle)]):
        raise StillReferenced(pinned[0], ["a pin"])
    for bundle in bundles:
        if recipes_of(txn, bundle) == [recipe]:
            journal.note(txn, journal.parts_of(txn, bundle))
            drop_bundle(txn, bundle)
        else:
            drop_name(txn, recipe, bundle)
    return drop_components(txn, recipe) or bool(bundles)


def drop_context(txn: Transaction, context: str) -> bool:
    """Remove all values of a context; return False if there were none."""
    keys = [key for key, _ in txn.items("registry", prefix=context_prefix(context))]
    for key in keys:
        txn.delete("registry", key)
    return bool(keys)


def is_pinned(txn: Transaction, bundle: bytes) -> bool:
    """Tell whether a bundle is pinned."""
    return txn.has("meta", fmt.META_PIN + bundle)
