"""Write the nodes of an object graph: positions, scalars and containers.

`_graph_format` defines them.
"""

from __future__ import annotations

import struct
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from firebrick.codecs import tensor as tensors
from firebrick.codecs._globals import name_of, qualified
from firebrick.codecs._graph_format import MAX_NODES, VERSION, Op, Policy
from firebrick.codecs.abc import Codec, Sink
from firebrick.codecs.text import TextCodec
from firebrick.errors import CodecError, EncodeError, ForbiddenGlobal, LimitExceeded
from firebrick.storage.format import Kind
from firebrick.storage.keys import ContentKey, content_key
from firebrick.storage.msgpack import INT64, pack

_DOUBLE = struct.Struct(">d")
_TEXT = TextCodec()


@dataclass(frozen=True, slots=True)
class Leaf:
    """A value that a reducer of `Policy.replace` makes a child blob of its own kind."""

    codec: Codec[Any]
    value: Any


class Refused(Exception):
    """An error on its way outwards, collecting the path to the value."""

    def __init__(self, error: CodecError) -> None:
        super().__init__()
        self.error = error
        self.path: list[str] = []

    def final(self) -> CodecError:
        where = "".join(reversed(self.path)) or "the root"
        if isinstance(self.error, EncodeError):
            return EncodeError(self.error.type_name, where, self.error.reason)
        if isinstance(self.error, ForbiddenGlobal):
            return ForbiddenGlobal(self.error.name, f"{where}: {self.error.where}")
        return self.error


class Open:
    """An object being visited: `value` keeps it alive, `at` is its position once it has one.

    `create` is the operation that makes it when its contents refer back to it; None if that is impossible.
    """

    __slots__ = ("at", "create", "value")

    def __init__(self, value: Any, create: list[Any] | None) -> None:
        self.value = value
        self.create = create
        self.at: int | None = None


def key_only(kind: Kind, data: bytes, version: int) -> ContentKey:
    """Return a key as a sink does, but keep nothing."""
    return content_key(kind, data, version)


class NodeWriter(ABC):
    """A writer of one graph's nodes; use once."""

    def __init__(self, policy: Policy, sink: Sink) -> None:
        self.policy = policy
        self.sink = sink
        self.nodes: list[Any] = []
        self.volatile: list[Any] = []
        self.storages = tensors.StorageTable()
        self._memo: dict[int, Open] = {}
        self._constants: dict[Any, int] = {}

    @abstractmethod
    def visit(self, value: Any) -> int:
        """Write the nodes of a value, unless already written, and return its position."""

    def finish(self, root: Any) -> bytes:
        """Encode everything reachable from `root`."""
        try:
            at = self.visit(root)
        except Refused as refused:
            raise refused.final() from None
        except RecursionError:
            depth = sys.getrecursionlimit()
            raise LimitExceeded("nesting of the object graph", depth + 1, depth) from None
        storages = self.storages.encode(self.sink, self.policy.leaf_bytes)
        return pack([self.nodes, storages, at], maps=False)

    def _emit(self, node: Any) -> int:
        if len(self.nodes) >= MAX_NODES:
            raise Refused(LimitExceeded("number of nodes", len(self.nodes) + 1, MAX_NODES))
        self.nodes.append(node)
        return len(self.nodes) - 1

    def _constant(self, key: Any, node: Any) -> int:
        at = self._constants.get(key)
        if at is None:
            at = self._constants[key] = self._emit(node)
        return at

    def _operation(self, *node: Any) -> int:
        return self._constant(node, list(node))

    def _open(self, value: Any, create: list[Any] | None) -> Open | int:
        """Return the position of an object seen before, or record that its visit begins."""
        seen = self._memo.get(id(value))
        if seen is None:
            seen = self._memo[id(value)] = Open(value, create)
            return seen
        if seen.at is None:
            if seen.create is None:
                raise self._refuse(value, "it contains itself in a way that cannot be rebuilt")
            seen.at = self._emit(seen.create)
        return seen.at

    def _refuse(self, value: Any, reason: str) -> Refused:
        return Refused(EncodeError(qualified(type(value)), reason=reason))

    def _global(self, value: Any) -> int:
        key = (Op.GLOBAL, id(value))
        at = self._constants.get(key)
        if at is None:
            try:
                name = name_of(value)
            except CodecError as error:
                raise Refused(error) from None
            if not self.policy.may_name(name, value):
                raise Refused(ForbiddenGlobal(name, "the policy does not admit this name"))
            at = self._constants[key] = self._operation(int(Op.GLOBAL), name)
        return at

    def _visit_all(self, values: Iterable[Any]) -> list[int]:
        positions: list[int] = []
        try:
            for value in values:
                positions.append(self.visit(value))
        except Refused as refused:
            refused.path.append(f"[{len(positions)}]")
            raise
        return positions

    def _visit_pairs(self, pairs: Iterable[tuple[Any, Any]]) -> list[int]:
        positions: list[int] = []
        for key, value in pairs:
            try:
                positions.append(self.visit(key))
                positions.append(self.visit(value))
            except Refused as refused:
                refused.path.append(f"[{key!r:.60}]")
                raise
        return positions

    def _scalar(self, value: Any) -> int:
        return self._constant((type(value), value), value)

    def _int(self, value: int) -> int:
        if value in INT64:
            return self._constant((int, value), value)
        size = (value + (value < 0)).bit_length() // 8 + 1
        return self._operation(int(Op.BIGINT), value.to_bytes(size, "big", signed=True))

    def _float(self, value: float) -> int:
        return self._constant((float, _DOUBLE.pack(value)), value)

    def _complex(self, value: complex) -> int:
        key = (complex, _DOUBLE.pack(value.real), _DOUBLE.pack(value.imag))
        return self._constant(key, [int(Op.COMPLEX), value.real, value.imag])

    def _str(self, value: str) -> int:
        at = self._constants.get((str, value))
        if at is not None:
            return at
        if len(value) < self.policy.leaf_bytes:
            return self._scalar(value)
        return self._child(_TEXT, value)

    def _bytes(self, value: bytes) -> int:
        if len(value) < self.policy.leaf_bytes:
            return self._scalar(value)
        key = self.sink(Kind.GRAPH, pack([[value], [], 0], maps=False), VERSION)
        return self._operation(int(Op.CHILD), int(Kind.GRAPH), VERSION, key)

    def _child(self, codec: Codec[Any], value: Any) -> int:
        try:
            key = self.sink(codec.kind, codec.encode(value, self.sink), codec.version)
        except CodecError as error:
            raise Refused(error) from None
        return self._operation(int(Op.CHILD), int(codec.kind), codec.version, key)

    def _bytearray(self, value: bytearray) -> int:
        seen = self._open(value, None)
        if isinstance(seen, int):
            return seen
        seen.at = self._emit([int(Op.BYTEARRAY), bytes(value)])
        return seen.at

    def _immutable(self, value: Any, op: Op, parts: Iterable[Any]) -> int:
        seen = self._open(value, None)
        if isinstance(seen, int):
            return seen
        seen.at = self._operation(int(op), *self._visit_all(parts))
        return seen.at

    def _slice(self, value: Any) -> int:
        op = Op.SLICE if type(value) is slice else Op.RANGE
        return self._immutable(value, op, (value.start, value.stop, value.step))

    def _tuple(self, value: tuple[Any, ...]) -> int:
        return self._immutable(value, Op.TUPLE, value)

    def _frozenset(self, value: frozenset[Any]) -> int:
        return self._immutable(value, Op.FROZENSET, self._sorted(value))

    def _container(self, value: Any, one_shot: Op, fill: Op, visit: Callable[[], list[int]]) -> int:
        seen = self._open(value, [int(one_shot)])
        if isinstance(seen, int):
            return seen
        positions = visit()
        if seen.at is None:
            seen.at = self._emit([int(one_shot), *positions])
        elif positions:
            self._emit([int(fill), seen.at, *positions])
        return seen.at

    def _list(self, value: list[Any]) -> int:
        return self._container(value, Op.LIST, Op.EXTEND, lambda: self._visit_all(value))

    def _dict(self, value: dict[Any, Any]) -> int:
        return self._container(value, Op.DICT, Op.UPDATE, lambda: self._visit_pairs(value.items()))

    def _set(self, value: set[Any]) -> int:
        return self._container(value, Op.SET, Op.ADD, lambda: self._visit_all(self._sorted(value)))

    def _sorted(self, items: Iterable[Any]) -> list[Any]:
        """Sort the items of a set by each item's encoding as a separate graph."""
        keyed = [(type(self)(self.policy, key_only).finish(item), item) for item in items]
        keyed.sort(key=lambda pair: pair[0])
        return [item for _, item in keyed]
