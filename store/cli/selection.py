"""Find the bundles named by a user: by function or module, or by the first digits of a key."""

import fnmatch
import re
from collections.abc import Iterable, Sequence
from typing import Final

from firebrick.errors import NoSuchEntry, UsageError
from firebrick.reports.inventory import Held
from firebrick.storage.reader import Reads

_DIGITS: Final = re.compile(r"[0-9a-f]{4,64}")


def selected(bundles: Iterable[Held], names: Sequence[str] | None) -> list[Held]:
    """Return the bundles that any of the names matches, in order; all if there is no name.

    Raises:
        NoSuchEntry: a name matches none.
    """
    held = list(bundles)
    if not names:
        return held
    chosen = set[bytes]()
    for name in names:
        found = [bundle.key for bundle in held if _means(name, bundle)]
        if not found:
            raise NoSuchEntry(name)
        chosen.update(found)
    return [bundle for bundle in held if bundle.key in chosen]


def one(bundles: Iterable[Held], name: str) -> Held:
    """Return the one bundle that a name matches.

    Raises:
        NoSuchEntry: it matches none.
        UsageError: it matches several, which are listed.
    """
    found = selected(bundles, [name])
    if len(found) > 1:
        keys = ", ".join(f"{held.key.hex()[:12]} ({held.name})" for held in found[:8])
        raise UsageError(f"{name!r} means {len(found)} bundles: {keys}{', …' if len(found) > 8 else ''}")
    return found[0]


def blob_of(store: Reads, name: str) -> bytes:
    """Return the key of the one blob whose key begins with these digits.

    Raises:
        NoSuchEntry: there is none.
        UsageError: there are several.
    """
    found = [info.key for info in store.list() if info.key.hex().startswith(name)] if _is_key(name) else []
    if not found:
        raise NoSuchEntry(name)
    if len(found) > 1:
        raise UsageError(f"{len(found)} blobs have keys that begin with {name}: give more digits")
    return found[0]


def _is_key(name: str) -> bool:
    return _DIGITS.fullmatch(name) is not None


def _means(name: str, held: Held) -> bool:
    if name in (held.name, held.place) or held.name.startswith(f"{name}."):
        return True
    if fnmatch.fnmatchcase(held.name, name) or fnmatch.fnmatchcase(held.place, name):
        return True
    return _is_key(name) and (held.key.hex().startswith(name) or held.recipe.hex().startswith(name))
