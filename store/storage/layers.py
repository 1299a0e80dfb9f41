"""Lay stores one upon another: a private one on top, and below it others that are only read.

A look-up goes down the layers and ends at the first that has the entry; nothing is copied. The bundles of a
recipe are those of all layers together. What is written goes to the top, whole: a bundle that is stored there
needs no other layer. Pins and the format are the top's alone.

A layer may have a guard, which tells what of its index is believed. Blobs and bundles need none, because
their keys are digests: an index that is believed leads to the bytes that its author meant, from whatever
layer they come.

A layer that cannot be read is left out, and said; the others serve.
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
    """Tell what of a layer's index is believed; any thread may ask."""

    def bundles(self, view: ReadView, recipe: bytes, found: list[bytes]) -> list[bytes]:
        """Return those of a recipe's bundles that are believed."""

    def value(self, view: ReadView, key: bytes, value: Data) -> bool:
        """Tell whether an entry of the registry is believed."""


class Layer(NamedTuple):
    """Hold one layer, and who tells what of it is believed; None believes everything."""

    source: Source
    guard: Guard | None = None


class Layers(Source):
    """Give views of several layers, the top first; takes over one use of each."""

    def __init__(self, layers: Sequence[Layer], on_fault: Callable[[BaseException], None]) -> None:
        """Lay layers one upon another.

        Args:
            layers: The top first; at least one.
            on_fault: Is told why a layer below the top is left out of a view.
        """
        self.layers = tuple(layers)
        self.path = layers[0].source.path
        self._on_fault = on_fault

    @property
    def top(self) -> Source:
        """The layer that is written to."""
        return self.layers[0].source

    def begin(self) -> ReadView:
        """Start a view of all layers; one below the top is asked when something is looked for there."""
        return LayeredView(self.layers, self.top.begin(), self._on_fault)

    @contextlib.contextmanager
    def over(self, view: ReadView) -> Iterator[ReadView]:
        """Lay a view of the top over the layers below it; the view of the top goes on afterwards."""
        layered = LayeredView(self.layers, view, self._on_fault)
        try:
            yield layered
        finally:
            layered.end(top=False)

    def retain(self) -> None:
        """Count one more user of each layer."""
        for layer in self.layers:
            layer.source.retain()

    def release(self) -> None:
        """Count one user less of each layer."""
        for layer in self.layers:
            layer.source.release()

    def verify(self) -> list[str]:
        """List what is structurally wrong in any layer."""
        return [problem for layer in self.layers for problem in layer.source.verify()]

    def map_facts(self) -> tuple[int, int]:
        """Return those of the top."""
        return self.top.map_facts()


class LayeredView(ReadView):
    """Show layers as one store at one moment."""

    __slots__ = ("_layers", "_on_fault", "_views")

    def __init__(
        self, layers: Sequence[Layer], top: ReadView, on_fault: Callable[[BaseException], None]
    ) -> None:
        """Take over a view of the top."""
        self._layers = layers
        self._views: list[ReadView | None] = [top]
        self._on_fault = on_fault

    @property
    def path(self) -> str:
        """Where the top is."""
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
        """Look a value up in the first layer that has it and is believed."""
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
        """List the values of one key in all layers, sorted, each once."""
        found: set[bytes] = set()
        for view, guard in self._each(database):
            values = view.duplicates(database, key)
            found.update(guard.bundles(view, key, values) if guard is not None and values else values)
        return sorted(found)

    def entries(self, database: str) -> int:
        """Count the entries of all layers; one that is in two counts twice."""
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
