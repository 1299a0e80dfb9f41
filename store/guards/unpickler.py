"""Read torch's pickled guard states without running the code they name.

A guard state names user classes (to guard their types), so an allow-list of globals cannot be closed. Instead
the list says what may be *called*; anything else may only be named. An object of an unlisted class is made
bare (``object.__new__``, ``tuple.__new__`` for a named tuple) and gets its attributes; a member of an
enumeration is looked up. So no ``__init__``, ``__new__``, ``__reduce__`` or ``__setstate__`` of a user class
runs. Modules may be named only if they, or their package, are already imported.

The unpickler is Python's own pure-Python one (``pickle._Unpickler``), since the C one cannot distinguish
naming from calling.
"""

from __future__ import annotations

import copyreg
import dataclasses
import enum
import io
import itertools
import pickle
import sys
import types
from collections import OrderedDict
from typing import Any, ClassVar

from firebrick.codecs.abc import check_arguments
from firebrick.codecs.code import class_method
from firebrick.errors import DecodeError, ForbiddenGlobal
from firebrick.guards.stored_names import stored_as
from firebrick.guards.thread_state import LOCAL_STATE, check_global_state, check_local_state
from firebrick.torch_api import native

# Modules of torch whose classes make up guard states; their functions may only be named.
_CLASS_MODULES = (
    "torch._dynamo.guards", "torch._dynamo.output_graph", "torch._dynamo.source", "torch._guards",
    "torch.utils._ordered_set", "torch.utils.weak",
)  # fmt: skip
_CALLABLE = frozenset(
    {
        "builtins:list", "builtins:dict", "builtins:set", "builtins:frozenset", "builtins:tuple",
        "builtins:bytearray", "builtins:complex", "builtins:slice", "builtins:range", "builtins:object",
        "collections:OrderedDict", "collections:defaultdict", "collections:deque", "collections:Counter",
        "types:SimpleNamespace", "functools:partial", "logging:getLogger", "torch:Size", "torch:device",
        "torch:Tensor", "torch.nn.modules.module:Module",
        "torch.nn.parameter:Parameter", "torch._utils:_rebuild_tensor_v2", "torch._utils:_rebuild_parameter",
        "torch._utils:_rebuild_meta_tensor_no_storage",
        "torch.fx.experimental.symbolic_shapes:_ShapeGuardsHelper",
        "torch.fx.experimental.symbolic_shapes:_CppShapeGuardsHelper",
        "torch._C._dynamo.guards:GlobalStateGuard", "torch._C._dynamo.guards:LocalState",
        "torch._C:DispatchKeySet", "torch:DispatchKey",
        "torch._C._functorch:TransformType",
        "firebrick.loader.guard_state:rebuild_mapping",
    }
)  # fmt: skip
_NAMED = frozenset({"torch:dtype", "torch:memory_format"})  # instances have names
_TENSORS = frozenset({"torch:Tensor", "torch.nn.parameter:Parameter"})  # with attributes set by other calls
_FUNCTIONS = (types.FunctionType, types.BuiltinFunctionType)
_NEVER_MADE = (type, types.ModuleType, types.MethodType, enum.Enum)
_PICKLER = "torch._dynamo.guards:GuardsStatePickler"
_SETSTATE_PACKAGES = frozenset({"torch", "collections", "builtins", "functools"})


@stored_as("firebrick.loader.guard_state")
def rebuild_mapping(cls: Any, items: list[tuple[Any, Any]], attributes: dict[str, Any]) -> Any:
    """Make a mapping of a user class with these contents, without running its code.

    Raises:
        ForbiddenGlobal: the class creates its instances itself.
    """
    base = next((b for b in (OrderedDict, dict) if isinstance(cls, type) and issubclass(cls, b)), None)
    if base is None or cls.__new__ is not base.__new__:
        raise ForbiddenGlobal(_name_of(cls))
    value = base.__new__(cls)
    for key, item in items:
        base.__setitem__(value, key, item)
    vars(value).update(attributes)
    return value


def _name_of(value: Any) -> str:
    owner = getattr(value, "__module__", None)
    return f"{owner}:{getattr(value, '__qualname__', type(value).__qualname__)}"


def _may_call(value: Any) -> bool:
    name = _name_of(value)
    if isinstance(value, type):
        return name in _CALLABLE or name.startswith(_CLASS_MODULES)
    if isinstance(value, types.MethodType):
        return _is_pickler_method(value.__self__, value.__name__)
    listed = name in _CALLABLE or name.startswith(_PICKLER + "._unpickle_")
    return listed and isinstance(value, _FUNCTIONS) and _stands_at(value, *name.split(":"))


def _check_size(function: Any, arguments: Any) -> None:
    """Refuse a call that would make far more than the pickle holds."""
    check_arguments(arguments)
    if function is bytearray and any(isinstance(argument, int) for argument in arguments):
        raise DecodeError("a bytearray of a length without its bytes")


def _stands_at(value: Any, module: str, qualname: str) -> bool:
    found: Any = sys.modules.get(module)
    for part in qualname.split("."):
        found = getattr(found, part, None)
    return found is value


def _is_pickler_method(owner: Any = None, name: Any = None, *rest: Any) -> bool:
    named = isinstance(name, str) and name.startswith("_unpickle_") and not rest
    return named and isinstance(owner, type) and _name_of(owner) == _PICKLER


def _defining_module(cls: type, method: str) -> str | None:
    return next((base.__module__ for base in cls.__mro__ if method in base.__dict__), None)


_Base: Any = pickle._Unpickler
_Stop: Any = pickle._Stop  # type: ignore[attr-defined]


class _Unpickler(_Base):  # type: ignore[misc]
    dispatch: ClassVar[dict[int, Any]] = dict(_Base.dispatch)

    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file)
        self._file = file
        self._known: dict[int, tuple[Any, bool, tuple[bool, ...] | None]] = {}
        self._found: dict[int, Any] = {}  # objects of the process, which a pickle may not change

    def load(self) -> Any:
        """Read the pickle, ignoring its frames: they serve stream readers, and all bytes are here."""
        self.read, self.readinto, self.readline = self._file.read, self._file.readinto, self._file.readline
        self.metastack: list[Any] = []
        self.stack: list[Any] = []
        self.append = self.stack.append
        read, dispatch = self.read, self.dispatch
        try:
            while key := read(1):
                dispatch[key[0]](self)
        except _Stop as stop:
            return stop.value
        raise EOFError("no end")

    def load_frame(self) -> None:
        self.read(8)

    def _call(self, function: Any) -> tuple[Any, bool, tuple[bool, ...] | None]:
        """Return whether a function may be called, and which fields it accepts, if not all its own."""
        known = self._known.get(id(function))
        if known is None:
            allowed, taken = _may_call(function), None
            if allowed and isinstance(function, type) and dataclasses.is_dataclass(function):
                taken = tuple(field.init for field in dataclasses.fields(function))
                taken = None if all(taken) else taken
            known = self._known[id(function)] = function, allowed, taken
        return known

    def find_class(self, module: str, name: str) -> Any:
        imported = sys.modules.get(module)
        if imported is None and module.split(".", 1)[0] not in sys.modules:
            raise ForbiddenGlobal(f"{module}:{name}")
        found = super().find_class(module, name)
        self._found[id(found)] = found
        return found

    def _made(self, value: Any) -> Any:
        """Return an object that the pickle is about to change, provided it made the object."""
        if id(value) in self._found or isinstance(value, _NEVER_MADE):
            raise ForbiddenGlobal(_name_of(value), "a pickle that changes it")
        return value

    def _fill(self, method: str, *arguments: Any) -> None:
        """Fill the container on top of the stack through the builtin class's method."""
        value = self._made(self.stack[-1])
        if _defining_module(type(value), method) not in ("builtins", "collections"):
            raise ForbiddenGlobal(_name_of(type(value)), f"filled by {method}")
        getattr(type(value), method)(value, *arguments)

    def load_append(self) -> None:
        self._fill("append", self.stack.pop())

    def load_appends(self) -> None:
        self._fill("extend", self.pop_mark())

    def load_additems(self) -> None:
        self._fill("update", self.pop_mark())

    def load_setitem(self) -> None:
        item, key = self.stack.pop(), self.stack.pop()
        self._fill("__setitem__", key, item)

    def load_setitems(self) -> None:
        items = self.pop_mark()
        for key, item in zip(items[::2], items[1::2], strict=True):
            self._fill("__setitem__", key, item)

    def persistent_load(self, pid: Any) -> Any:
        raise ForbiddenGlobal("persistent id")

    def load_reduce(self) -> None:
        function, args = self.stack[-2], self.stack[-1]
        if function is copyreg._reconstructor and args[1:2] == (object,):  # type: ignore[attr-defined]
            function = args[0]
        if function is getattr:
            self.stack[-2:] = [getattr(*args) if _is_pickler_method(*args) else _attribute(*args)]
            return
        _, allowed, taken = self._call(function)
        if not allowed:
            del self.stack[-2:]
            self.append(_member(function, args) if isinstance(function, enum.EnumType) else _bare(function))
            return
        name = getattr(function, "__name__", "")
        if name == "_unpickle_python_module":
            self._importable(args[0])
        elif name == "_unpickle_nested_function":
            self._importable(args[1])
        elif name == "_unpickle_tensor" and type(args[-1]).__name__ == "_Missing":
            # torch omits a gradient that no guard reads, and then cannot read its own pickle
            self.stack[-1] = (*args[:-1], None)
        elif taken is not None and len(args) == len(taken):
            # some of torch's sources pickle fields that their constructor does not accept
            self.stack[-1] = tuple(itertools.compress(args, taken))
        _check_size(function, self.stack[-1])
        super().load_reduce()

    def load_newobj(self) -> None:
        cls, items = self.stack[-2:]
        if _may_call(cls):
            _check_size(cls, items)
            super().load_newobj()
        else:
            del self.stack[-2:]
            named = isinstance(cls, type) and issubclass(cls, tuple) and hasattr(cls, "_fields")
            self.append(tuple.__new__(cls, items) if named else _bare(cls))

    def load_newobj_ex(self) -> None:
        cls, items = self.stack[-3:-1]
        if not _may_call(cls):
            raise ForbiddenGlobal(_name_of(cls))
        _check_size(cls, items)
        super().load_newobj_ex()

    def load_build(self) -> None:
        state, value = self.stack[-1], self._made(self.stack[-2])
        if type(value) is native.guards.GlobalStateGuard:
            check_global_state(state)
        elif type(value) is LOCAL_STATE:
            check_local_state(state)
        module = _defining_module(type(value), "__setstate__")
        if module is None or module.partition(".")[0] in _SETSTATE_PACKAGES:
            super().load_build()
            return
        self.stack.pop()
        slots: Any = {}
        if isinstance(state, tuple) and len(state) == 2:
            state, slots = state
        vars(value).update(state or {})
        for name, item in (slots or {}).items():
            object.__setattr__(value, name, item)

    def load_inst(self) -> None:
        raise ForbiddenGlobal("INST")

    def load_obj(self) -> None:
        raise ForbiddenGlobal("OBJ")

    @staticmethod
    def _importable(module: Any) -> None:
        if not isinstance(module, str) or module.split(".", 1)[0] not in sys.modules:
            raise ForbiddenGlobal(str(module))

    dispatch[pickle.FRAME[0]] = load_frame
    dispatch[pickle.REDUCE[0]] = load_reduce
    dispatch[pickle.NEWOBJ[0]] = load_newobj
    dispatch[pickle.NEWOBJ_EX[0]] = load_newobj_ex
    dispatch[pickle.BUILD[0]] = load_build
    dispatch[pickle.APPEND[0]] = load_append
    dispatch[pickle.APPENDS[0]] = load_appends
    dispatch[pickle.ADDITEMS[0]] = load_additems
    dispatch[pickle.SETITEM[0]] = load_setitem
    dispatch[pickle.SETITEMS[0]] = load_setitems
    dispatch[pickle.INST[0]] = load_inst
    dispatch[pickle.OBJ[0]] = load_obj


def _is_bare(cls: type) -> bool:
    return getattr(cls, "__new__") is getattr(object, "__new__")  # noqa: B009


def _bare(cls: Any) -> Any:
    if not isinstance(cls, type) or not _is_bare(cls):
        raise ForbiddenGlobal(_name_of(cls))
    return object.__new__(cls)


_IMMUTABLE = frozenset({frozenset, tuple, str, bytes})


def _attribute(owner: Any = None, name: Any = None, *rest: Any) -> Any:
    """Return a class method, an immutable value's method, or ``tuple.__new__``, which named tuples need."""
    if owner is tuple and name == "__new__" and not rest:
        return tuple.__new__
    if type(name) is str and not rest and (method := class_method(owner, name)) is not None:
        return method
    if type(owner) in _IMMUTABLE and type(name) is str and name in vars(type(owner)) and not rest:
        found = vars(type(owner))[name]
        if isinstance(found, types.MethodDescriptorType | types.WrapperDescriptorType):
            return found.__get__(owner)
    raise ForbiddenGlobal("builtins:getattr", f"{owner!r:.60}, {name!r:.40}")


def _member(cls: Any, args: tuple[Any, ...]) -> Any:
    """Return the member of an enumeration by its value."""
    members = vars(cls).get("_value2member_map_", {})
    if len(args) != 1 or type(args[0]) not in (bool, int, float, str, bytes) or args[0] not in members:
        raise ForbiddenGlobal(_name_of(cls))
    return members[args[0]]


def reads_back(value: Any, reduced: Any, classes: dict[type, bool]) -> bool:
    """Tell whether `read_guard_state` certainly restores a value from its pickle; otherwise it must be tried.

    Args:
        value: the value the pickler must reduce.
        reduced: its reduction, ``NotImplemented`` for the value's own.
        classes: the answers for the classes of earlier values.
    """
    if reduced is not NotImplemented:
        name = getattr(reduced[0], "__name__", "")
        if name == "_unpickle_python_module":
            return sys.modules.get(reduced[1][0]) is value
        if name == "_unpickle_nested_function" and reduced[1][1] not in sys.modules:
            return False
        return _may_call(reduced[0])
    cls = type(value)
    if cls in copyreg.dispatch_table or value is type(None):  # reduced by a function; a call of `type`
        return False
    if isinstance(value, type | types.FunctionType):  # named
        return True
    if isinstance(value, types.MethodType):
        return _is_pickler_method(value.__self__, value.__name__)
    if isinstance(value, types.BuiltinFunctionType):
        return isinstance(value.__self__, types.ModuleType)
    if (known := classes.get(cls)) is None:
        known = classes[cls] = _name_of(cls) in _NAMED or _may_call(cls) or _is_plain(cls)
    return known and not (_name_of(cls) in _TENSORS and vars(value))


def _is_plain(cls: type) -> bool:
    """Tell whether instances are pickled and made in the default way, without running code of the class."""
    by_value = getattr(cls, "__hash__") not in (getattr(object, "__hash__"), None)  # noqa: B009
    if by_value or not _is_bare(cls) or hasattr(cls, "__getnewargs_ex__"):
        return False
    alike = ["__reduce_ex__", "__reduce__"]
    setter = _defining_module(cls, "__setstate__")
    if setter is None:
        if hasattr(cls, "__getattr__"):
            return False
        alike += ["__getstate__", "__getattribute__", "__setattr__"]
    elif setter.partition(".")[0] not in _SETSTATE_PACKAGES:
        return False
    return all(getattr(cls, name) is getattr(object, name) for name in alike)


def read_guard_state(data: bytes) -> Any:
    """Return torch's ``GuardsState`` from its pickle.

    Raises:
        ForbiddenGlobal: the pickle would call or name something forbidden.
        DecodeError: the bytes are not such a pickle.
    """
    from firebrick.torch_api.dynamo_modules import TracingContext, guards, tracing

    try:
        with tracing(TracingContext(None)):  # some sources install a guard on construction
            state = _Unpickler(io.BytesIO(data)).load()
    except ForbiddenGlobal:
        raise
    except Exception as error:
        raise DecodeError(f"guard state: {type(error).__name__}: {error}") from error
    if not isinstance(state, guards.GuardsState):
        raise DecodeError(f"guard state: expected GuardsState, got {type(state).__name__}")
    return state
