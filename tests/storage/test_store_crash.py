"""Stores whose writers are killed at any moment, and stores with flipped bits."""

import collections
import contextlib
import importlib
import os
import random
import resource
import select
import signal
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest

from firebrick.errors import EditConflict, FirebrickError
from firebrick.storage import format as fmt
from firebrick.storage.format import Kind
from firebrick.storage.keys import content_key, recipe_key
from firebrick.storage.store import Blob, Store

WRITERS = 10
SECONDS = 5.0
COUNTER = ("shared", "counter")


def bundle(number: int) -> tuple[dict[str, str], Blob, list[Blob]]:
    """Make components, manifest and parts of a bundle; the same number makes the same bytes."""
    rng = random.Random(number)
    sizes = [rng.choice([0, 10, 1000, 5000, 100_000]) for _ in range(rng.randrange(1, 6))]
    kinds = [rng.choice([Kind.CODE, Kind.WRAPPER, Kind.TENSOR]) for _ in sizes]
    parts = [
        Blob(kind, rng.randbytes(size // 2) + bytes(size - size // 2))
        for kind, size in zip(kinds, sizes, strict=True)
    ]
    manifest = Blob(Kind.BUNDLE, b"%d" % number + b"".join(part.key for part in parts))
    return {"number": str(number % 50)}, manifest, parts


def write_for_ever(path: Path, seed: int, pipe: int) -> None:
    """Publish bundles and count in the registry; what has returned is reported through the pipe."""
    rng = random.Random(seed)
    with Store.open(path) as store:
        while True:
            number = rng.randrange(300)
            components, manifest, parts = bundle(number)
            keys = [part.key for part in parts]
            store.publish(recipe_key(components), components, manifest, keys, parts)
            os.write(pipe, b"b%07d" % number)
            before = store.registry_get("context", *COUNTER)
            after = str(int(before or b"0") + 1).encode()
            try:
                store.registry_update("context", {COUNTER: after}, expect={COUNTER: before})
            except EditConflict:
                continue
            os.write(pipe, b"c%07d" % int(after))


def start(path: Path, seed: int, pipe: int) -> int:
    """Fork a writer and return its process number."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forks with threads
        pid = os.fork()
    if not pid:
        try:
            write_for_ever(path, seed, pipe)
        finally:
            os._exit(1)
    return pid


def reports(pipe: int) -> list[tuple[str, int]]:
    """Read what writers have reported so far; each report is written in one piece of 8 bytes."""
    found = []
    while select.select([pipe], [], [], 0)[0] and (data := os.read(pipe, 8 * 512)):
        assert len(data) % 8 == 0
        pieces = [data[at : at + 8] for at in range(0, len(data), 8)]
        found += [(chr(piece[0]), int(piece[1:])) for piece in pieces]
    return found


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store"


def test_killed_writers_leave_only_whole_bundles(path: Path) -> None:
    rng = random.Random(7)
    receive, send = os.pipe()
    said: list[tuple[str, int]] = []
    writers = [start(path, seed, send) for seed in range(WRITERS)]
    kills = 0
    end = time.monotonic() + SECONDS
    try:
        while time.monotonic() < end:
            time.sleep(rng.uniform(0, 0.05))
            victim = rng.randrange(WRITERS)
            os.kill(writers[victim], signal.SIGKILL)
            _, status = os.waitpid(writers[victim], 0)
            assert os.WIFSIGNALED(status), "a writer failed by itself"
            kills += 1
            writers[victim] = start(path, rng.randrange(10**9), send)
            said += reports(receive)
    finally:
        for pid in writers:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
    said += reports(receive)
    os.close(receive)
    os.close(send)
    published = {number for what, number in said if what == "b"}
    counted = [number for what, number in said if what == "c"]
    assert kills > 20
    assert len(published) > 20
    assert len(counted) > 20

    with Store.open(path) as store:
        assert store.check().problems == []
        made = {manifest.key: (number, parts) for number, manifest, parts in all_bundles()}
        found = collections.Counter[int]()
        for recipe in store.recipes():
            assert store.components(recipe)
            for key in store.bundles(recipe):
                number, parts = made[key]
                found[number] += 1
                assert recipe == recipe_key(bundle(number)[0])
                assert store.bundle(key) == bundle(number)[1].data
                assert store.parts(key) == sorted({part.key for part in parts})
                for part in parts:
                    assert store.get(part.key) == (part.kind, 1, part.data)
        assert published <= set(found)
        needed = {part.key for number in found for part in bundle(number)[2]}
        assert {info.key for info in store.list()} == needed, "blobs without their bundle"
        assert len(counted) == len(set(counted)), "two writers counted the same"
        last = int(store.registry_get("context", *COUNTER) or b"0")
        assert last >= max(counted)


def all_bundles() -> list[tuple[int, Blob, list[Blob]]]:
    """Make every bundle that writers can publish."""
    return [(number, *bundle(number)[1:]) for number in range(300)]


def test_a_reader_sees_whole_bundles_while_they_are_published(path: Path) -> None:
    receive, send = os.pipe()
    with Store.open(path) as store:
        writers = [start(path, seed, send) for seed in range(2)]
        try:
            end = time.monotonic() + 1.0
            seen = 0
            while time.monotonic() < end or not seen:
                with store.snapshot() as snapshot:
                    for recipe in snapshot.recipes():
                        for key in snapshot.bundles(recipe):
                            seen += 1
                            assert content_key(Kind.BUNDLE, snapshot.bundle(key)) == key
                            assert all(snapshot.has(part) for part in snapshot.parts(key))
                reports(receive)
        finally:
            for pid in writers:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
            os.close(receive)
            os.close(send)
    assert seen


FLIPS = 120
SOUND, REFUSED, WRONG = 0, 1, 2


def test_a_flipped_bit_in_a_page_of_the_tree_never_yields_anything_wrong(path: Path) -> None:
    """LMDB follows such a page as it is, and may kill the process; but it must not deceive."""
    rng = random.Random(11)
    with Store.open(path, durable=False) as store:
        for number in range(20):
            components, manifest, parts = bundle(number)
            keys = [part.key for part in parts]
            store.publish(recipe_key(components), components, manifest, keys, parts)
            store.registry_update("context", {("section", str(number)): manifest.key})
        truth = everything(store)
    data = (path / fmt.DATA_FILE).read_bytes()
    pages = [at for at in range(2 * 4096, len(data), 4096) if is_tree_page(data, at)]
    outcomes = collections.Counter[int]()
    for _ in range(FLIPS):
        at = rng.choice(pages) + rng.choice([rng.randrange(120), rng.randrange(4096)])
        flipped = data[:at] + bytes([data[at] ^ 1 << rng.randrange(8)]) + data[at + 1 :]
        (path / fmt.DATA_FILE).write_bytes(flipped)
        (path / fmt.LOCK_FILE).unlink(missing_ok=True)
        outcomes[in_a_child(lambda: compare(path, truth))] += 1
    assert outcomes[SOUND] > FLIPS / 2
    assert outcomes[REFUSED] > FLIPS / 20
    assert set(outcomes) <= {SOUND, REFUSED, -signal.SIGBUS, -signal.SIGABRT, -signal.SIGSEGV}


def is_tree_page(data: bytes, at: int) -> bool:
    """Tell whether a branch or leaf page (LMDB's `P_BRANCH`, `P_LEAF`) begins here."""
    number, flags = int.from_bytes(data[at : at + 8], "little"), data[at + 10]
    return number == at // 4096 and flags & 0x0F in (1, 2)


def everything(store: Store) -> dict[tuple[str, bytes], object]:
    """Read whatever can be read; entries that are refused are left out."""
    found: dict[tuple[str, bytes], object] = {}

    def add(what: str, key: bytes, read: Callable[[bytes], object]) -> None:
        with contextlib.suppress(FirebrickError):
            found[what, key] = read(key)

    for info in store.list():
        add("blob", info.key, store.get)
    for recipe in store.recipes():
        add("components", recipe, store.components)
        for key in store.bundles(recipe):
            found["member", recipe + key] = True
            add("bundle", key, store.bundle)
    for number in range(20):
        add("name", b"%d" % number, lambda n: store.registry_get("context", "section", n.decode()))
    return found


def compare(path: Path, truth: dict[tuple[str, bytes], object]) -> int:
    """Say whether a damaged store gives all, less, or something else than it should."""
    try:
        with Store.open(path) as store:
            found = everything(store)
    except FirebrickError:
        return REFUSED
    known = {key[32:] for what, key in truth if what == "member"}
    for (what, key), value in found.items():
        stranger = what == "member" and key[32:] not in known  # leads to no bundle
        if not stranger and value is not None and truth.get((what, key)) != value:
            return WRONG
    return SOUND if found == truth else REFUSED


def in_a_child(action: Callable[[], int]) -> int:
    """Run in a forked child; return its status, negative for a signal."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forks with threads
        pid = os.fork()
    if not pid:
        status = 99
        try:
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
            signal.alarm(60)
            status = action()
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


# Where a publishing process is killed, as module, class or function, and attribute; before it and after it.
MOMENTS = [
    ("firebrick.storage.lock_file", "LockFile", "__init__"),
    ("firebrick.storage.lock_file", "LockFile", "make_ready"),
    ("firebrick.storage.lmdb_api", "", "open_environment"),
    ("firebrick.storage.lmdb_api", "", "check_file"),
    ("firebrick.storage.lmdb_api", "", "create_databases"),
    ("firebrick.storage.transaction", "Transaction", "put"),
    ("firebrick.storage.transaction", "Transaction", "put_record"),
    ("firebrick.storage.transaction", "Transaction", "end"),
    ("firebrick.storage.environment", "Engine", "flush"),
]


def kill_at(moment: tuple[str, str, str], after: bool, times: int) -> None:
    """Have this process killed when something is called for the so-many-th time."""
    module, owner, name = moment
    place = importlib.import_module(module)
    place = getattr(place, owner) if owner else place
    real, calls = getattr(place, name), [0]

    def call(*args: object, **options: object) -> object:
        calls[0] += 1
        if calls[0] == times and not after:
            os.kill(os.getpid(), signal.SIGKILL)
        result = real(*args, **options)
        if calls[0] == times:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(place, name, call)


@pytest.mark.parametrize("new", [True, False], ids=["new", "old"])
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("moment", MOMENTS, ids=lambda moment: moment[2])
def test_a_process_killed_at_any_moment_leaves_all_or_nothing(
    path: Path, moment: tuple[str, str, str], after: bool, new: bool
) -> None:
    components, manifest, parts = bundle(1)
    recipe, keys = recipe_key(components), [part.key for part in parts]
    if not new:
        with Store.open(path) as store:
            others, first, blobs = bundle(2)
            store.publish(recipe_key(others), others, first, [blob.key for blob in blobs], blobs)
    killed = 0
    for times in 1, 2, 3, 5:

        def publish(times: int = times) -> int:
            kill_at(moment, after, times)
            with Store.open(path) as store:
                store.publish(recipe, components, manifest, keys, parts)
            return SOUND

        killed += in_a_child(publish) == -signal.SIGKILL
        with Store.open(path) as store:
            assert store.check().clean
            if store.bundles(recipe):
                assert store.parts(manifest.key) == sorted(set(keys))
                break
            assert store.stat().blobs == (0 if new else len({blob.key for blob in bundle(2)[2]}))
    assert killed
    with Store.open(path) as store:
        store.publish(recipe, components, manifest, keys, parts)
        assert store.bundles(recipe) == [manifest.key]
        assert store.check().clean
