"""Run many schedules of simulated processes on one store, each from a seed that repeats it.

    python tests/programs/simulating.py --count 1000000

One line of JSON tells the counts; what is wrong is named there with its seed, for ``--seed N --count 1``.
``--without PART`` takes a safeguard out of the store, which must then be found.
"""

import argparse
import gc
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from firebrick.errors import StoreLocked
from firebrick.storage import collector, journal
from firebrick.storage.environment import Engine
from firebrick.storage.format import Kind
from firebrick.storage.keys import recipe_key
from firebrick.storage.reader import split_bundle
from firebrick.storage.store import Blob, Store
from support.simulation import Process, SimulatedEngine, World, simulated
from support.store_ops import Operation, State, after

WRITERS, NUMBERS = 3, 6
VERBS = ("publish", "publish", "publish", "name", "unname", "drop", "gc", "touch", "read")


def bundle(number: int) -> tuple[dict[str, str], Blob, list[Blob]]:
    """Make a small bundle; those of different writers share a part."""
    parts = [Blob(Kind.TENSOR, b"shared"), Blob(Kind.TENSOR, b"%d" % number * 9)]
    return {"number": str(number % 2)}, Blob(Kind.BUNDLE, b"manifest %d" % number), parts


MADE = [bundle(number) for number in range(NUMBERS)]


def perform(store: Store, operation: Operation) -> None:
    """Do one operation; a read looks at everything that it finds."""
    components, manifest, parts = MADE[operation.number]
    name = ("section", str(operation.number))
    match operation.verb:
        case "publish":
            store.publish(recipe_key(components), components, manifest, [part.key for part in parts], parts)
        case "drop":
            store.delete(manifest.key, force=True)
        case "name":
            store.registry_update("context", {name: parts[0].key}, blobs=parts[:1])
        case "unname":
            store.registry_update("context", {name: None})
        case "touch":
            store.touch(manifest.key)
        case "gc":
            try:
                store.gc(grace=0)
            except StoreLocked as error:  # it is to be repeated
                if "the clock jumped" not in str(error):
                    raise
        case _:
            with store.snapshot() as snapshot:
                for recipe in snapshot.recipes():
                    for key in snapshot.bundles(recipe):
                        for part in snapshot.parts(key):
                            snapshot.get(part)


def torn(world: World) -> str:
    """Say what in the file leads nowhere; empty if nothing does."""
    tables = world.disk.head
    for key, value in tables["bundles"].items():
        for part in split_bundle(key, value)[1]:
            if part not in tables["blobs"]:
                return "a bundle lacks a part"
    for recipe, keys in tables["recipes"].items():
        if recipe not in tables["components"] or any(key not in tables["bundles"] for key in keys):
            return "a recipe leads nowhere"
    store = Store(SimulatedEngine(world, 1 << 40), readonly=False, durable=False)
    for value in store.registry("context").values():
        if value not in tables["blobs"]:
            return "a name leads to no blob"
    return ""


def held(world: World) -> State:
    """Return the state of the file."""
    tables = world.disk.head
    published = {n for n, (_, manifest, _) in enumerate(MADE) if manifest.key in tables["bundles"]}
    store = Store(SimulatedEngine(world, 1 << 40), readonly=False, durable=False)
    named = {int(name) for _, name in store.registry("context")}
    return State(frozenset(published), frozenset(), frozenset(named))


class Writer:
    """Do operations one after the other on numbers that nobody else uses; goes on after it was killed."""

    def __init__(self, world: World, at: int) -> None:
        rng = world.rng
        self.mine = frozenset(range(at, NUMBERS, WRITERS))
        numbers = sorted(self.mine)
        self.operations = [
            Operation(rng.choice(VERBS), rng.choice(numbers)) for _ in range(rng.randrange(1, 5))
        ]
        self.durable, self.map_size = rng.random() < 0.7, rng.choice((1500, 1 << 40))
        self.world, self.done = world, 0
        self.process = world.spawn(self.body)

    def body(self, _: Process) -> None:
        store = Store(SimulatedEngine(self.world, self.map_size), readonly=False, durable=self.durable)
        while self.done < len(self.operations):
            perform(store, self.operations[self.done])
            self.done += 1

    def again(self) -> None:
        """Go on in a new process."""
        self.process = self.world.spawn(self.body)

    def allowed(self, *, crashed: bool) -> list[State]:
        """Return what may be there of the own numbers."""
        states = [State()]
        for operation in self.operations:
            states.append(after(states[-1], operation))
        first = 0 if crashed and not self.durable else self.done
        return states[first : self.done + 2]

    def has_its_own(self, state: State, *, crashed: bool) -> bool:
        """Tell whether the state is one that is allowed, as far as it is this writer's."""
        own = State(state.published & self.mine, frozenset(), state.named & self.mine)
        return own in self.allowed(crashed=crashed)


def run(seed: int, find: list[World]) -> str:
    """Run one schedule; say what is wrong."""
    world = World(seed)
    find[:] = [world]
    rng = world.rng
    writers = [Writer(world, at) for at in range(WRITERS)]
    crash_at = rng.randrange(20, 400) if rng.random() < 0.4 else -1
    kill_at = {rng.randrange(400) for _ in range(rng.choice((0, 0, 1, 3)))}
    jump_at = {rng.randrange(200) for _ in range(rng.choice((0, 0, 1, 4)))}

    def event() -> bool:
        if world.steps in jump_at:
            world.wall += rng.choice((-7200.0, 7200.0, 60.0))
        if world.steps in kill_at and not (victim := rng.choice(writers)).process.finished:
            world.kill(victim.process)
            victim.again()
        return world.steps == crash_at

    while True:
        world.run(event)
        crashed = world.steps == crash_at
        if crashed:
            world.crash()
        world.current = None
        for process in world.processes:
            if process.error is not None:
                return f"{type(process.error).__name__}: {process.error}"
        if problem := torn(world):
            return problem
        state = held(world)
        for writer in writers:
            if not writer.has_its_own(state, crashed=crashed):
                return f"{state} is not what {writer.operations[: writer.done + 1]} leave"
        if not crashed:
            return ""
        world.run(lambda: False)  # ends what was killed
        world.processes.clear()
        for writer in writers:  # everybody can read
            writer.operations, writer.done = [Operation("read", min(writer.mine))], 0
            writer.again()
        world.run(lambda: False)
        errors = [process.error for process in world.processes if process.error is not None]
        return f"after a crash: {errors[0]!r}" if errors else ""


def stale(txn: Any, values: Any, needed: Any) -> None:
    """Stand for `_put_all` of a store that does not look whether the others are still there."""
    for key, value in values.items():
        txn.put("blobs", key, value)


def lost(self: Engine) -> None:
    """Stand for a flush that is none."""


def unfollowed(self: Engine, size: int, real: Callable[..., None] = Engine._resize) -> None:
    """Stand for `Engine._resize` of a store that follows no map of others."""
    if size:
        real(self, size)


BREAKS: dict[str, tuple[Any, str, Any]] = {
    "journal": (journal, "note", lambda txn, keys: None),
    "journal at the end": (journal, "needed", lambda txn, since, grace=0.0: set()),
    "flush": (Engine, "flush", lost),
    "look at what was there": (sys.modules[Store.__module__], "_put_all", stale),
    "following of the map": (Engine, "_resize", unfollowed),
    "names in registry values": (collector, "registry_names", lambda key, value, known: iter(())),
}


def main() -> None:
    """Run schedules until there were enough, or one is wrong."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=1e9, help="stop after this time")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--without", choices=sorted(BREAKS), nargs="*", default=[])
    arguments = parser.parse_args()
    for name in arguments.without:
        setattr(*BREAKS[name])
    began, failure, steps, seed = time.monotonic(), "", 0, arguments.seed
    find: list[World] = []
    gc.disable()
    with simulated(lambda: find[0]):
        while seed < arguments.seed + arguments.count and time.monotonic() < began + arguments.seconds:
            if problem := run(seed, find):
                failure = f"seed {seed}: {problem}"
                break
            steps += find[0].steps
            seed += 1
            if not seed % 500:
                gc.collect()
    found = {"schedules": seed - arguments.seed, "steps": steps, "seeds": [arguments.seed, seed]}
    seconds = round(time.monotonic() - began)
    print(json.dumps({**found, "failures": [failure] if failure else [], "seconds": seconds}))
    raise SystemExit(bool(failure))


if __name__ == "__main__":
    main()
