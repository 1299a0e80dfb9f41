"""Rebuild an object graph from its nodes, which `_graph_format` defines."""

from __future__ import annotations

import enum
import functools
import sys
import types
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator, Sized
from typing import Any, TypeVar

from firebrick.codecs import tensor as tensors
from firebrick.codecs._globals import resolve
from firebrick.codecs._graph_format import (
    BUILTIN_BASES,
    MAX_NODES,
    NO_CALL,
    NO_INSTANCES,
    NO_NEW,
    SAFE_CALLABLES,
    VOLATILE,
    Op,
    Policy,
    builtin_new,
    find_function,
    setstate_name,
)
from firebrick.codecs.abc import Codec, Source, check_arguments, child
from firebrick.errors import DecodeError, FirebrickError, ForbiddenGlobal, LimitExceeded
from firebrick.storage.format import Kind
from firebrick.storage.msgpack import Limits, unpack

C = TypeVar("C", bound=Sized)
Node = list[Any]
_MAKERS = frozenset({Op.CALL, Op.CALL_KEYWORDS, Op.NEW, Op.CONTENTS, Op.OBJECT, Op.TENSOR})
_SCALARS = (type(None), bool, int, float, str, bytes)
_LIMITS = Limits(depth=4, items=MAX_NODES)


class Decoder:
    """A decoder of one graph; use once.

    Args:
        policy: The names, instances and calls it admits.
        source: Returns child blobs.
        volatile: Values set aside at encoding, in the same order; None puts None in their places.
        leaves: Codecs of the kinds that a CHILD may have.
    """

    def __init__(
        self,
        policy: Policy,
        source: Source,
        volatile: list[Any] | None,
        leaves: dict[Kind, Codec[Any]],
    ) -> None:
        self.policy = policy
        self.source = source
        self.volatile: Iterator[Any] | None = None if volatile is None else iter(volatile)
        self.leaves = leaves
        self.values: list[Any] = []
        self.nodes: list[Any] = []
        self._names: dict[int, str] = {}  # position of a GLOBAL -> its name
        self._unfolded: dict[int, int] = {}  # position of a tuple or frozenset -> its size without sharing
        self._builders: dict[int, Callable[[], Any]] = {}

    def run(self, data: bytes | memoryview) -> Any:
        """Run the program and return its root."""
        body = unpack(data, _LIMITS)
        if type(body) is not list or len(body) != 3 or type(body[0]) is not list:
            raise DecodeError("an object graph is [nodes, storages, root]")
        nodes, storages, root = body
        if len(nodes) > MAX_NODES:
            raise LimitExceeded("number of nodes", len(nodes), MAX_NODES)
        self.nodes, values = nodes, self.values
        at = 0
        try:
            self.storages = tensors.StorageTable.decode(storages, self.source)
            for node in nodes:
                values.append(_RUN[node[0]](self, node) if type(node) is list else self._scalar(node))
            at = len(nodes)
            if self.volatile is not None and next(self.volatile, self) is not self:
                raise DecodeError("more volatile values than places for them")
            return self._at(root)
        except FirebrickError:
            raise
        except Exception as error:  # constructors and hashes of rebuilt objects can raise anything
            raise DecodeError(f"node {at or len(values)}: {type(error).__name__}: {error}") from error

    def _at(self, position: Any) -> Any:
        if type(position) is not int or position < 0:
            raise DecodeError(f"{position!r:.60} is not a position")
        return self.values[position]

    def _all(self, node: Node, start: int) -> list[Any]:
        positions = node[start:]
        if positions and (min(positions) < 0 or type(positions[0]) is bool):
            raise DecodeError(f"a position of {Op(node[0]).name} is negative")
        values = self.values
        return [values[p] for p in positions]

    def _pairs(self, node: Node, start: int) -> Iterator[tuple[Any, Any]]:
        flat = self._all(node, start)
        return zip(flat[::2], flat[1::2], strict=True)

    def _exactly(self, node: Node, count: int) -> list[Any]:
        if len(node) != count + 1:
            raise DecodeError(f"{Op(node[0]).name} has {len(node) - 1} operands, expected {count}")
        return node[1:]

    def _scalar(self, node: Any) -> Any:
        if type(node) not in _SCALARS:
            raise DecodeError(f"a {type(node).__name__} is not a node")
        return node

    def _global(self, node: Node) -> Any:
        (name,) = self._exactly(node, 1)
        value = resolve(name)
        if name not in SAFE_CALLABLES and not self.policy.may_name(name, value):
            raise ForbiddenGlobal(name, "the policy does not admit this name")
        self._names[len(self.values)] = name
        return value

    def _bigint(self, node: Node) -> int:
        return int.from_bytes(self._bytes(*self._exactly(node, 1)), "big", signed=True)

    def _complex(self, node: Node) -> complex:
        real, imag = self._exactly(node, 2)
        if type(real) is not float or type(imag) is not float:
            raise DecodeError("COMPLEX takes two floats")
        return complex(real, imag)

    def _bytes(self, value: Any) -> bytes:
        if type(value) is not bytes:
            raise DecodeError(f"{value!r:.60} is not bytes")
        return value

    def _slice(self, node: Node) -> Any:
        self._exactly(node, 3)
        return (slice if node[0] == Op.SLICE else range)(*self._all(node, 1))

    def _size(self, node: Node) -> Any:
        return tensors.torch_module().Size(self._all(node, 1))

    def _device(self, node: Node) -> Any:
        kind, index = self._exactly(node, 2)
        return tensors.device(kind, index)

    def _enum(self, node: Node) -> Any:
        position, name = self._exactly(node, 2)
        cls = self._at(position)
        if not isinstance(cls, enum.EnumType) or position not in self._names:
            raise DecodeError(f"{cls!r:.60} is not an enumeration")
        return cls.__members__[name]

    def _tuple(self, node: Node) -> tuple[Any, ...]:
        self._measure(node)
        return tuple(self._all(node, 1))

    def _measure(self, node: Node) -> None:
        """Refuse a tuple of tuples that would be too large without sharing: hashing does not share."""
        unfolded = self._unfolded
        size = len(node) + sum(unfolded.get(position, 0) for position in node[1:])
        if size > MAX_NODES:
            raise LimitExceeded("items of a tuple, unfolded", size, MAX_NODES)
        unfolded[len(self.values)] = size

    def _frozenset(self, node: Node) -> frozenset[Any]:
        self._measure(node)
        items = self._all(node, 1)
        return self._distinct(frozenset(items), len(items))

    def _distinct(self, result: C, count: int) -> C:
        if len(result) != count:
            raise DecodeError(f"a {type(result).__name__} has the same item twice")
        return result

    def _child(self, node: Node) -> Any:
        kind, version, key = self._exactly(node, 3)
        codec = self.leaves.get(kind)
        if codec is None:
            raise DecodeError(f"a graph has no children of kind {kind!r:.20}")
        blob = child(self.source, self._bytes(key), codec.kind)
        return codec.decode(blob.data, self.source, version)

    def _dict(self, node: Node) -> dict[Any, Any]:
        return self._distinct(dict(self._pairs(node, 1)), len(node) // 2)

    def _set(self, node: Node) -> set[Any]:
        items = self._all(node, 1)
        return self._distinct(set(items), len(items))

    def _extend(self, node: Node) -> None:
        target = self._at(node[1])
        if isinstance(target, list):
            list.extend(target, self._all(node, 2))
        elif isinstance(target, deque):
            deque.extend(target, self._all(node, 2))
        else:
            raise DecodeError(f"a {type(target).__name__} cannot be extended")

    def _update(self, node: Node) -> None:
        target = self._at(node[1])
        if not isinstance(target, dict):
            raise DecodeError(f"a {type(target).__name__} cannot be updated")
        put = OrderedDict.__setitem__ if isinstance(target, OrderedDict) else dict.__setitem__
        for key, value in self._pairs(node, 2):
            put(target, key, value)

    def _add(self, node: Node) -> None:
        target = self._at(node[1])
        if type(target) is not set:
            raise DecodeError(f"a {type(target).__name__} is not a set")
        target.update(self._all(node, 2))

    def _callable(self, position: Any) -> Any:
        name = self._names.get(position, "") if type(position) is int else ""
        if name not in self.policy.callables and name not in SAFE_CALLABLES:
            raise ForbiddenGlobal(name or repr(self._at(position))[:60], NO_CALL)
        return self._at(position)

    def _arguments(self, node: Node) -> list[Any]:
        arguments = self._all(node, 2)
        check_arguments(arguments)
        return arguments

    def _keywords(self, node: Node) -> tuple[Any, dict[str, Any]]:
        arguments, names, values = self._all(node, 2)
        check_arguments((*arguments, *values))
        return arguments, dict(zip(names, values, strict=True))

    def _partial(self, node: Node) -> Any:
        arguments, keywords = self._keywords(node)
        return functools.partial(self._at(node[1]), *arguments, **keywords)

    def _method(self, node: Node) -> Any:
        position, name = self._exactly(node, 2)
        owner = self._made(position)
        function = find_function(type(owner), name)
        if function is None:
            raise DecodeError(f"{type(owner).__name__} has no function {name!r:.60}")
        return types.MethodType(function, owner)

    def _call(self, node: Node) -> Any:
        return self._callable(node[1])(*self._arguments(node))

    def _call_keywords(self, node: Node) -> Any:
        arguments, keywords = self._keywords(node)
        return self._callable(node[1])(*arguments, **keywords)

    def _builder(self, position: Any) -> Callable[[], Any]:
        """Return a function that makes an empty instance of the class at `position`."""
        cls, name = self._at(position), self._names.get(position, "")
        if not isinstance(cls, type) or not name:
            raise DecodeError(f"{cls!r:.60} is not a class")
        if name not in self.policy.callables:
            if not self.policy.may_build(name):
                raise ForbiddenGlobal(name, NO_INSTANCES)
            if not builtin_new(cls):
                raise ForbiddenGlobal(name, NO_NEW)
        builder = self._builders[position] = functools.partial(cls.__new__, cls)
        return builder

    def _new(self, node: Node) -> Any:
        if len(node) == 2:
            return (self._builders.get(node[1]) or self._builder(node[1]))()
        cls = self._callable(node[1])
        return cls.__new__(cls, *self._arguments(node))

    def _contents(self, node: Node) -> Any:
        position, contents = self._exactly(node, 2)
        cls, value, name = self._at(position), self._at(contents), self._names.get(position, "")
        if not isinstance(cls, type) or not self.policy.may_build(name):
            raise ForbiddenGlobal(name or repr(cls)[:60], NO_INSTANCES)
        self._unfolded[len(self.values)] = self._unfolded.get(contents, 0)
        if type(value) not in BUILTIN_BASES or not issubclass(cls, type(value)):
            raise DecodeError(f"a {type(value).__name__} is not what {name} consists of")
        return type(value).__new__(cls, value)

    def _object(self, node: Node) -> Any:
        value = (self._builders.get(node[1]) or self._builder(node[1]))()
        self._attributes(value, node)
        return value

    def _state(self, node: Node) -> None:
        self._attributes(self._made(node[1]), node)

    def _values(self, node: Node) -> Iterator[tuple[str, Any]]:
        if len(node) % 2:
            raise DecodeError("an attribute has no value")
        names = self._all(node[2::2], 0)
        for name, position in zip(names, node[3::2], strict=True):
            if type(name) is not str:
                raise DecodeError(f"{name!r:.60} is not the name of an attribute")
            if position == VOLATILE:
                yield sys.intern(name), self._next_volatile()
            else:
                yield sys.intern(name), self._at(position)

    def _next_volatile(self) -> Any:
        if self.volatile is None:
            return None
        value = next(self.volatile, self)
        if value is self:
            raise DecodeError("fewer volatile values than places for them")
        return value

    def _made(self, position: Any) -> Any:
        """Return an object that this graph made; existing objects are never changed."""
        value, node = self._at(position), self.nodes[position]
        if type(node) is not list or node[0] not in _MAKERS:
            raise ForbiddenGlobal(repr(value)[:60], "only objects that the graph makes get state")
        return value

    def _attributes(self, target: Any, node: Node) -> None:
        target.__dict__.update(self._values(node))

    def _slots(self, node: Node) -> None:
        target = self._made(node[1])
        for name, value in self._values(node):
            slot = next(
                (base.__dict__[name] for base in type(target).__mro__ if name in base.__dict__),
                None,
            )
            if not isinstance(slot, types.MemberDescriptorType):
                raise DecodeError(f"{name} is not a slot of {type(target).__name__}")
            slot.__set__(target, value)

    def _set_state(self, node: Node) -> None:
        position, state = self._exactly(node, 2)
        target, state = self._made(position), self._at(state)
        name = setstate_name(type(target))
        if name not in self.policy.callables:
            raise ForbiddenGlobal(name, NO_CALL)
        target.__setstate__(state)

    def _tensor(self, node: Node) -> Any:
        storage, dtype, sizes, strides, offset, flags = self._exactly(node, 6)
        return self.storages.tensor(storage, dtype, sizes, strides, offset, flags)


_RUN: dict[int, Callable[[Decoder, Node], Any]] = {
    Op.GLOBAL: Decoder._global,
    Op.TUPLE: Decoder._tuple,
    Op.LIST: lambda self, node: self._all(node, 1),
    Op.DICT: Decoder._dict,
    Op.SET: Decoder._set,
    Op.FROZENSET: Decoder._frozenset,
    Op.BIGINT: Decoder._bigint,
    Op.COMPLEX: Decoder._complex,
    Op.BYTEARRAY: lambda self, node: bytearray(self._bytes(*self._exactly(node, 1))),
    Op.SLICE: Decoder._slice,
    Op.RANGE: Decoder._slice,
    Op.SIZE: Decoder._size,
    Op.DEVICE: Decoder._device,
    Op.ENUM: Decoder._enum,
    Op.PARTIAL: Decoder._partial,
    Op.CALL: Decoder._call,
    Op.CALL_KEYWORDS: Decoder._call_keywords,
    Op.NEW: Decoder._new,
    Op.CONTENTS: Decoder._contents,
    Op.OBJECT: Decoder._object,
    Op.STATE: Decoder._state,
    Op.SLOTS: Decoder._slots,
    Op.SET_STATE: Decoder._set_state,
    Op.EXTEND: Decoder._extend,
    Op.UPDATE: Decoder._update,
    Op.ADD: Decoder._add,
    Op.CHILD: Decoder._child,
    Op.TENSOR: Decoder._tensor,
    Op.METHOD: Decoder._method,
}
