"""The encoding of object graphs: the policy that bounds it and its operations.

The body is `[nodes, storages, root]`. `nodes` is a program that runs from front to back; each entry defines
one value, which later entries refer to by position. An entry that is not an array is a literal (None, bool,
int of 64 bits, float, str, bytes). An array is an operation: its code and operands.

Equal immutable values (scalars, tuples, names, and objects that define their own hash and consist of
arguments only) have one node, whether or not they were one object: the identity of immutables depends on
caches and interning and would make encodings differ. Mutable objects have one node each, so sharing and
cycles survive.
"""

from __future__ import annotations

import enum
import functools
import types
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from firebrick.codecs._globals import is_tensor_class, is_torch_constant

VERSION: Final = 1
MAX_NODES: Final = 1 << 22
LEAF_BYTES: Final = 4096
VOLATILE: Final = -1  # in place of the position of a value set aside


class Op(enum.IntEnum):
    """The operations; operands are positions unless stated otherwise.

    Numbers never change.
    """

    GLOBAL = 0  # "module:qualname"
    TUPLE = 1  # items…
    LIST = 2  # items…
    DICT = 3  # key, value, …
    SET = 4  # items…, sorted by their encodings
    FROZENSET = 5  # the same
    BIGINT = 6  # bytes, big-endian, signed, shortest
    COMPLEX = 7  # float, float (themselves)
    BYTEARRAY = 8  # bytes (themselves)
    SLICE = 9  # start, stop, step
    RANGE = 10  # start, stop, step
    SIZE = 11  # items… of a torch.Size
    DEVICE = 12  # type (str), index (int or None) of a torch.device
    ENUM = 13  # class, member's name (str)
    PARTIAL = 14  # function, tuple of arguments, tuple of keywords' names, tuple of their values
    CALL = 15  # callable, arguments…
    CALL_KEYWORDS = 16  # callable; the rest as in PARTIAL
    NEW = 17  # class, arguments… of its __new__
    CONTENTS = 18  # class, builtin value: an instance of a subclass with it as contents
    OBJECT = 19  # class, attribute, value, …: NEW without arguments, then STATE
    STATE = 20  # object, attribute, value, …: into its __dict__
    SLOTS = 21  # object, slot, value, …
    SET_STATE = 22  # object, state: calls its __setstate__
    EXTEND = 23  # list or deque, items…
    UPDATE = 24  # dict, key, value, …
    ADD = 25  # set, items…
    CHILD = 26  # kind (int), codec version (int), content key (bytes)
    TENSOR = 27  # storage (its number), dtype, sizes, strides, offset, flags: see tensor.py
    METHOD = 28  # object that this graph makes, name (str) of a function of its class


@dataclass(frozen=True, slots=True)
class Policy:
    """The bounds on the contents of an object graph.

    Args:
        callables: "module:qualname" of callables that decode may call; a class admits `cls(…)` and
            `cls.__new__(cls, …)`, and "module:qualname.__setstate__" admits that method.
        instances: Prefixes of modules, or "module:qualname", of classes that may be rebuilt: `__new__` of the
            builtin base without arguments, then the state put into `__dict__` and slots. No `__init__`, no
            `__setstate__`.
        names: Prefixes of modules, or "module:qualname", of objects that may be named at all; ("",) is
            everything importable. Those that `callables` and `instances` admit may be named too.
        tensor_classes: Admit the names of all subclasses of torch.Tensor.
        volatile: Class ("module:qualname") to attributes that are omitted from the bytes and set aside.
        replace: Class to a function that replaces the object's own `__reduce_ex__`.
        leaf_bytes: bytes, str and tensor storages of at least this length become child blobs.
    """

    callables: frozenset[str] = frozenset()
    instances: tuple[str, ...] = ()
    names: tuple[str, ...] = ("",)
    tensor_classes: bool = False
    volatile: Mapping[str, frozenset[str]] = field(default_factory=dict)
    replace: Mapping[str, Callable[[Any], Any]] = field(default_factory=dict)
    leaf_bytes: int = LEAF_BYTES

    def may_build(self, name: str) -> bool:
        """Tell whether instances of the class of this name may be rebuilt without calling it."""
        return _admits(self.instances, name)

    def may_name(self, name: str, value: Any) -> bool:
        """Tell whether an encoding may refer to this name of `value`."""
        if _admits(self.names, name) or name in self.callables or self.may_build(name):
            return True
        if is_torch_constant(value) or value is Ellipsis or value is NotImplemented:
            return True
        return self.tensor_classes and isinstance(value, type) and is_tensor_class(value)


@functools.lru_cache(4096)
def _admits(prefixes: tuple[str, ...], name: str) -> bool:
    module = name.partition(":")[0]
    return any(p in ("", name, module) or module.startswith(p + ".") for p in prefixes)


# Reasons for refusals.
NO_CALL: Final = "the policy does not admit calling it"
NO_INSTANCES: Final = "the policy does not admit instances of this class"
NO_NEW: Final = "it has a __new__ of its own, which the policy does not admit"

PLAIN = Policy(names=())  # containers, scalars and tensors; no names, no objects

# Callables of the standard library that only build containers; every policy admits them.
SAFE_CALLABLES: Final = frozenset(
    {
        "collections:Counter",
        "collections:OrderedDict",
        "collections:defaultdict",
        "collections:deque",
    }
)
# Builtin types whose subclasses are encoded by their contents.
BUILTIN_BASES: Final = (int, float, complex, str, bytes, tuple, frozenset)


def setstate_name(cls: type) -> str:
    """Return the name of a class's `__setstate__`, by its defining class; empty if there is none."""
    for base in cls.__mro__:
        if "__setstate__" in base.__dict__:
            return f"{base.__module__}:{base.__qualname__}.__setstate__"
    return ""


def find_function(cls: type, name: str) -> types.FunctionType | None:
    """Return a Python function of a class without running descriptors; None for anything else."""
    for base in cls.__mro__:
        if name in base.__dict__:
            value = base.__dict__[name]
            return value if isinstance(value, types.FunctionType) else None
    return None


def builtin_new(cls: type) -> bool:
    """Tell whether `cls.__new__` is implemented in C and so runs no Python of the class."""
    for base in cls.__mro__:
        if "__new__" in base.__dict__:
            return not isinstance(base.__dict__["__new__"], staticmethod)
    return False
