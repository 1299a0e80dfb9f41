"""Digest everything a frame's code can reach by name.

Values that guards compare are left to them. Everything they miss is digested here: functions (code, defaults,
closures, attributes), classes (the whole MRO, each entry found by a traced name or a special method, members
of enumerations with their values), modules by their named attributes, instances by type and by the code-like
part of their state, hooks, and which objects are identical.

*Named* means: in the code that Dynamo traced (`Scope`). The same walk runs when a frame is recorded and when
it is about to be served; anything that appeared or disappeared in between changes the digest. Code of torch
and Python counts by its location in their files, so that only patched code is inspected.
"""

from __future__ import annotations

import enum
import functools
import sys
import types
from collections import OrderedDict, deque
from collections.abc import Iterable, Mapping
from typing import Any, Final

import torch
import torch.nn.modules.module as nn_module

from firebrick.base.digest import hasher_for
from firebrick.base.namedtuple import NamedTuple
from firebrick.base.shipped import (
    find,
    is_pinned,
    is_shipped_class,
    of_compiler,
)
from firebrick.errors import NotStorable
from firebrick.torch_api import native
from firebrick.torch_api.compiler_free import GENERATED
from firebrick.validity.classes import ANY_NAME, CALLED
from firebrick.validity.code_facts import LONGEST_NAME, code_facts, names_in
from firebrick.validity.exact import OF_TORCH, PLAIN, exact, peculiarity
from firebrick.validity.functions import BUILTINS, Functions
from firebrick.validity.tensors import extent_of, tensor_state

_MAX_NODES: Final = 100_000
_ROUNDS: Final = 6  # rounds of a walk through code that the compiler runs
_MAX_ITEMS: Final = 20_000  # items of one container
_CONTAINERS: Final = (tuple, list, dict, set, frozenset, deque, types.MappingProxyType)
_OPERATORS: Final = native.OPERATOR_CLASSES
_HOOKS: Final = frozenset(
    {
        "_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks",
        "_forward_hooks_with_kwargs", "_forward_hooks_always_called", "_forward_pre_hooks_with_kwargs",
    }
)  # fmt: skip
_COMPILED: Final = ("OptimizedModule", "LeanModule")
_CODE_FROM_TEXT: Final = frozenset({"eval", "exec", "globals", "__import__"})
_LOOK_UP: Final = frozenset({"getattr", "hasattr", "vars"})
_UNFOLLOWED: Final = frozenset({"logging", "threading", "weakref", "_thread", "_weakref"})


class Scope(NamedTuple):
    """The names and code the compiler looked at while tracing a frame; kept with the bundle.

    Attributes:
        names: of globals and attributes, and strings that may be such.
        codes: digests of the traced code (see `code_facts`); the globals it loads are followed.
        roots: ``module:qualified name`` of functions of torch and Python that were traced or are called by
            the graph, and their identity (`function_text`). They count if their module is imported: otherwise
            they are as shipped.
        run: digests of code, and ``module:qualified name`` of classes, that Python ran untraced while the
            frame was compiled, such as the key of a folded ``max``: everything these can run counts.
    """

    names: frozenset[str]
    codes: frozenset[str]
    roots: tuple[tuple[str, str], ...]
    run: frozenset[str] = frozenset()


class Reach(NamedTuple):
    """The result of a walk.

    Attributes:
        digest: of all entries, 32 bytes.
        entries: path -> what is there, in the order of discovery.
        codes: digests of the code objects met.
    """

    digest: bytes
    entries: Mapping[str, str]
    codes: frozenset[str]


def reach(code: types.CodeType, scope: Mapping[str, Any], values: Mapping[str, Any], seen: Scope) -> Reach:
    """Walk from a frame.

    Args:
        code: the frame's code object.
        scope: the frame's globals.
        values: the frame's locals, cells included.
        seen: names and code the compiler looked at.

    Raises:
        NotStorable: too much is within reach, or code has no digest.
    """
    walk = Walk(seen)
    walk.root(code, scope, values)
    return walk.finish()


def roots_changed(seen: Scope) -> list[tuple[str, str | None, str | None]]:
    """Return the functions of torch and Python that changed: path, old text, new text."""
    found = [(path, text, function_text(path)) for path, text in seen.roots]
    return [(path, text, here) for path, text, here in found if here is not None and here != text]


def function_text(path: str) -> str | None:
    """Return a function's location or code, and its defaults; ``None`` if its module is not imported.

    Args:
        path: ``module:qualified name``.
    """
    if path.partition(":")[0] not in sys.modules:
        return None
    function = find(path)
    if type(function) is not types.FunctionType:
        return f"a {type(function).__qualname__}"
    values = [*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()]
    defaults = ", ".join(exact(value) or type(value).__qualname__ for value in values)
    return f"{code_facts(function.__code__).digest}({defaults})"


class Walk(Functions):
    """One walk; used once. Runs no user code: no descriptor, no ``__getattr__``, no comparison."""

    def __init__(self, scope: Scope, *, whole: bool = False) -> None:
        super().__init__(scope, whole=whole)
        self.texts: set[str] = set()
        self._memory: dict[int, list[tuple[int, int, str]]] = {}  # address -> first and last byte, place

    def whole_digest(self, value: Any) -> str:
        """Return the digest of an object and everything it can run, from a separate walk."""
        return whole_digest(value)

    def root(self, code: types.CodeType, scope: Mapping[str, Any], values: Mapping[str, Any]) -> None:
        """Start at a frame."""
        module = str(scope.get("__name__", ""))
        for name, value in list(values.items()):
            self.add(f"local {name}", value)
        facts = code_facts(code)
        self.codes.update((facts.digest, *facts.nested))
        self.follow(facts, scope, module)
        self.run_inside(code, scope, module)
        self.add("class torch.Tensor", torch.Tensor)
        self.add("class torch.nn.Parameter", torch.nn.Parameter)
        for name, hooks in vars(nn_module).items():
            if name.startswith("_global_") and isinstance(hooks, dict) and hooks:
                self.add(f"torch.nn.{name}", list(hooks.values()))

    def finish(self) -> Reach:
        """Visit everything still queued, and return the result."""
        count = 0
        while self.todo:
            path, value, whole = self.todo.popleft()
            count += 1
            if count > _MAX_NODES:
                raise NotStorable(f"more than {_MAX_NODES} objects are within reach of the code")
            self._visit(path, value, whole)
        self._overlaps()
        self.registrations()
        hasher = hasher_for("firebrick 1 reach")
        for name, text in self.entries.items():
            hasher.update(f"{name}\t{text}\n".encode("utf-8", "surrogatepass"))
        return Reach(hasher.digest(), self.entries, frozenset(self.codes))

    def _overlaps(self) -> None:
        """Record which tensors share memory: a write to one is seen in the other."""
        for places in self._memory.values():
            end, first = -1, (0, "")
            for start, last, path in sorted(places, key=lambda place: place[:2]):
                if start <= end:
                    self.note(path, f"in the memory of {first[1]}, at byte {start - first[0]}")
                if last > end:
                    end, first = last, (start, path)

    def _visit(self, path: str, value: Any, whole: bool) -> None:
        kind = type(value)  # never `isinstance`: it asks the object
        if kind in PLAIN or kind in OF_TORCH:
            if self.whole and kind is str and len(value) <= LONGEST_NAME and value.isidentifier():
                self.texts.add(value)  # it may be the name of an attribute
            if text := exact(value) if whole else peculiarity(value):
                self.note(path, text)
        elif kind is tuple or kind is frozenset:  # whether equal ones are identical is chance
            self._container(path, value, kind, whole)
        elif (first := self.seen.get(id(value))) is not None:
            if first != path and not issubclass(kind, (types.ModuleType, *BUILTINS)):
                self.note(path, f"is {first}")
        elif issubclass(kind, types.ModuleType):
            self._module(path, value)
        else:
            self.see(value, path)
            self._object(path, value, kind, whole)

    def _object(self, path: str, value: Any, kind: type, whole: bool) -> None:
        self.refuse_environment(value)
        if kind is types.FunctionType:
            self.function(path, value)
        elif issubclass(kind, type):
            label = self.of_class(value)
            if not is_shipped_class(value) or path.rpartition(".")[2] != value.__name__:
                self.note(path, f"is class {label}")
        elif issubclass(kind, torch.Tensor):
            if state := tensor_state(value, self.scope.names):
                self.note(path, state)
            if kind is not torch.Tensor and kind is not torch.nn.Parameter:
                self._instance(path, value)
            elif (extent := extent_of(value)) is not None:
                memory, first, last = extent
                self._memory.setdefault(memory, []).append((first, last, path))
        elif issubclass(kind, torch.nn.Module):
            self._nn_module(path, value)
        elif issubclass(kind, BUILTINS):
            self.builtin(path, value)
        elif kind is types.MethodType:
            self.add(f"{path}.__func__", value.__func__)
            self.add(f"{path}.__self__", value.__self__)
        elif kind is types.CodeType:
            facts = code_facts(value)
            self.note(path, f"code {facts.digest}")
            self.codes.update((facts.digest, *facts.nested))
        elif issubclass(kind, enum.Enum):
            self.note(path, str(exact(value)))
            self.of_class(kind)
        elif issubclass(kind, functools.partial):
            self.add(f"{path}.func", value.func)
            self.add(f"{path}.args", (*value.args, value.keywords), whole=True)
        elif kind is functools._lru_cache_wrapper:
            self.note(path, "a cached function")
            self.add(f"{path}.__wrapped__", value.__wrapped__)
        elif issubclass(kind, _OPERATORS):
            self.note(path, f"operator {value}")
        elif kind is types.CellType:
            self.cell(path, value)
        elif not self.descriptor(path, value):
            self._container(path, value, kind, whole)

    def _container(self, path: str, value: Any, kind: type, whole: bool) -> None:
        """Visit the items of a container, bypassing its class's methods, and the object itself."""
        base: Any = next((base for base in _CONTAINERS if issubclass(kind, base)), None)
        if base is not None:
            if (count := base.__len__(value)) > _MAX_ITEMS:
                raise NotStorable(f"{path} holds {count} items")
            if kind is tuple or kind is frozenset:
                text = exact(value)
                if text is not None:
                    self.note(path, text if whole else peculiarity(value))
                    return
            if base is dict or base is types.MappingProxyType:
                self._mapping(path, value, whole)
            elif base is set or base is frozenset:
                self._set(path, base.__iter__(value))
            else:
                for number, item in enumerate(base.__iter__(value)):
                    self.add(f"{path}[{number}]", item, whole)
        if kind not in _CONTAINERS:
            self._instance(path, value)

    def _mapping(self, path: str, value: Any, whole: bool) -> None:
        items = dict.items(value) if issubclass(type(value), dict) else value.items()
        if issubclass(type(value), OrderedDict) and [*OrderedDict.keys(value)] != [*dict.keys(value)]:
            self.note(path, f"order of keys {exact(tuple(OrderedDict.keys(value)))}")  # guards see the other
        for number, (key, item) in enumerate(list(items)):
            if type(key) is str and key.startswith(GENERATED):  # the compiler's, among the program's globals
                continue
            name = exact(key)
            if name is None:
                name = f"#{number}"
                self.add(f"{path} key {name}", key, whole)
            self.add(f"{path}[{name}]", item, whole)

    def _set(self, path: str, items: Iterable[Any]) -> None:
        """Record the items of a set in the order of their texts."""
        plain: list[str] = []
        named: list[Any] = []
        for item in items:
            if (text := exact(item)) is not None:
                plain.append(text)
            elif issubclass(type(item), type) or type(item) is types.FunctionType:
                named.append(item)
            if issubclass(type(item), enum.Enum):
                self.of_class(type(item))
        self.note(path, "{" + ", ".join(sorted(plain)) + "}")
        named.sort(key=lambda item: (str(item.__module__), item.__qualname__))
        for number, item in enumerate(named):
            self.add(f"{path} item {number}", item)

    def _module(self, path: str, module: types.ModuleType) -> None:
        """Visit the named attributes of a module; nothing of the compiler's."""
        name = str(vars(module).get("__name__", ""))
        self.see(module, path)
        if path.rpartition(".")[2] != name.rpartition(".")[2] and not path.startswith("import "):
            self.note(path, f"is module {name}")
        if of_compiler(name):
            return
        attributes, pinned = vars(module), is_pinned(name)
        for attribute in sorted(self.scope.names & attributes.keys()):
            value = attributes[attribute]
            if not pinned or self.is_patched(name, attribute, value):
                self.named(f"{name}.{attribute}", value)
        if type(module) is not types.ModuleType and not is_pinned(type(module).__module__):
            self.note(path, f"a {self.of_class(type(module))}")
        if not pinned and "__getattr__" in attributes:  # Python asks it for absent attributes
            self.runs(f"{name}.__getattr__", attributes["__getattr__"])

    def _nn_module(self, path: str, module: torch.nn.Module) -> None:
        """Record an nn.Module: its class, hooks, named attributes, tensors by identity, and submodules."""
        attributes = vars(module)
        if type(module).__name__ in _COMPILED and "_orig_mod" in attributes.get("_modules", {}):
            self.note(path, "compiled")
            self.add(f"{path}._orig_mod", attributes["_modules"]["_orig_mod"])
            return
        if "_orig_mod" in attributes and type(module).__name__ in _COMPILED:
            self.note(path, "compiled")
            self.add(f"{path}._orig_mod", attributes["_orig_mod"])
            return
        self.note(path, f"a {self.of_class(type(module))}")
        for name, value in attributes.items():
            if name in ("_parameters", "_buffers", "_modules"):
                for key, item in value.items():
                    if item is not None:
                        self.add(f"{path}.{key}", item)
            elif name in _HOOKS:
                if value:
                    self.note(f"{path}.{name}", f"{len(value)} hooks")
                    for number, hook in enumerate(value.values()):
                        self.add(f"{path}.{name}[{number}]", hook, whole=True)
            elif self.counts(name) or name in CALLED:
                self.named(f"{path}.{name}", value)

    def _instance(self, path: str, value: Any) -> None:
        """Record an object: its class, and the attributes the names find."""
        kind = type(value)
        self.note(path, f"a {self.of_class(kind)}")
        if kind.__module__.partition(".")[0] in _UNFOLLOWED:
            return
        attributes = object.__getattribute__(value, "__dict__") if _has_dict(kind) else {}
        for name, item in list(attributes.items()):
            if self.counts(name):
                self.named(f"{path}.{name}", item)
        for base in kind.__mro__:
            if is_pinned(base.__module__) and base.__module__ != "dataclasses":
                continue
            for name, member in vars(base).items():
                if type(member) is types.MemberDescriptorType and self.counts(name):
                    try:
                        self.add(f"{path}.{name}", member.__get__(value))
                    except AttributeError:  # an empty slot
                        self.note(f"{path}.{name}", "empty")


def _has_dict(kind: type) -> bool:
    """Tell whether instances of a class have an ordinary attribute dictionary."""
    entries = (vars(base).get("__dict__") for base in kind.__mro__)
    return any(type(entry) in (types.GetSetDescriptorType, types.MemberDescriptorType) for entry in entries)


def whole_reach(value: Any) -> Reach:
    """Walk from an object: all code is followed, and plain values count wherever they are.

    For code the compiler calls without tracing: custom passes of Inductor, fakes and other Python kernels of
    operators, functions among the options of torch.compile. It runs while a graph is compiled, so all of it
    counts, including the values of its globals.

    Raises:
        NotStorable: the walk does not end.
        EncodeError: code has no digest.
    """
    names: frozenset[str] = frozenset({"__call__"})
    for _ in range(_ROUNDS):
        walk = Walk(Scope(names, frozenset(), ()), whole=True)
        walk.add("it", value, whole=True)
        found = walk.finish()
        more = names.union(walk.texts, *map(names_in, walk.met))
        loaded = {name for code in walk.met for name in code_facts(code).globals}
        if loaded & _CODE_FROM_TEXT:
            raise NotStorable("code that the compiler runs untraced makes code, or looks up any global")
        if loaded & _LOOK_UP or "__dict__" in more:
            more |= ANY_NAME
        if more == names:
            return found
        names = more
    raise NotStorable(f"what {getattr(value, '__qualname__', type(value).__qualname__)} can run has no end")


def whole_digest(value: Any) -> str:
    """Return the digest of an object and everything it can run, hexadecimal; see `whole_reach`."""
    return whole_reach(value).digest.hex()[:32]
