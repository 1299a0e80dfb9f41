"""The part of a walk that visits classes: their bases, entries, members and registrations."""

from __future__ import annotations

import enum
import sys
import types
from collections import deque
from typing import Any, Final

import torch

from firebrick.base.shipped import is_pinned, is_shipped_class, is_static, shipped_file
from firebrick.torch_api.compiler_free import undisabled
from firebrick.validity.code_facts import code_facts
from firebrick.validity.exact import OF_TORCH, PLAIN, peculiarity

# Entries of a class that say nothing about its behaviour, unless the traced code names them.
_SILENT: Final = frozenset(
    {
        "__doc__", "__module__", "__dict__", "__weakref__", "__annotations__", "__qualname__",
        "__firstlineno__", "__static_attributes__", "__orig_bases__", "__parameters__",
        "__abstractmethods__", "__match_args__",
        "__annotate__", "__annotations_cache__", "__annotate_func__", "_abc_impl", "__type_params__",
        "__dataclass_params__", "_member_names_", "_member_map_", "_value2member_map_", "_member_type_",
        "__slots__", "__slotnames__",
        "__jit_unused_properties__", "__jit_ignored_attributes__", "__constants__",
    }
)  # fmt: skip
# Methods that create objects: they count if the traced code creates some.
_MAKING: Final = frozenset({"__init__", "__new__", "__post_init__", "__init_subclass__", "__set_name__"})
# Methods that Python or torch may call on an object during compilation without tracing them.
_NATIVE: Final = frozenset(
    {
        "__eq__", "__ne__", "__hash__", "__lt__", "__le__", "__gt__", "__ge__", "__bool__", "__index__",
        "__int__",
        "__float__", "__class_getitem__", "__instancecheck__", "__subclasscheck__", "__tensor_flatten__",
        "__tensor_unflatten__", "__torch_dispatch__", "__coerce_tangent_metadata__",
        "__coerce_same_metadata_as_tangent__", "__subclasshook__",
    }
)  # fmt: skip
# Other methods called without being named, by nn.Module and by enumerations.
CALLED: Final = frozenset({"forward", "_call_impl", "_wrapped_call_impl", "_missing_"})
_REPLACED: Final = frozenset({"__init__", "__setstate__"})  # in nn.Module, by Dynamo (mutation_guard.py)
# Among the names that count: all do, as far as attributes of objects and classes go.
ANY_NAME: Final = frozenset({"any name"})
_METACLASSES: Final = frozenset({"type", "ABCMeta", "EnumType", "EnumMeta"})


class Classes:
    """The queue of a walk, its findings, and the classes among them.

    Args:
        scope: names and code that count (`firebrick.validity.reach.Scope`).
        whole: follow all code and compare all values: for code the compiler runs without tracing it.
    """

    def __init__(self, scope: Any, *, whole: bool = False) -> None:
        self.scope = scope
        self.whole = whole
        self.todo: deque[tuple[str, Any, bool]] = deque()
        self.entries: dict[str, str] = {}
        self.seen: dict[int, str] = {}
        self.codes: set[str] = set()
        self.met: list[types.CodeType] = []  # user code, if all of it counts
        self._alive: list[Any] = []  # so that no address is reused
        self._labels: dict[int, str] = {}
        self._named: dict[str, int] = {}
        self._abstract: list[tuple[str, type]] = []

    def whole_digest(self, value: Any) -> str:
        """Return the digest of an object and everything it can run."""
        raise NotImplementedError

    def counts(self, name: str) -> bool:
        """Tell whether an attribute of an object or a user class counts."""
        return name in self.scope.names or self.scope.names >= ANY_NAME

    def add(self, path: str, value: Any, whole: bool = False) -> None:
        """Queue a value to visit.

        Args:
            path: its label.
            value: the value.
            whole: whether plain values count; otherwise guards compare them.
        """
        whole = whole or self.whole
        if whole or type(value) not in _QUIET:
            self.todo.append((path, value, whole))

    def named(self, path: str, value: Any) -> None:
        """Queue a value found by name: its presence counts, whatever it is."""
        if (type(value) in PLAIN or type(value) in OF_TORCH) and not self.whole:
            self.note(path, peculiarity(value) or "there")
        else:
            self.add(path, value)

    def note(self, path: str, text: str) -> None:
        """Record what is at a path."""
        known = self.entries.get(path)
        self.entries[path] = text if known is None else f"{known}; {text}"

    def see(self, value: Any, path: str) -> None:
        """Record that this very object is at this path."""
        self.seen[id(value)] = path
        self._alive.append(value)

    def of_class(self, cls: type) -> str:
        """Return the label of a class and queue it; two classes with one name get distinct labels."""
        label = self._labels.get(id(cls))
        if label is None:
            name = f"{cls.__module__}:{cls.__qualname__}"
            count = self._named[name] = self._named.get(name, 0) + 1
            label = self._labels[id(cls)] = name if count == 1 else f"{name} ({count})"
            self._alive.append(cls)
            if not is_static(cls):
                shipped = is_shipped_class(cls)
                bases = [self.of_class(base) for base in cls.__mro__[1:-1]]
                if not shipped:
                    self.note(f"class {label}", f"bases {', '.join(bases)}")
                    self._kind(label, cls)
                if name in self.scope.run:
                    self.runs(f"class {label}", cls)
                self._entries(label, cls, shipped=shipped)
        return label

    def _kind(self, label: str, cls: type) -> None:
        """Record what makes a user class special: its metaclass, members, registrations."""
        if type(cls).__name__ not in _METACLASSES or not is_pinned(type(cls).__module__):
            self.note(f"class {label}", f"metaclass {self.of_class(type(cls))}")
        if isinstance(cls, enum.EnumType):
            members: dict[str, Any] = dict(cls.__members__)
            for name, member in members.items():
                self.add(f"class {label}.{name}", member._value_, whole=True)
        pytree = sys.modules.get("torch.utils._pytree")
        node = getattr(pytree, "SUPPORTED_NODES", {}).get(cls)
        if node is not None:
            self.note(f"pytree {label}", "registered")
            self.add(f"pytree {label} flatten", node.flatten_fn)
            self.add(f"pytree {label} unflatten", node.unflatten_fn)

    def _entries(self, label: str, cls: type, *, shipped: bool) -> None:
        names = self.scope.names
        for name, member in list(vars(cls).items()):
            special = name[:2] == "__" and name[-2:] == "__"
            silent = name in _SILENT or name in _MAKING  # unless named
            counts = name in names or (not (special or shipped) and self.counts(name))
            if not counts and (silent or not (special or name in CALLED)):
                if name == "_abc_impl":
                    self._abstract.append((label, cls))
                continue
            kind = type(member)
            if shipped:
                if kind in PLAIN or kind in OF_TORCH or (kind in _AS_SHIPPED and member.__name__ == name):
                    continue
                if _is_put_there_by_dynamo(cls, name, member):
                    continue
                if kind is types.FunctionType:
                    code = member.__code__
                    own = code.co_qualname == f"{cls.__qualname__}.{name}" and shipped_file(code.co_filename)
                    if own and not (member.__defaults__ or member.__kwdefaults__):
                        continue
                    if cls is torch.nn.Module and name in _REPLACED:
                        continue
            if isinstance(cls, enum.EnumType) and isinstance(member, cls):
                continue
            self.add(f"class {label}.{name}", member, whole=not shipped)
            if not shipped and not self.whole:
                self._run_by_python(f"class {label}.{name}", cls, member)

    def _run_by_python(self, path: str, cls: type, member: Any) -> None:
        """Record everything run by a method that Python calls untraced while a frame is compiled."""
        if isinstance(cls, enum.EnumType):  # its members are constants: Python answers for them itself
            inner = getattr(member, "__func__", None) or getattr(member, "fget", None)
        elif path.rpartition(".")[2] in _NATIVE:
            inner = getattr(member, "__func__", None)
        else:
            return
        function = inner or member
        traced = self.scope.codes
        if isinstance(function, types.FunctionType) and code_facts(function.__code__).digest not in traced:
            self.runs(path, function)

    def runs(self, path: str, function: Any) -> None:
        """Record everything run by a function that may be called without being traced."""
        self.note(f"{path} runs", self.whole_digest(function))

    def registrations(self) -> None:
        """Note, once all classes are met, which of them were registered as subclasses of an abstract one.

        Registrations by unrelated packages make no difference.
        """
        met = [cls for cls in self._alive if issubclass(type(cls), type)]
        for label, cls in self._abstract:
            found = [ref() for ref in sys.modules["_abc"]._get_dump(cls)[0]]
            registered = [c for c in found if c is not None and not is_pinned(c.__module__)]
            names = sorted(
                f"{c.__module__}:{c.__qualname__}"
                for c in registered
                if any(c in other.__mro__ for other in met)
            )
            if names:
                self.note(f"class {label}", f"registered {', '.join(names)}")


def _is_put_there_by_dynamo(cls: type, name: str, member: Any) -> bool:
    """Tell whether an entry of an optimizer is there once Dynamo is imported (``TorchPatcher``).

    It gives each class its own ``_init_group``, or that of a base, marked as not to be traced.
    """
    if name != "_init_group" or not cls.__module__.startswith("torch.optim."):
        return False
    plain = undisabled(member) if type(member) is types.FunctionType else member
    if type(plain) is not types.FunctionType or not shipped_file(plain.__code__.co_filename):
        return False
    return plain.__code__.co_qualname in {f"{base.__qualname__}.{name}" for base in cls.__mro__}


# Types of values that need no entry if guards compare them.
_QUIET: Final = (PLAIN | OF_TORCH) - {float, complex}
# Kinds of entries implemented in C in torch's and Python's own classes.
_AS_SHIPPED: Final = frozenset(
    {
        types.WrapperDescriptorType, types.MethodDescriptorType, types.GetSetDescriptorType,
        types.MemberDescriptorType, types.ClassMethodDescriptorType, types.BuiltinFunctionType,
    }
)  # fmt: skip
