"""Operations on a store whose outcome is known, for tests that stop them anywhere.

An operation is a name and a number. After each prefix of a list of operations the store has one known
state: which bundles are published and pinned, and what a context holds. Whatever stops a writer, the state
must be that of one of a few prefixes, and nothing may be half there.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import NamedTuple

from firebrick.errors import FirebrickError
from firebrick.storage.format import Kind
from firebrick.storage.keys import recipe_key
from firebrick.storage.store import Blob, Store

CONTEXT, SECTION = "context", "section"
VERBS = ("publish", "publish", "publish", "name", "unname", "drop", "gc", "pin", "touch", "note")


class Operation(NamedTuple):
    """One call: a verb and the number of a bundle."""

    verb: str
    number: int


class State(NamedTuple):
    """What a store holds, but for what nobody relies on."""

    published: frozenset[int] = frozenset()
    pinned: frozenset[int] = frozenset()
    named: frozenset[int] = frozenset()


def bundle(number: int) -> tuple[dict[str, str], Blob, list[Blob]]:
    """Make components, manifest and parts of a bundle; the same number makes the same bytes.

    Neighbours share a part, and some parts take pages of their own in the file.
    """
    rng = random.Random(number)
    parts = [Blob(Kind.TEXT, b"shared %d" % (number // 3))]
    for _ in range(rng.randrange(1, 5)):
        parts.append(Blob(Kind.TENSOR, rng.randbytes(rng.choice([0, 10, 900, 5000, 20_000]))))
    parts = list(dict.fromkeys(parts))
    manifest = Blob(Kind.BUNDLE, b"%d" % number + b"".join(part.key for part in parts))
    return {"number": str(number % 5), "function.module": "m", "function.name": "f"}, manifest, parts


def drawn(rng: random.Random, count: int, numbers: int = 8) -> list[Operation]:
    """Draw operations that are possible one after the other."""
    chosen: list[Operation] = []
    state = State()
    while len(chosen) < count:
        operation = Operation(rng.choice(VERBS), rng.randrange(numbers))
        there = operation.number in state.published
        if operation.verb in ("publish", "name", "unname", "gc") or there:
            chosen.append(operation)
            state = after(state, operation)
    return chosen


def after(state: State, operation: Operation) -> State:
    """Return the state that an operation leads to."""
    published, pinned, named = state
    one = frozenset([operation.number])
    match operation.verb:
        case "publish":
            published |= one
        case "drop":
            published, pinned = published - one, pinned - one
        case "pin":
            pinned |= one & published
        case "name":
            named |= one
        case "unname":
            named -= one
    return State(published, pinned, named)


def perform(store: Store, operation: Operation) -> None:
    """Do it."""
    components, manifest, parts = bundle(operation.number)
    key, name = manifest.key, (SECTION, str(operation.number))
    match operation.verb:
        case "publish":
            store.publish(recipe_key(components), components, manifest, [part.key for part in parts], parts)
        case "drop":
            store.delete(key, force=True)
        case "pin":
            store.pin(key)
        case "name":
            store.registry_update(CONTEXT, {name: parts[0].key}, blobs=parts[:1])
        case "unname":
            store.registry_update(CONTEXT, {name: None})
        case "touch":
            store.touch(key, operation.number)
        case "note":
            store.note(key, {"seconds": 1.5})
        case "gc":
            store.gc(grace=0)
        case _:
            raise ValueError(operation.verb)


def look(store: Store, numbers: int = 8) -> State:
    """Read the state of a store, every byte of it; AssertionError where something is half there."""
    published, pinned, named = set(), set(), set()
    with store.snapshot() as snapshot:
        known = {recipe: set(snapshot.bundles(recipe)) for recipe in snapshot.recipes()}
        made = {bundle(number)[1].key: number for number in range(numbers)}
        assert {key for keys in known.values() for key in keys} <= made.keys(), "a bundle that nobody made"
        for key, number in made.items():
            components, manifest, parts = bundle(number)
            if key not in known.get(recipe_key(components), ()):
                continue
            published.add(number)
            assert snapshot.bundle(key) == manifest.data
            assert snapshot.components(recipe_key(components)) == components
            assert snapshot.parts(key) == sorted({part.key for part in parts})
            for part in parts:
                assert snapshot.get(part.key)[::2] == (part.kind, part.data)
        for key in snapshot.pins():
            pinned.add(made[key])
        for (section, name), value in snapshot.registry(CONTEXT).items():
            assert section == SECTION
            assert value == bundle(int(name))[2][0].key
            assert snapshot.has(value)
            named.add(int(name))
    return State(frozenset(published), frozenset(pinned), frozenset(named))


def wrong(store: Store, allowed: Sequence[State], numbers: int = 8) -> str:
    """Say what is wrong with a store that must be in one of some states; empty if nothing is."""
    try:
        if problems := store.check().problems:
            return f"check: {problems[0]}"
        found = look(store, numbers)
    except (AssertionError, FirebrickError) as error:
        return f"{type(error).__name__}: {error}"
    return "" if found in allowed else f"{found} is none of {list(allowed)}"
