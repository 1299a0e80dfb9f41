"""The levels of durability: how often each flushes, and what becomes of a flush that is due."""

import os
import threading
from pathlib import Path

import pytest

from firebrick.errors import UsageError
from firebrick.settings import Settings
from firebrick.storage import durability
from firebrick.storage import format as fmt
from firebrick.storage.environment import Engine
from firebrick.storage.format import Kind
from firebrick.storage.store import Store
from support.faults import forked


@pytest.fixture
def flushes(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Note flushes at once and later; a flush that is due comes when the store is closed."""
    found: list[str] = []
    real_flush, real_sync = Engine.flush, os.fdatasync

    def flush(self: Engine) -> None:
        found.append("at once")
        real_flush(self)

    def fdatasync(fd: int) -> None:
        found.append("later")
        real_sync(fd)

    monkeypatch.setattr(Engine, "flush", flush)
    monkeypatch.setattr(durability.os, "fdatasync", fdatasync)
    monkeypatch.setattr(fmt, "FLUSH_INTERVAL_S", 3600.0)
    return found


@pytest.mark.parametrize(
    ("level", "expected"),
    [("each", ["at once"] * 3), ("interval", ["later"]), ("system", [])],
)
def test_each_level_flushes_as_often_as_it_says(
    tmp_path: Path, flushes: list[str], level: durability.Durability, expected: list[str]
) -> None:
    with Store.open(tmp_path / "store", durable=level) as store:
        for data in b"a", b"b", b"c", b"c":
            store.put(Kind.TEXT, data)
    assert flushes == expected


def test_what_another_process_did_not_flush_is_flushed_by_who_finds_it(
    tmp_path: Path, flushes: list[str]
) -> None:
    path = tmp_path / "store"
    with Store.open(path) as store:
        store.put(Kind.TEXT, b"first")
        assert forked(lambda: Store.open(path, durable="system").put(Kind.TEXT, b"x")) == 0
        flushes.clear()
        store.put(Kind.TEXT, b"x")
        assert flushes == ["at once"]


def test_a_flush_that_is_due_comes_by_itself(
    tmp_path: Path, flushes: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fmt, "FLUSH_INTERVAL_S", 0.0)
    with Store.open(tmp_path / "store", durable="interval") as store:
        store.put(Kind.TEXT, b"a")
        for thread in threading.enumerate():
            if isinstance(thread, threading.Timer):
                thread.join()
        assert flushes == ["later"]


def test_a_child_leaves_the_flush_to_its_parent(tmp_path: Path, flushes: list[str]) -> None:
    with Store.open(tmp_path / "store", durable="interval") as store:
        store.put(Kind.TEXT, b"a")
        assert forked(lambda: store.close() is None and not flushes) == 0
    assert flushes == ["later"]


@pytest.mark.parametrize(
    ("text", "level"),
    [("1", "each"), ("each", "each"), ("Interval", "interval"), ("system", "system"), ("off", "system")],
)
def test_a_level_is_named_in_the_environment(text: str, level: str) -> None:
    assert Settings.read({"FIREBRICK_DURABLE": text}).durable == level


def test_an_unknown_level_is_refused() -> None:
    with pytest.raises(UsageError, match="each, interval, system"):
        Settings.read({"FIREBRICK_DURABLE": "sometimes"})
