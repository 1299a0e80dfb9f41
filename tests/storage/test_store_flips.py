"""Bytes flipped in a store's file where keys and pointers to pages are, not behind any digest."""

import contextlib
import os
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from firebrick.errors import FirebrickError
from firebrick.storage import format as fmt
from firebrick.storage.format import Kind
from firebrick.storage.keys import recipe_key
from firebrick.storage.store import Blob, Store

PAGE = 4096
BRANCH = 1  # LMDB's P_BRANCH
PARTS = [Blob(Kind.CODE, b"part %d" % i) for i in range(4)]
COMPONENTS = [{"function": "f"}, {"function": "g"}]
MANIFESTS = [Blob(Kind.BUNDLE, b"manifest %d" % i) for i in range(3)]


def fill(store: Store) -> None:
    """Publish three bundles under two recipes."""
    keys = [part.key for part in PARTS]
    for number, manifest in enumerate(MANIFESTS):
        components = COMPONENTS[number % 2]
        store.publish(recipe_key(components), components, manifest, keys[: number + 2], PARTS)


Answers = dict[tuple[str, bytes], object]


def ask(store: Store) -> Answers:
    """Ask for everything that answers in keys; what is refused has no answer."""
    answers: Answers = {}
    recipes = [recipe_key(components) for components in COMPONENTS]
    with contextlib.suppress(FirebrickError):
        answers["recipes", b""] = list(store.recipes())
    for recipe in recipes:
        for name, method in ("bundles", store.bundles), ("components", store.components):
            with contextlib.suppress(FirebrickError):
                answers[name, recipe] = method(recipe)
    for manifest in MANIFESTS:
        with contextlib.suppress(FirebrickError):
            answers["parts", manifest.key] = store.parts(manifest.key)
    return answers


def is_less(found: object, truth: object) -> bool:
    """Tell whether an answer leaves something out, and adds nothing."""
    return found is None or (isinstance(found, list) and isinstance(truth, list) and set(found) < set(truth))


def occurrences(data: bytes, key: bytes) -> Iterator[int]:
    at = -1
    while (at := data.find(key, at + 1)) >= 0:
        yield at


def test_a_flipped_byte_of_a_key_never_yields_another(tmp_path: Path) -> None:
    path = tmp_path / "store"
    with Store.open(path, durable=False) as store:
        fill(store)
        truth = ask(store)
        assert store.check().clean
    data = (path / fmt.DATA_FILE).read_bytes()
    keys = [blob.key for blob in (*PARTS, *MANIFESTS)]
    keys += [recipe_key(components) for components in COMPONENTS]
    noticed = 0
    for key in keys:
        for start in occurrences(data, key):
            for at in start, start + 15, start + 31:
                flipped = data[:at] + bytes([data[at] ^ 0x10]) + data[at + 1 :]
                (path / fmt.DATA_FILE).write_bytes(flipped)
                with Store.open(path, readonly=True) as store:
                    found = ask(store)
                    clean = store.check().clean
                for question, answer in found.items():
                    assert answer == truth[question] or is_less(answer, truth[question]), question
                    assert question[0] != "parts" or answer == truth[question]
                if found != truth:
                    noticed += 1
                    assert not clean
    assert noticed > 40


def branches(data: bytes) -> Iterator[int]:
    """Find the keys in LMDB's branch pages."""
    for page in range(2 * PAGE, len(data), PAGE):
        number, flags = int.from_bytes(data[page : page + 8], "little"), data[page + 10]
        if number != page // PAGE or flags & 0x0F != BRANCH:
            continue
        lower = int.from_bytes(data[page + 12 : page + 14], "little")
        for pointer in range(page + 16, page + lower, 2):
            node = page + int.from_bytes(data[pointer : pointer + 2], "little")
            size = int.from_bytes(data[node + 6 : node + 8], "little")
            if size:  # the first of a page has no key
                yield node + 8


def test_a_blob_that_a_look_up_does_not_find_is_found_by_a_check(tmp_path: Path) -> None:
    path = tmp_path / "store"
    blobs = [Blob(Kind.TEXT, b"%d" % i * 20) for i in range(1000)]
    with Store.open(path, durable=False) as store:
        keys = store.put_many(blobs)
    data = (path / fmt.DATA_FILE).read_bytes()

    def look() -> int:
        with Store.open(path, readonly=True) as store:
            there = all(store.has(key) for key in keys)
            kinds = {problem.kind for problem in store.check().problems}
        return 2 * ("structure" not in kinds) + there

    outcomes: list[int] = []
    for key in list(branches(data))[:40]:
        changed = data[:key] + bytes([data[key] ^ 0x08]) + data[key + 1 :]
        (path / fmt.DATA_FILE).write_bytes(changed)
        outcomes.append(in_a_child(look))
    hidden_and_found, hidden = outcomes.count(0), outcomes.count(2)
    assert hidden_and_found > 5
    assert hidden == 0
    assert set(outcomes) <= {0, 1, 3}


def in_a_child(action: Callable[[], int]) -> int:
    """Run in a forked child, which such a file may kill, and return its status."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forks with threads
        pid = os.fork()
    if not pid:
        status = 99
        try:
            status = action()
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@pytest.mark.parametrize("database", sorted(fmt.DATABASES))
def test_a_check_looks_every_entry_up(tmp_path: Path, database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from firebrick.storage.transaction import Transaction

    real = Transaction.has

    def blind(self: Transaction, name: str, key: bytes, value: bytes | None = None) -> bool:
        return name != database and real(self, name, key, value)

    with Store.open(tmp_path / "store", durable=False) as store:
        fill(store)
        store.registry_update("context", {("section", "name"): b"value"})
        store.note(MANIFESTS[0].key, {"seconds": 1.5})
        entries = store._source
        assert entries
        with entries.begin() as txn:
            some = txn.entries(database)
        monkeypatch.setattr(Transaction, "has", blind)
        problems = [problem for problem in store.check().problems if problem.kind == "structure"]
        assert len(problems) == some
