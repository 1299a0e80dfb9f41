"""What tests of contexts share: a store that must be sound at the end, and a context in it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from firebrick.context.context import Context
from firebrick.storage.store import Store


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "store", durable=False) as store:
        yield store
        assert store.check().problems == []


@pytest.fixture
def context(store: Store) -> Context:
    return Context.open(store)


@pytest.fixture
def writes(monkeypatch: pytest.MonkeyPatch) -> list[dict[Any, Any]]:
    """The registry transactions from now on."""
    calls: list[dict[Any, Any]] = []
    update = Store.registry_update

    def spy(self: Store, context: str, changes: Any, **more: Any) -> None:
        calls.append(dict(changes))
        update(self, context, changes, **more)

    monkeypatch.setattr(Store, "registry_update", spy)
    return calls
