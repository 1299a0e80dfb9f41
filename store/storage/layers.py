"""Stack stores: a private one on top, and read-only ones below it.

A look-up goes down the layers and ends at the first that has the entry; nothing is copied. A recipe has the
bundles of all layers together. Writes go to the top, completely: a bundle stored there needs no other layer.
Pins and the format are the top's alone.

A layer may have a guard, which decides which index entries are trusted. Blobs and bundles need none, because
their keys are digests: a trusted index leads to the bytes its author meant, from whatever layer.

An unreadable layer is left out and reported; the others serve.
"""

from __future__ import annotations

import contextlib
import heapq
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from firebrick.base.namedtuple import NamedTuple
from firebrick.errors import StoreClosed, StoreError
from firebrick.storage.format import DATABASES
from firebrick.storage.keys import Data
from firebrick.storage.view import ReadView, Source

_OF_THE_TOP = frozenset(("meta", "leases"))
_TOP = range(1)


class Guard(Protocol):
    """A judge of a layer's index entries. Thread-safe."""

    def bundles(self, view: ReadView, recipe: bytes, found: list[bytes]) -> list[bytes]:
        """Return the trusted bundles of a recipe."""

    def value(self, view: ReadView, key: bytes, value: Data) -> bool:
        """Tell whether a registry entry is trusted."""


class Layer(NamedTuple):
    """One layer and its guard; None trusts everything."""

    source: Source
    guard: Guard | None = None


class Layers(Source):
    """A source of views of several layers, the top first; it owns one use of each."""

    def __init__(self, layers: Sequence[Layer], on_fault: Callable[[BaseException], None]) -> None:
        """Stack layers.

        Args:
            layers: The top first; at least one.
            on_fault: Called with the reason a layer below the top is left out of a view.
        """
        self.layers = tuple(layers)
        self.path = layers[0].source.path
        self._on_fault = on_fault

    @property
    def top(self) -> Source:
        """The layer written to."""
        return self.layers[0].source

    def begin(self) -> ReadView:
        """Start a view of all layers; those below the top are consulted on demand."""
        return LayeredView(self.layers, self.top.begin(), self._on_fault)

    @contextlib.contextmanager
    def over(self, view: ReadView) -> Iterator[ReadView]:
        """Lay a view of the top over the layers below it; the view of the top continues afterwards."""
        layered = LayeredView(self.layers, view, self._on_fault)
        try:
            yield layered
        finally:
            layered.end(top=False)

    def retain(self) -> None:
        """Increment the use count of each layer."""
        for layer in self.layers:
            layer.source.retain()

    def release(self) -> None:
        """Decrement the use count of each layer."""
        for layer in self.layers:
            layer.source.release()

    def verify(self) -> list[str]:
        """Return the structural faults of all layers."""
        return [problem for layer in self.layers for problem in layer.source.verify()]

    def map_facts(self) -> tuple[int, int]:
        """Return the map facts of the top."""
        return self.top.map_facts()


class LayeredView(ReadView):
    """A view of layers as one store at one moment."""

    __slots__ = ("_layers", "_on_fault", "_views")

    def __init__(
        self, layers: Sequence[Layer], top: ReadView, on_fault: Callable[[BaseException], None]
    ) -> None:
        """Take ownership of a view of the top."""
        self._layers = layers
        self._views: list[ReadView | None] = [top]
        self._on_fault = on_fault

    @property
    def path(self) -> str:
        """The path of the top."""
        return self._layers[0].source.path

    def _each(self, database: str) -> Iterator[tuple[ReadView, Guard | None]]:
        if not self._views:
            raise StoreClosed(self.path, "the view has ended")
        for at in _TOP if database in _OF_THE_TOP else range(len(self._layers)):
            layer = self._layers[at]
            if at == len(self._views):
                self._views.append(self._begin(layer.source))
            if (view := self._views[at]) is not None:
                yield view, layer.guard

    def _begin(self, source: Source) -> ReadView | None:
        try:
            return source.begin()
        except StoreError as error:
            self._on_fault(error)
            return None

    def get(self, database: str, key: bytes) -> memoryview | None:
        """Return a value from the first layer that has it and is trusted for it."""
        for view, guard in self._each(database):
            value = view.get(database, key)
            if value is not None and _believes(guard, database, view, key, value):
                return value
        return None

    def has(self, database: str, key: bytes, value: bytes | None = None) -> bool:
        """Tell whether a layer has a key, or with `value` that duplicate of it, without reading it."""
        if database == "recipes":
            found = self.duplicates(database, key)
            return bool(found) if value is None else value in found
        return any(view.has(database, key, value) for view, _ in self._each(database))

    def items(
        self, database: str, start: bytes = b"", prefix: bytes = b""
    ) -> Iterator[tuple[bytes, memoryview]]:
        """Walk the keys with a prefix of all layers in order, each once, or each duplicate once."""
        last: bytes | None = None
        for place, _, key, value in heapq.merge(*self._walks(database, start, prefix), key=lambda x: x[:2]):
            if place != last:
                last = place
                yield key, value

    def _walks(
        self, database: str, start: bytes, prefix: bytes
    ) -> Iterator[Iterator[tuple[bytes, int, bytes, memoryview]]]:
        def walk(
            at: int, view: ReadView, guard: Guard | None
        ) -> Iterator[tuple[bytes, int, bytes, memoryview]]:
            for key, value in view.items(database, start, prefix):
                if _believes(guard, database, view, key, value):
                    yield key + value if DATABASES[database] else key, at, key, value

        for at, (view, guard) in enumerate(self._each(database)):
            yield walk(at, view, guard)

    def duplicates(self, database: str, key: bytes) -> list[bytes]:
        """Return the values of one key in all layers, sorted, each once."""
        found: set[bytes] = set()
        for view, guard in self._each(database):
            values = view.duplicates(database, key)
            found.update(guard.bundles(view, key, values) if guard is not None and values else values)
        return sorted(found)

    def entries(self, database: str) -> int:
        """Return the number of entries of all layers; one in two layers counts twice."""
        return sum(view.entries(database) for view, _ in self._each(database))

    def end(self, *, commit: bool = False, pin: bool = False, top: bool = True) -> None:
        """End the view of each layer, or only of those below the top."""
        with contextlib.ExitStack() as stack:
            for view in self._views[0 if top else 1 :]:
                if view is not None:
                    stack.callback(view.end, commit=commit, pin=pin)
            self._views = []


def _believes(guard: Guard | None, database: str, view: ReadView, key: bytes, value: Data) -> bool:
    if guard is None or database not in ("registry", "recipes"):
        return True
    if database == "registry":
        return guard.value(view, key, value)
    return bytes(value) in guard.bundles(view, key, view.duplicates("recipes", key))
