"""The tree of errors: each class says what happened and what to do, and survives pickling."""

import pickle
from collections.abc import Iterator
from pathlib import Path

import pytest

from firebrick import errors
from firebrick.errors import FirebrickError, NotFoundError
from support.errors_table import errors_table
from support.places import ROOT

KEY = bytes(range(32))
EXAMPLES: list[tuple[FirebrickError, str, dict[str, object]]] = [
    (errors.FirebrickError("x"), "x", {}),
    (errors.UsageError("no such thing"), "no such thing", {"reason": "no such thing"}),
    (errors.StoreError("/s", "why"), "/s: why", {"path": "/s", "detail": "why"}),
    (errors.StoreError(Path("/s")), "/s", {"path": "/s", "detail": ""}),
    (errors.StoreNotFound("/s"), "no store at /s", {"path": "/s"}),
    (errors.StoreLocked("/s", "why"), "store /s is locked: why", {"path": "/s"}),
    (errors.StoreReadOnly("/s"), "store /s is read-only", {"path": "/s"}),
    (errors.StoreFull("/s", "why"), "store /s is full: why", {"path": "/s"}),
    (errors.StoreVersionError("/s", "9"), "store /s has an unknown format: 9", {"path": "/s"}),
    (errors.NetworkFilesystemError("/s", "nfs"), "store /s cannot live here: nfs", {}),
    (errors.StorePermissionError("/s", "755"), "store /s is not safe to use: 755", {}),
    (errors.StoreClosed("/s"), "store /s is closed", {}),
    (errors.StoreDamaged("/s", "short"), "store /s is damaged: short", {}),
    (errors.StoreUntrusted("/s", "why"), "store /s is not trusted: why", {"path": "/s"}),
    (errors.NotFoundError(KEY), f"nothing stored under {KEY.hex()}", {"key": KEY}),
    (errors.BlobMissing(KEY), f"no blob {KEY.hex()}", {"key": KEY}),
    (errors.BundleMissing(KEY), f"no bundle {KEY.hex()}", {"key": KEY}),
    (errors.NoSuchEntry("net"), "nothing in the store is called net", {"name": "net"}),
    (errors.DamagedError(KEY, "digest"), f"damaged entry {KEY.hex()}: digest", {"key": KEY}),
    (errors.StillReferenced(KEY, ["a", "b"]), f"{KEY.hex()} is still needed by a, b", {}),
    (
        errors.Untrusted("recipe ab", "no signature"),
        "recipe ab is not believed: no signature",
        {"what": "recipe ab"},
    ),
    (errors.CodecError("y"), "y", {}),
    (errors.EncodeError("set", "a.b", "why"), "cannot encode set at a.b: why", {"where": "a.b"}),
    (errors.DecodeError("why"), "why", {"reason": "why"}),
    (errors.LimitExceeded("depth", 3, 2), "depth is 3, more than the limit of 2", {"limit": 2}),
    (errors.UnknownKind(77), "unknown kind 77", {"kind": 77}),
    (errors.UnknownVersion(7, 9), "unknown version of kind 7: 9", {"kind": 7, "version": 9}),
    (errors.ForbiddenGlobal("os:system"), "os:system is not allowed here", {"name": "os:system"}),
    (errors.IncompleteBundle([KEY]), f"bundle lacks {KEY.hex()}", {"missing": (KEY,)}),
    (errors.EditConflict("c", ["a/b"]), "context c changed meanwhile: a/b", {"names": ("a/b",)}),
    (errors.NotStorable("op x"), "not storable: op x", {"reason": "op x"}),
    (errors.NotLean("op x"), "not lean: op x", {"reason": "op x"}),
    (errors.Unsupported("torch 1.0"), "not supported: torch 1.0", {"what": "torch 1.0"}),
    (
        errors.AuditError("f", "lean", ["graph"], "-a\n+b", "a", "b"),
        "f (lean lane): what is stored is not what torch makes of it now (graph)\n-a\n+b",
        {"function": "f", "lane": "lean", "parts": ("graph",), "diff": "-a\n+b", "stored": "a", "fresh": "b"},
    ),
    (
        errors.WouldCompile("f", "new"),
        "locked, and f would be compiled: new",
        {"function": "f", "reason": "new"},
    ),
    (errors.InternalError("bug"), "bug", {"reason": "bug"}),
]


def tree(kind: type[FirebrickError] = FirebrickError) -> Iterator[type[FirebrickError]]:
    yield kind
    for derived in kind.__subclasses__():
        if derived.__module__ == errors.__name__:
            yield from tree(derived)


def test_every_error_has_an_example() -> None:
    assert {type(error) for error, _, _ in EXAMPLES} == set(tree())


@pytest.mark.parametrize(("error", "text", "data"), EXAMPLES, ids=[row[1][:30] for row in EXAMPLES])
def test_errors_show_their_data_and_survive_pickling(
    error: FirebrickError, text: str, data: dict[str, object]
) -> None:
    for copy in error, pickle.loads(pickle.dumps(error)):
        assert type(copy) is type(error)
        assert str(copy) == text
        assert {name: getattr(copy, name) for name in data} == data


def test_every_class_has_a_sentence_a_hint_and_an_exit_code_of_its_own() -> None:
    kinds = list(tree())
    assert len({kind.exit_code for kind in kinds}) == len(kinds)
    for kind in kinds:
        assert kind.__doc__
        assert kind.__doc__.strip().endswith(".")
        assert kind.hint.endswith(".")
        assert "exit_code" in vars(kind)
        assert 0 < kind.exit_code < 126


def test_damage_and_bugs_are_not_misses() -> None:
    misses = {errors.NotFoundError, errors.BlobMissing, errors.BundleMissing}
    assert {kind for kind in tree() if issubclass(kind, NotFoundError)} == misses


def test_the_document_is_generated_from_the_module() -> None:
    document = ROOT / "docs" / "errors.md"
    assert document.read_text() == errors_table()
