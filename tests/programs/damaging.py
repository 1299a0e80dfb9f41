"""Damage the file of a store in each kind of place; look what its readers make of it, and whether it heals.

    python tests/programs/damaging.py --count 100000

One line of JSON tells, for each kind of place, what came: nothing (the damage is not in use), a typed error,
or less than there was; and what became of it once the same was recorded again, with the look that precedes a
recording. Wrong bytes or keys, errors without a type, signals, damage that hides something from a reader but
not from its check, and damage that is not healed are failures, named with the trial that repeats them.
"""

import argparse
import collections
import contextlib
import json
import os
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from firebrick.errors import FirebrickError, StoreVersionError
from firebrick.storage import format as fmt
from firebrick.storage.keys import recipe_key
from firebrick.storage.quarantine import set_aside
from firebrick.storage.store import Store
from support.io_trace import in_child
from support.store_ops import CONTEXT, SECTION, Operation, bundle, perform

NUMBERS, PAGE, BATCH = 24, 4096, 50
Answers = dict[tuple[str, object], object]


def made(path: Path) -> None:
    """Fill a store, with pages that are free again."""
    with Store.open(path, durable=False) as store:
        for number in range(NUMBERS + 4):
            perform(store, Operation("publish", number))
            perform(store, Operation("note", number))
            perform(store, Operation("name", number))
        perform(store, Operation("pin", 3))
        for number in range(NUMBERS, NUMBERS + 4):
            perform(store, Operation("unname", number))
            perform(store, Operation("drop", number))
        perform(store, Operation("gc", 0))


def places(data: bytes) -> dict[str, list[int]]:
    """Sort the offsets of a file by what lies there, as far as LMDB's pages tell."""
    found: dict[str, list[int]] = collections.defaultdict(list)
    overflow = 0
    for page in range(0, len(data), PAGE):
        flags = int.from_bytes(data[page + 10 : page + 12], "little")
        lower, upper = (int.from_bytes(data[page + at : page + at + 2], "little") for at in (12, 14))
        if page < 2 * PAGE:
            found["meta page"] += range(page, page + 160)
        elif overflow > 0:
            found["value of several pages"] += range(page, page + PAGE)
            overflow -= 1
        elif flags & 4:
            overflow = int.from_bytes(data[page + 12 : page + 16], "little") - 1
            found["head of a page"] += range(page, page + 16)
            found["value of several pages"] += range(page + 16, page + PAGE)
        elif flags & 3 and 16 <= lower <= upper <= PAGE:
            kind = "branch" if flags & 1 else "leaf"
            found["head of a page"] += range(page, page + 16)
            if flags & 32:  # P_LEAF2: keys in a row
                found["duplicate"] += range(page + 16, page + PAGE)
                continue
            found[f"pointer of a {kind}"] += range(page + 16, page + lower)
            for pointer in range(page + 16, page + lower, 2):
                node = page + int.from_bytes(data[pointer : pointer + 2], "little")
                size = int.from_bytes(data[node : node + 2], "little")
                key = int.from_bytes(data[node + 6 : node + 8], "little")
                if node + 8 + key > page + PAGE:
                    continue
                found[f"head of a node of a {kind}"] += range(node, node + 8)
                found[f"key of a {kind}"] += range(node + 8, node + 8 + key)
                if kind == "leaf":
                    found["value"] += range(node + 8 + key, min(node + 8 + key + size, page + PAGE))
        else:
            found["free page"] += range(page, page + PAGE)
    return {name: offsets for name, offsets in found.items() if offsets}


def hurt(data: bytes, at: int, rng: random.Random) -> bytes:
    """Flip a bit, write another byte, or some zeros or noise."""
    how = rng.randrange(4)
    if how == 0:
        new = bytes([data[at] ^ 1 << rng.randrange(8)])
    elif how == 1:
        new = bytes([rng.randrange(256)])
    else:
        length = rng.randrange(1, 64)
        new = bytes(length) if how == 2 else rng.randbytes(length)
    new = new[: len(data) - at]
    return data[:at] + new + data[at + len(new) :]


def asked(store: Store) -> Answers:
    """Ask for everything; what is refused has no answer."""
    answers: Answers = {}

    def ask(what: str, of: object, read: Callable[[], object]) -> None:
        with contextlib.suppress(FirebrickError):
            answers[what, of] = read()

    for number in range(NUMBERS):
        components, manifest, parts = bundle(number)
        recipe = recipe_key(components)
        ask("bundles", recipe, lambda recipe=recipe: tuple(store.bundles(recipe)))
        ask("components", recipe, lambda recipe=recipe: store.components(recipe))
        ask("bundle", number, lambda key=manifest.key: store.bundle(key))
        ask("parts", number, lambda key=manifest.key: tuple(store.parts(key)))
        ask("facts", number, lambda key=manifest.key: store.facts(key))
        ask("name", number, lambda number=number: store.registry_get(CONTEXT, SECTION, str(number)))
        for part in parts:
            ask("blob", part.key, lambda key=part.key: store.get(key)[::2])
    return answers


def is_less(found: object, truth: object) -> bool:
    """Tell whether an answer leaves something out, and adds nothing."""
    if found is None or found == {}:
        return True
    return isinstance(found, tuple) and isinstance(truth, tuple) and set(found) < set(truth)


def judged(path: Path, truth: Answers) -> str:
    """Return what came; failures begin with an exclamation mark."""
    try:
        with Store.open(path, durable=False) as store:
            found = asked(store)
            for question, answer in found.items():
                if answer != truth[question] and not is_less(answer, truth[question]):
                    return f"!wrong answer to {question}: {answer!r}"
            complete = found == truth
            problems = {problem.kind for problem in store.check().problems}
            if complete and not problems:
                return "nothing"
            if not problems:
                return f"!unseen: {[key for key in truth if found.get(key) != truth[key]][:3]}"
            return "seen as structure" if "structure" in problems else "seen"
    except FirebrickError as error:
        return f"seen as {type(error).__name__}"
    except Exception as error:
        return f"!{type(error).__name__}: {error}"


def healed(path: Path, truth: Answers) -> str:
    """Record the same again, and return what is wrong afterwards; such beginnings as in `judged`."""
    try:
        set_aside(str(path))
        with Store.open(path, durable=False) as store:
            for number in range(NUMBERS):
                perform(store, Operation("publish", number))
                perform(store, Operation("name", number))
                perform(store, Operation("note", number))
            found = asked(store)
            wrong = [question for question in truth if found.get(question) != truth[question]]
            return f"!not healed: {wrong[:3]}" if wrong else "healed"
    except StoreVersionError:
        return "left alone"  # it may be of a later format
    except Exception as error:
        return f"!not healed: {type(error).__name__}: {error}"


def main() -> None:
    """Damage stores until there were enough."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--seconds", type=float, default=1e9, help="stop after this time")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    began, trial = time.monotonic(), arguments.seed
    came: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)
    failures: list[str] = []
    memory = "/dev/shm" if os.path.isdir("/dev/shm") else None
    with tempfile.TemporaryDirectory(prefix="firebrick-damage-", dir=memory) as folder:
        path, log = Path(folder) / "store", Path(folder) / "log"
        made(path)
        data = (path / fmt.DATA_FILE).read_bytes()
        with Store.open(path, readonly=True) as store:
            truth = asked(store)
        sorts = places(data)
        names = sorted(sorts)

        def each(first: int) -> None:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
            with open(log, "a", buffering=1) as lines:
                for number in range(first, trial + BATCH):
                    rng = random.Random(number)
                    name = rng.choice(names)
                    at = rng.choice(sorts[name])
                    shutil.rmtree(path)
                    path.mkdir(mode=0o700)
                    (path / fmt.DATA_FILE).write_bytes(hurt(data, at, rng))
                    (path / fmt.DATA_FILE).chmod(0o600)
                    lines.write(f"{number}\t{name}\t")
                    lines.flush()
                    result = judged(path, truth)
                    lines.write(result.replace("\n", " "))
                    lines.flush()
                    after = "" if result == "nothing" else f", {healed(path, truth)}"
                    lines.write(after.replace("\n", " ") + "\n")

        while trial < arguments.seed + arguments.count and time.monotonic() < began + arguments.seconds:
            log.write_text("")
            done = 0
            while done < BATCH:
                status = in_child(lambda start=trial + done: each(start), 300)
                lines = log.read_text().splitlines()
                if status < 0:
                    lines[-1] += f"!signal {-status}"
                    log.write_text("\n".join(lines) + "\n")
                elif status:
                    raise SystemExit(f"the child ended with {status}: {lines[-1:]}")
                done = len(lines)
            for line in lines:
                number, name, result = line.split("\t")
                failures += [f"trial {number}, {name}: {result}"] if "!" in result else []
                came[name]["failure" if "!" in result else result] += 1
            trial += BATCH
    totals = sum(came.values(), collections.Counter[str]())
    found = {
        "damaged": totals.total(),
        "came": dict(totals),
        "by place": {k: dict(v) for k, v in came.items()},
    }
    seconds = round(time.monotonic() - began)
    print(json.dumps({**found, "failures": failures[:10], "next seed": trial, "seconds": seconds}))
    raise SystemExit(bool(failures))


if __name__ == "__main__":
    main()
