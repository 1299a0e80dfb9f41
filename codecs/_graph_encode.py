"""Turn an object graph into nodes, which `_graph_format` defines."""

from __future__ import annotations

import copyreg
import dataclasses
import enum
import functools
import types
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from firebrick.codecs import tensor as tensors
from firebrick.codecs._globals import is_torch_constant, name_of, qualified
from firebrick.codecs._graph_format import (
    BUILTIN_BASES,
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
from firebrick.codecs._graph_nodes import Leaf, NodeWriter, Open, Refused
from firebrick.codecs.abc import Sink
from firebrick.codecs.code import CodeCodec
from firebrick.errors import CodecError, ForbiddenGlobal

_NAMED = (type, types.FunctionType, types.BuiltinFunctionType, types.ModuleType)
_NEWOBJ = copyreg.__newobj__  # type: ignore[attr-defined]
_NEWOBJ_EX = copyreg.__newobj_ex__  # type: ignore[attr-defined]
_RECONSTRUCTOR = copyreg._reconstructor  # type: ignore[attr-defined]
_DATACLASS_SETSTATE = getattr(dataclasses, "_dataclass_setstate", None)


@dataclass(slots=True)
class _Class:
    """The decisions made once per class."""

    name: str
    volatile: frozenset[str]
    replace: Callable[[Any], Any] | None
    is_value: bool  # equal arguments make equal objects, which may share one node


class Encoder(NodeWriter):
    """An encoder of one graph; use once."""

    def __init__(self, policy: Policy, sink: Sink) -> None:
        super().__init__(policy, sink)
        self._classes: dict[type, _Class] = {}

    def visit(self, value: Any) -> int:
        """Write the nodes of a value, unless already written, and return its position."""
        visitor = _VISITORS.get(type(value))
        return self._visit_other(value) if visitor is None else visitor(self, value)

    def _visit_other(self, value: Any) -> int:
        if isinstance(value, _NAMED):
            return self._global(value)
        if isinstance(value, enum.Enum):
            if value.name is None or type(value).__members__.get(value.name) is not value:
                raise self._refuse(value, "not a single named member")
            return self._operation(int(Op.ENUM), self._global(type(value)), value.name)
        if type(value) is functools.partial:
            return self._partial(value)
        if type(value) is types.MethodType:
            return self._method(value)
        module = type(value).__module__
        if module == "torch" or module.startswith("torch."):
            at = self._torch(value)
            if at is not None:
                return at
        return self._reduced(value)

    def _partial(self, value: functools.partial[Any]) -> int:
        if vars(value):
            raise self._refuse(value, "it has attributes")
        seen = self._open(value, None)
        if isinstance(seen, int):
            return seen
        keywords = value.keywords
        parts = (value.func, value.args, tuple(keywords), tuple(keywords.values()))
        seen.at = self._emit([int(Op.PARTIAL), *self._visit_all(parts)])
        return seen.at

    def _method(self, value: types.MethodType) -> int:
        name = value.__name__
        if find_function(type(value.__self__), name) is not value.__func__:
            raise self._refuse(value, "its class has another function of this name")
        seen = self._open(value, None)
        if isinstance(seen, int):
            return seen
        seen.at = self._emit([int(Op.METHOD), *self._visit_all((value.__self__,)), name])
        return seen.at

    def _torch(self, value: Any) -> int | None:
        if is_torch_constant(value):
            return self._global(value)
        name = type(value).__name__
        if type(value).__module__ == "torch":
            if name == "Size":
                return self._immutable(value, Op.SIZE, tuple(value))
            if name == "device":
                return self._operation(int(Op.DEVICE), value.type, value.index)
        if tensors.is_tensor(value):
            seen = self._open(value, None)
            if isinstance(seen, int):
                return seen
            try:
                node: list[Any] = [int(Op.TENSOR)]
                self.storages.add(value, node)
                seen.at = self._emit(node)
            except CodecError as error:
                raise Refused(error) from None
            if vars(value):
                self._state(seen, _Class("", frozenset(), None, False), dict(vars(value)), Op.STATE)
            return seen.at
        return None

    def _class(self, cls: type) -> _Class:
        info = self._classes.get(cls)
        if info is None:
            name = qualified(cls)
            info = self._classes[cls] = _Class(
                name,
                self.policy.volatile.get(name, frozenset()),
                self.policy.replace.get(name),
                getattr(cls, "__hash__", None) not in (None, object.__hash__),
            )
        return info

    def _reduced(self, value: Any) -> int:
        """Follow the reduce protocol of pickle, version 4."""
        known = self._memo.get(id(value))
        if known is not None and known.at is not None:
            return known.at
        info = self._class(type(value))
        try:
            reduced = info.replace(value) if info.replace else _reduce(value)
        except Exception as error:  # the object's own code can raise anything
            raise self._refuse(value, f"it does not reduce: {error}") from None
        if isinstance(reduced, Leaf):
            return self._child(reduced.codec, reduced.value)
        if isinstance(reduced, str):
            return self._global(value)
        if not (isinstance(reduced, tuple) and 2 <= len(reduced) <= 6 and type(reduced[1]) is tuple):
            raise self._refuse(value, "its reduce value has another form than pickle's")
        function, arguments, state, items, pairs, setter = (*reduced, None, None, None, None)[:6]
        if setter is not None:
            raise self._refuse(value, "it brings its own state setter")
        return self._build(value, info, function, arguments, (state, items, pairs))

    def _build(
        self,
        value: Any,
        info: _Class,
        function: Any,
        arguments: tuple[Any, ...],
        rest: tuple[Any, Any, Any],
    ) -> int:
        plain_new = function is _NEWOBJ and len(arguments) == 1
        cls = self._global(type(value)) if plain_new else None
        seen = self._open(value, [int(Op.NEW), cls] if plain_new else None)
        if isinstance(seen, int):
            return seen
        state, items, pairs = rest
        if plain_new:
            self._check_new(value, info)
            plain_state = type(state) is dict and items is None and pairs is None
            if plain_state and not setstate_name(type(value)):
                self._state(seen, info, state, Op.OBJECT)
                return seen.at  # type: ignore[return-value]
            if seen.at is None:
                seen.at = self._emit([int(Op.NEW), cls])
        else:
            node = self._call(value, function, arguments)
            if info.is_value and state is None and items is None and pairs is None:
                seen.at = self._constant(tuple(node), node)
                return seen.at
            seen.at = self._emit(node)
        if items is not None and (positions := self._visit_all(items)):
            if not isinstance(value, list | deque):
                raise self._refuse(value, "only lists and deques are extended")
            self._emit([int(Op.EXTEND), seen.at, *positions])
        if pairs is not None and (positions := self._visit_pairs(pairs)):
            if not isinstance(value, dict):
                raise self._refuse(value, "only dicts are updated")
            self._emit([int(Op.UPDATE), seen.at, *positions])
        if state is not None:
            self._any_state(value, seen, info, state)
        return seen.at

    def _check_new(self, value: Any, info: _Class) -> None:
        if info.name in self.policy.callables:
            return
        if not self.policy.may_build(info.name):
            raise Refused(ForbiddenGlobal(info.name, NO_INSTANCES))
        if not builtin_new(type(value)):
            raise Refused(ForbiddenGlobal(info.name, NO_NEW))

    def _call(self, value: Any, function: Any, arguments: tuple[Any, ...]) -> list[Any]:
        """Return the operation that makes an object from arguments."""
        op, keywords = Op.CALL, None
        if function is _RECONSTRUCTOR:
            cls, base, contents = arguments
            op, function, arguments = Op.NEW, cls, () if base is object else (contents,)
        elif function is _NEWOBJ:
            op, function, arguments = Op.NEW, arguments[0], arguments[1:]
        elif function is _NEWOBJ_EX:
            op, (function, arguments, keywords) = Op.CALL_KEYWORDS, arguments
        name = qualified(function)
        if name not in self.policy.callables and name not in SAFE_CALLABLES:
            if op is Op.NEW and isinstance(value, BUILTIN_BASES):
                return self._contents(value)
            raise Refused(ForbiddenGlobal(name, NO_CALL))
        if keywords is not None:
            parts = (tuple(arguments), tuple(keywords), tuple(keywords.values()))
            return [int(op), self._callable(function), *self._visit_all(parts)]
        return [int(op), self._callable(function), *self._visit_all(arguments)]

    def _callable(self, function: Any) -> int:
        try:
            return self._operation(int(Op.GLOBAL), name_of(function))
        except CodecError as error:
            raise Refused(error) from None

    def _contents(self, value: Any) -> list[Any]:
        name = qualified(type(value))
        if not self.policy.may_build(name):
            raise Refused(ForbiddenGlobal(name, NO_INSTANCES))
        base = next(base for base in BUILTIN_BASES if isinstance(value, base))
        return [int(Op.CONTENTS), self._global(type(value)), self.visit(_CONTENTS[base](value))]

    def _any_state(self, value: Any, seen: Open, info: _Class, state: Any) -> None:
        method = getattr(type(value), "__setstate__", None)
        if method is not None and method is not _DATACLASS_SETSTATE:
            name = setstate_name(type(value))
            if name not in self.policy.callables:
                raise Refused(ForbiddenGlobal(name, NO_CALL))
            if type(state) is dict and info.volatile:
                state = {key: None if key in info.volatile else item for key, item in state.items()}
            self._emit([int(Op.SET_STATE), seen.at, self.visit(state)])
            return
        slots: Any = None
        if method is not None:
            state, slots = (
                None,
                dict(zip((f.name for f in dataclasses.fields(value)), state, strict=True)),
            )
        elif isinstance(state, tuple) and len(state) == 2:
            state, slots = state
        if state:
            self._state(seen, info, state, Op.STATE)
        if slots:
            self._state(seen, info, slots, Op.SLOTS)

    def _state(self, seen: Open, info: _Class, state: Any, op: Op) -> None:
        if type(state) is not dict or not all(type(key) is str for key in state):
            raise self._refuse(seen.value, "its state is not a dict of attributes")
        positions: list[int] = []
        aside: list[Any] = []
        for key, item in state.items():
            positions.append(self._str(key))
            if key in info.volatile:
                aside.append(item)
                positions.append(VOLATILE)
                continue
            try:
                positions.append(self.visit(item))
            except Refused as refused:
                refused.path.append(f".{key}")
                raise
        self.volatile += aside  # after those of the objects inside: in the order of the operations
        if op is Op.OBJECT and seen.at is None:
            seen.at = self._emit([int(op), self._global(type(seen.value)), *positions])
        elif positions:
            self._emit([int(Op.STATE if op is Op.OBJECT else op), seen.at, *positions])


def _reduce(value: Any) -> Any:
    reducer = copyreg.dispatch_table.get(type(value))
    return reducer(value) if reducer else value.__reduce_ex__(4)


_CODE = CodeCodec()
# The contents of an instance of a builtin's subclass, despite overrides.
_CONTENTS: dict[type, Callable[[Any], Any]] = {
    int: int.__pos__,
    float: float.__pos__,
    complex: complex.__pos__,
    str: str.__str__,
    bytes: lambda value: bytes(memoryview(value)),
    tuple: lambda value: tuple(tuple.__iter__(value)),
    frozenset: lambda value: frozenset(frozenset.__iter__(value)),
}
_VISITORS: dict[type, Callable[[Encoder, Any], int]] = {
    type(None): Encoder._scalar,
    bool: Encoder._scalar,
    int: Encoder._int,
    float: Encoder._float,
    complex: Encoder._complex,
    str: Encoder._str,
    bytes: Encoder._bytes,
    bytearray: Encoder._bytearray,
    tuple: Encoder._tuple,
    list: Encoder._list,
    dict: Encoder._dict,
    set: Encoder._set,
    frozenset: Encoder._frozenset,
    slice: Encoder._slice,
    range: Encoder._slice,
    type(Ellipsis): Encoder._global,
    type(NotImplemented): Encoder._global,
    types.CodeType: lambda encoder, value: encoder._child(_CODE, value),
    Leaf: lambda encoder, value: encoder._child(value.codec, value.value),
}
