"""Explain why a recipe has no bundle: how the nearest recipe of the same function differs."""

from __future__ import annotations

from typing import Final

from firebrick.bundle.recipe import Recipe, nearest
from firebrick.reports.events import NEW, Change, Function, listed
from firebrick.reports.inventory import components_of
from firebrick.reports.refusals import Refusal
from firebrick.reports.wording import code_of, recipe_changes
from firebrick.storage.store import Store

_LOOKED_AT: Final = 32  # recipes of one function; each is a record of a few kilobytes


def absence(store: Store, recipe: Recipe, function: Function) -> Refusal:
    """Return why there is no bundle; read only some recipes of this function."""
    if function.qualname.endswith("(resumed)"):  # one function has many resume functions
        return _new(function)
    wanted = recipe.components
    keys = store.recipes_of(wanted["function.module"], wanted["function.name"], limit=_LOOKED_AT)
    found = nearest(wanted, components_of(store, keys))
    if found is None or not found[1]:
        return _new(function)
    changes = recipe_changes(found[1], function.place)
    code = code_of(found[1])
    if code == "unknown":
        return _new(function)
    return Refusal(code, f"another {found[1][0].component}: {listed(changes)}", tuple(changes))


def _new(function: Function) -> Refusal:
    return Refusal("unknown", "not in the store", (Change(f"`{function.place}`", None, NEW),))
