"""Record what Dynamo looked at while tracing one frame, and derive a bundle's validity data from it."""

from __future__ import annotations

import enum
import functools
from collections.abc import Iterable, Mapping
from types import CodeType, FunctionType
from typing import Any, Final

from firebrick.base.shipped import code_key, find, is_shipped_class, is_static, shipped_file
from firebrick.bundle.platform import PROCESS_FUNCTIONS
from firebrick.codecs.code import code_digest
from firebrick.errors import NotStorable
from firebrick.validity.code_facts import code_facts, names_in
from firebrick.validity.facts import FOLDS, HASH_SEED, OVERRIDES, PURE, ask, path_of
from firebrick.validity.operator_kernels import UNKNOWN
from firebrick.validity.reach import Reach, Scope, function_text, reach
from firebrick.validity.tensors import TENSOR_STATE

_SEEDED: Final = (str, bytes)
_EVEN: Final = (int, bool, float)


class Traced:
    """A record of what Dynamo looked at. Used under torch's compile lock.

    Attributes:
        names: names and strings in the traced code, and names it created.
        facts: function, arguments, answer of each folded call, to be asked again.
        refused: why the frame cannot be stored; empty if it can.
        bound: graph -> tensors that it holds itself, until their guards are known.
        optimizers: source of an optimizer whose state was made -> how many lists its ``_init_group`` fills.
        in_order: sets whose order does not depend on hashes (see `firebrick.torch_api.tracing`).
    """

    def __init__(self, code: CodeType) -> None:
        self.names: set[str] = set()
        self.facts: list[list[Any]] = []
        self.refused = ""
        self.in_order: dict[int, Any] | None = {}
        self.bound: dict[str, list[Any]] = {}
        self.optimizers: dict[str, int] = {}
        self._codes: dict[int, CodeType] = {}
        self._of_torch: set[int] = set()  # code made by torch's and Python's own classes
        self._roots: set[str] = set()
        self._run: set[str] = set()
        self._sorting = 0
        self.inlined(code, None)

    def refuse(self, reason: str) -> None:
        """Record why the frame cannot be stored; the first reason stands."""
        self.refused = self.refused or reason

    def inlined(self, code: CodeType, function: Any) -> None:
        """Record traced code, and its function if there is one."""
        if id(code) not in self._codes:
            self._codes[id(code)] = code
            names = names_in(code)
            self.names |= {*names, code.co_name}
            if not shipped_file(code.co_filename):
                if "SUPPORTED_NODES" in names:
                    self.refuse("the code looks at torch's table of pytree nodes")
                self.names |= {f"tensor.{name}" for name in names & TENSOR_STATE}
                if "__hash__" in names:
                    self.refuse(
                        "a hash that the code asks an object for, which can be another in each process"
                    )
        if type(function) is FunctionType:
            self.called(function)
            if code.co_filename == "<string>" and _makes_shipped_tuple(function):
                self._of_torch.add(id(code))

    def makes(self) -> None:
        """Record that the code creates an object of a user class."""
        self.names |= {"__init__", "__new__", "__post_init__"}

    def ran(self, value: Any) -> None:
        """Record a value passed to Python while the compiler folded a call: Python may have called it."""
        kind = type(value)
        if kind is functools.partial:
            self.ran((value.func, value.args, tuple(value.keywords.values())))
        elif kind is tuple or kind is list:
            for item in value:
                self.ran(item)
        elif kind is FunctionType and not code_key(value.__code__):
            self._codes[id(value.__code__)] = value.__code__
            self._run.add(code_facts(value.__code__).digest)
        elif isinstance(value, type) and not is_static(value):
            self._run.add(f"{value.__module__}:{value.__qualname__}")

    def called(self, function: FunctionType) -> None:
        """Record a function that is traced or called by the graph; if it is torch's, its identity counts."""
        path = f"{function.__module__}:{function.__qualname__}"
        if shipped_file(function.__code__.co_filename) and find(path) is function:
            self._roots.add(path)

    def fact(self, name: str, arguments: list[Any]) -> None:
        """Record a function's answer about this process."""
        fact = [name, arguments, ask(name, arguments)]
        if UNKNOWN in fact[2]:
            self.refuse(f"{name} {fact[2]}")
        elif fact not in self.facts:
            self.facts.append(fact)

    def folded(self, function: Any, arguments: list[Any]) -> None:
        """Record the answer of a function that Dynamo calls, unless it is pure; refuse an unknown one."""
        path = path_of(function)
        if (
            path in PURE
            or path in PROCESS_FUNCTIONS
            or path.startswith(("builtins.", "operator.", "_operator."))
        ):
            return
        if path not in FOLDS:
            self.refuse(f"the compiler calls {path}, of which it is not known what it depends on")
        elif all(a is None or type(a) in (int, str, bool) for a in arguments):
            self.fact(path, arguments)
        else:
            self.refuse(f"{path} of what cannot be kept")

    def sorts(self) -> None:
        """Record that the next set iterated is sorted: its order does not count."""
        self._sorting = 1

    def compares_with(self, kind: Any) -> None:
        """Record the classes of an ``isinstance`` check; a protocol looks its members up by name."""
        for cls in kind if type(kind) is tuple else (kind,):
            for entries in map(vars, cls.__mro__ if isinstance(cls, type) else ()):
                if entries.get("_is_protocol"):
                    self.names.update(entries, entries.get("__annotations__", ()))

    def iterates(self, items: list[Any], kind: type) -> None:
        """Record that a set's order counts, which depends on the hash seed or on addresses."""
        if self._sorting:
            self._sorting = 0
            return
        if len(items) > 1 and kind in (set, frozenset):
            for item in items:
                self.hashes(item.as_python_constant() if item.is_python_constant() else item)

    def hashes(self, value: Any) -> None:
        """Record that the hash of a value counts."""
        kind = type(value)
        if kind in _SEEDED or isinstance(value, enum.Enum):
            self.fact(HASH_SEED, [])
        elif kind is tuple or kind is frozenset:
            for item in value:
                self.hashes(item)
        elif kind not in _EVEN:
            self.refuse(f"the order or hash of {kind.__qualname__} objects, another in each process")

    def scope(self) -> Scope:
        """Return the names and code that count."""
        codes = {code_facts(code).digest for code in self._codes.values()}
        texts = [(path, text) for path in sorted(self._roots) if (text := function_text(path)) is not None]
        return Scope(frozenset(self.names), frozenset(codes), tuple(texts), frozenset(self._run))

    def walk(
        self, code: CodeType, scope: Mapping[str, Any], values: Mapping[str, Any], guarded: Iterable[str]
    ) -> tuple[Scope, Reach]:
        """Walk from the frame, and check that the walk meets all user code that was traced.

        Args:
            code: the frame's code object.
            scope: its globals.
            values: its locals.
            guarded: hexadecimal digests of functions that the frame's guards compare by code.

        Raises:
            NotStorable: naming what no walk meets, or a folded call that cannot be asked again.
        """
        self.fact(OVERRIDES, [])
        if self.refused:
            raise NotStorable(self.refused)
        seen = self.scope()
        found = reach(code, scope, values, seen)
        known, compared = set(found.codes), set(guarded)
        for traced in self._codes.values():
            facts = code_facts(traced)
            shipped = bool(code_key(traced)) or id(traced) in self._of_torch
            if not (shipped or facts.digest in known or code_digest(traced).hex() in compared):
                raise NotStorable(f"inlined function {traced.co_qualname} cannot be found by its name")
        return seen, found


def _makes_shipped_tuple(function: FunctionType) -> bool:
    """Tell whether a function is the ``__new__`` of a named tuple of torch or Python, which has no file."""
    for cls in tuple.__subclasses__():
        if "__new__" in vars(cls) and cls.__new__ is function:
            return is_shipped_class(cls)
    return False
