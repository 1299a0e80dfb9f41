"""The contents of a store, bundle by bundle, in the user's terms: names, lanes, bytes, seconds.

Reads headers, manifests and records; no part of a bundle is decoded, and torch is not imported.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, Final

from firebrick.base.namedtuple import NamedTuple
from firebrick.errors import FirebrickError
from firebrick.storage.format import Kind
from firebrick.storage.keys import ContentKey
from firebrick.storage.manifest import OFF, Manifest, NoLeanForm, unpack_manifest
from firebrick.storage.reader import Reads

LEAN: Final = "lean"
FULL: Final = "full"
EAGER: Final = "eager"  # torch runs the frame uncompiled
_REPLACED: Final = "replaced"  # fact of a bundle
_WRAPPER: Final = "wrap_inline.<locals>.inner"


class Held(NamedTuple):
    """A description of one bundle.

    Args:
        key: content key of the bundle.
        recipe: key of its recipe.
        name: the user's name for the function or module.
        place: the function's location: ``model.py:Attention.forward``.
        lane: `LEAN`, `FULL` or `EAGER`.
        why: why the lean lane cannot serve it; empty if it can.
        device: name of its GPU, or ``cpu``.
        seconds: duration of its compilation.
        when: seconds since 1970 at which it was stored; 0 if unknown.
        used: seconds since 1970 of its last use; 0 for none.
        replaced: whether an edit replaced it by another.
        parts: keys of the blobs it needs, each with its stored bytes.
        components: of its recipe.
    """

    key: ContentKey
    recipe: bytes
    name: str
    place: str
    lane: str
    why: str
    device: str
    seconds: float
    when: float
    used: float
    replaced: bool
    parts: Mapping[ContentKey, int]
    components: Mapping[str, str]

    @property
    def bytes(self) -> int:
        """Return the stored bytes of all parts, whether or not other bundles share them."""
        return sum(self.parts.values())


class Inventory(NamedTuple):
    """The contents of a store.

    Args:
        bundles: by name, then by age.
        kinds: number and stored bytes of the blobs by kind.
        problems: unreadable parts, in words.
    """

    bundles: list[Held]
    kinds: Mapping[Kind, tuple[int, int]]
    problems: list[str]

    def users(self) -> Counter[bytes]:
        """Return how many bundles need each blob."""
        return Counter(part for held in self.bundles for part in held.parts)


def inventory(store: Reads) -> Inventory:
    """Return the contents of a store; damaged entries are reported and left out.

    Raises:
        StoreError: the store itself cannot be read.
    """
    sizes, kinds, problems, found = dict[bytes, int](), dict[Kind, tuple[int, int]](), [], []
    for info in store.list():
        sizes[info.key] = info.stored
        number, size = kinds.get(info.kind, (0, 0))
        kinds[info.kind] = number + 1, size + info.stored
    for recipe in store.recipes():
        try:
            components, keys = store.components(recipe) or {}, store.bundles(recipe)
        except FirebrickError as error:
            problems.append(str(error))
            continue
        for key in keys:
            try:
                found.append(_held(store, key, recipe, components, sizes))
            except FirebrickError as error:
                problems.append(str(error))
    found.sort(key=lambda held: (held.name.lower(), held.when, held.key))
    return Inventory(found, kinds, problems)


def _held(
    store: Reads, key: ContentKey, recipe: bytes, components: Mapping[str, str], sizes: Mapping[bytes, int]
) -> Held:
    manifest = unpack_manifest(store.bundle(key))
    facts, (lane, why) = _facts(store, key), lane_of(manifest)
    return Held(
        key,
        recipe,
        str(facts.get("name") or fallback_name(components)),
        str(facts.get("place") or f"{components.get('function.module')}:{components.get('function.name')}"),
        lane,
        why,
        (manifest.compiled.requires.get("gpu", "cpu") if manifest.compiled is not None else "cpu"),
        float(facts.get("seconds", 0.0)),
        float(facts.get("when", 0.0)),
        float(_last_use(store, key)),
        _REPLACED in facts,
        {part: sizes.get(part, 0) for part in store.parts(key)},
        components,
    )


def _facts(store: Reads, key: bytes) -> dict[str, Any]:
    try:
        return store.facts(key)
    except FirebrickError:  # volatile, and no reason to omit the bundle
        return {}


def _last_use(store: Reads, key: bytes) -> int:
    try:
        return store.last_use(key) or 0
    except FirebrickError:
        return 0


def lane_of(manifest: Manifest) -> tuple[str, str]:
    """Return a bundle's lane, and why the lean one cannot serve it."""
    if manifest.skip:
        return EAGER, ""
    if isinstance(manifest.lean, NoLeanForm):
        off = "the lean lane was off when it was stored"
        return FULL, off if manifest.lean.reason == OFF else manifest.lean.reason
    return LEAN, ""


def fallback_name(components: Mapping[str, str]) -> str:
    """Return a name for a bundle stored without the user's name for it."""
    name = components.get("function.name", "?")
    return "a module that torch wraps" if name.endswith(_WRAPPER) else name


def unique_bytes(held: Iterable[Held], users: Mapping[bytes, int]) -> int:
    """Return the bytes of blobs that only these bundles need."""
    mine, sizes = Counter[bytes](), dict[ContentKey, int]()
    for bundle in held:
        mine.update(bundle.parts.keys())
        sizes.update(bundle.parts)
    return sum(size for part, size in sizes.items() if mine[part] == users[part])


def components_of(store: Reads, recipes: list[bytes]) -> Mapping[bytes, Mapping[str, str]]:
    """Return the components of recipes that can be read."""
    known = {}
    for key in recipes:
        try:
            if (parts := store.components(key)) is not None:
                known[key] = parts
        except FirebrickError:
            continue
    return known
