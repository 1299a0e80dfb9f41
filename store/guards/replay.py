"""Rebuild a specialisation's guards from its guard program, without torch's compiler.

The program's steps are replayed on torch's C++ guard managers, in Dynamo's order. Source followed:
``torch/_dynamo/guards.py``, ``torch/csrc/dynamo/guards.cpp``.
"""

from __future__ import annotations

import functools
import importlib
import sys
import weakref
from collections.abc import Callable, Mapping
from types import CodeType, MappingProxyType
from typing import Any, Final

import torch

from firebrick.base.namedtuple import namedtuple_scope
from firebrick.codecs.guard_program import FIND, NUMBERS, OF_NODES, OPERATIONS, GuardProgram, Operand
from firebrick.errors import NotStorable
from firebrick.guards.examples import example, sample
from firebrick.guards.guard_functions import accessor, leaf
from firebrick.guards.identity_guards import Describer, compiler_behind, find, of_compiler
from firebrick.guards.manager import Manager, configure, hold, manager_types, on_dynamo_imported, stand_ins
from firebrick.guards.shapes import NotInLanguage, compile_guard
from firebrick.guards.sources import evaluate
from firebrick.guards.static_tensors import TENSOR, StaticTensors
from firebrick.guards.values import value_of
from firebrick.reports.events import Change
from firebrick.reports.not_served import GuardsNotApplicable, ObjectChanged
from firebrick.torch_api import native
from firebrick.torch_api.native import guards as cpp

__all__ = ["GuardsNotApplicable", "Manager", "ObjectChanged", "build", "on_dynamo_imported", "stand_ins"]

_CONSTANT: Final = frozenset({Operand.SCOPE, Operand.STACK, Operand.EMPTY, Operand.KEYS})


def build(
    program: GuardProgram, scope: dict[str, Any], code: CodeType, f_locals: Mapping[str, Any] | None = None
) -> Manager:
    """Build the guard manager of a program.

    Args:
        program: decoded; its body was checked against its content key.
        scope: globals of the frame; generated names that guards read are installed there.
        code: the frame's code object.
        f_locals: the frame's locals, if available: then objects without a name are guarded by address, like
            in torch; otherwise by a Python function that inspects their code on every call.

    Raises:
        ObjectChanged: an object that guards know by name and code has changed.
        GuardsNotApplicable: the guards cannot pass now or, with `f_locals`, for these locals.

    Any thread may call it; one at a time builds.
    """
    with stand_ins(), native.DisableTorchFunction():
        configure(program.immutable_tensors, program.saved_pointers)
        manager = _Build(program, scope, code, f_locals).run()
        if "torch._dynamo.guards" in sys.modules:
            on_dynamo_imported()  # if Dynamo is already loaded
        return manager


class _Build:
    """A replay of one program; used once."""

    def __init__(
        self,
        program: GuardProgram,
        scope: dict[str, Any],
        code: CodeType,
        f_locals: Mapping[str, Any] | None,
    ) -> None:
        self.program = program
        self.scope = scope
        self.f_locals = f_locals
        self.code = code
        self.managers: list[Any] = []
        self.makers: list[list[Any]] = [[]]  # the steps that made each manager
        self.guarded: dict[int, tuple[Any, str]] = {}  # objects guarded by address
        self.describer = Describer()
        self.statics = StaticTensors()
        self.known: dict[int, Any] = {}  # identities found by name
        self.terms: list[Any] = [_UNREAD] * len(program.terms)
        self.dummies: list[Any] = [_UNREAD] * len(program.examples)
        self.absent: set[str] = set()  # generated globals of compiler modules that are not loaded
        self.tensors: list[str] = []
        self.aliased: list[str] = []
        self.operand: dict[str, Callable[[Any], Any]] = {
            Operand.LOCAL: self._local,
            Operand.TEXT: program.texts.__getitem__,
            Operand.STATE: self._state,
            Operand.TEXTS: program.parts.__getitem__,
            Operand.NAMES: self._names,
            Operand.TERM: self._term,
            Operand.MAPPING: lambda index: MappingProxyType(dict.fromkeys(self._term(index))),
            Operand.EXAMPLE: self._example,
            Operand.DICT: manager_types().__getitem__,
            Operand.NUMBER: lambda number: number,
            Operand.TYPE: self._found,
            Operand.KEY_SET: _key_set,
            Operand.MANAGER: self._manager,
            Operand.MANAGERS: lambda indices: [*map(self._manager, indices)],
        }
        self.constant: dict[str, Any] = {Operand.SCOPE: scope, Operand.STACK: None, Operand.EMPTY: []}
        self.special: dict[str, Callable[[Any, list[Any]], None]] = {
            "add_tensor_match_guard": self._tensor_guard,
            "add_id_match_guard": self._identity_guard,
            "add_type_match_guard": self._identity_guard,
            "add_tuple_iterator_length_guard": self._identity_guard,
            "add_range_iterator_match_guard": self._identity_guard,
            "add_default_device_guard": self._device_guard,
            "add_lambda_guard": self._lambda_guard,
            "add_epilogue_lambda_guard": self._lambda_guard,
            "lambda_manager": self._lambda_manager,
        }

    def run(self) -> Manager:
        self._install_generated_names()
        with _no_dispatch_state():  # since torch 2.14 tensor guards include their dispatch state
            root = cpp.RootGuardManager()
        self.managers.append(root)
        managers, makers = self.managers, self.makers
        plans = [self._plan(operation.operands) for operation in OPERATIONS]
        names = [operation.name for operation in OPERATIONS]
        special = [self.special.get(name) for name in names]
        functions = [getattr(cpp, o.name) if o.function else None for o in OPERATIONS]
        absent = self.absent
        for step in self.program.steps:
            number = step[0]
            if (absent or number == _GETATTR or managers[step[1]] is None) and self._is_pinned(step):
                continue
            if (handler := special[number]) is not None:
                handler(names[number], step)
                continue
            operands = iter(step)
            next(operands), next(operands)
            arguments = [constant if get is None else get(next(operands)) for get, constant in plans[number]]
            function = functions[number]
            if function is None:
                function = getattr(managers[step[1]], names[number])
            made = function(*arguments)
            if OPERATIONS[number].makes:
                managers.append(made)
                makers.append(step)
        manager = Manager(root, self.scope, self.tensors, self.aliased)
        manager.statics = self.statics.found
        for value, name in self.guarded.values():
            hold(manager, value, name)
        return manager

    def _plan(self, operands: tuple[tuple[str, str], ...]) -> list[tuple[Any, Any]]:
        return [
            (None, self.constant.get(sort)) if sort in _CONSTANT else (self.operand.get(sort), None)
            for _, sort in operands
        ]

    def _install_generated_names(self) -> None:
        if name := self.program.builtins:
            found = self.scope.get("__builtins__", __builtins__)
            self.scope.setdefault(name, found if isinstance(found, dict) else found.__dict__)
        for alias, module in self.program.imports:
            if of_compiler(module) and module not in sys.modules:
                self.absent.add(alias)
            elif alias not in self.scope:
                self.scope[alias] = _module(module)

    def _is_pinned(self, step: list[Any]) -> bool:
        """Tell whether a step lies inside a compiler module that is not imported.

        The code guarded there is pinned by the platform, so it is unchanged.
        """
        number, manager = step[:2]
        if manager >= 0 and self.managers[manager] is not None and not self._leads_into_compiler(step):
            return False
        if OPERATIONS[number].makes:
            self.managers.append(None)
            self.makers.append(step)
        return bool(manager >= 0)

    def _leads_into_compiler(self, step: list[Any]) -> bool:
        number, manager, *operands = step
        if number == _GETATTR:
            behind = compiler_behind(*(self.program.texts[text] for text in operands[:2]))
            return behind is not None and behind not in sys.modules
        if number != _DICT_GETITEM or not manager or self.makers[manager][0] != _GLOBALS:
            return False
        return self._term(operands[0]) in self.absent

    # Operands.

    def _local(self, index: int) -> tuple[str, int]:
        name = self.program.texts[index]
        names = native.eval_frame.code_framelocals_names(self.code)
        if name not in names:
            raise ObjectChanged(f"no local variable {name}")
        return name, len(names) - 1 - names[::-1].index(name)

    def _state(self, index: int) -> Any:
        state = cpp.GlobalStateGuard()
        state.__setstate__(self.program.texts[index])  # type: ignore[attr-defined]
        return state

    def _names(self, index: int) -> list[str]:
        self.aliased = self.program.parts[index]
        return self.aliased

    def _manager(self, index: int) -> Any:
        manager = self.managers[index]
        if manager is None:
            raise ObjectChanged("a guard that compares with an object of the compiler")
        return manager

    def _term(self, index: int) -> Any:
        value = self.terms[index]
        if value is _UNREAD:
            try:
                value = value_of(self.program.terms[index], self._found)
            except (ValueError, TypeError, LookupError, AttributeError) as error:
                raise ObjectChanged(f"a stored value cannot be made here: {error}") from error
            if type(value) not in (list, set):  # copied, so that no two guards share one
                self.terms[index] = value
        return value

    def _example(self, index: int) -> Any:
        dummy = self.dummies[index]
        if dummy is _UNREAD:
            identity, immutable, length = self.program.examples[index]
            cls = None
            if identity >= 0:
                kind, name, _, _ = self.program.identities[identity]
                try:
                    cls = find(kind, name)
                except (LookupError, AttributeError, StopIteration):
                    cls = None
            if length == OF_NODES:
                length = len(native.SUPPORTED_NODES)
            dummy = self.dummies[index] = example(cls, bool(immutable), length)
        return dummy

    # Identities.

    def _found(self, index: int) -> Any:
        """Return an object by name, if it is unchanged."""
        if index not in self.known:
            kind, name, digest, _ = self.program.identities[index]
            try:
                value = find(kind, name)
            except (LookupError, AttributeError, StopIteration):
                change = Change(name, kind, "not there")
                raise ObjectChanged(f"{kind} {name} is not there", change) from None
            self._compare(value, (kind, name, digest), name)
            self.known[index] = value
        return self.known[index]

    def _compare(self, value: Any, wanted: tuple[str, str, str], where: str) -> None:
        if wanted[0] == TENSOR:
            return self.statics.check(value, wanted, where)
        try:
            here = self.describer.describe(value)
        except NotStorable as error:
            change = Change(where, " ".join(wanted[:2]), str(error))
            raise ObjectChanged(f"{where}: {error}", change) from error
        if here != wanted:
            from firebrick.reports.wording import object_change  # nothing is reported if nothing changed

            change = object_change(where, wanted[:2], here[:2], value)
            raise ObjectChanged(str(change), change)

    def _identity_guard(self, name: str, step: list[Any]) -> None:
        """Guard the address of an object, or of a value's type."""
        operation = OPERATIONS[step[0]]
        stored = dict(
            zip((k for k, sort in operation.operands if sort not in _CONSTANT), step[2:], strict=True)
        )
        index = next(stored[key] for key, sort in operation.operands if sort == Operand.IDENTITY)
        of_type = name != "add_id_match_guard"
        kind, known_as, digest, how = self.program.identities[index]
        manager = self.managers[step[1]]
        parts = self.program.parts[stored["verbose_code_parts"]]
        if how == FIND:
            value = self._found(index)
        else:
            source = manager.get_source()
            try:
                value = evaluate(self, step[1])
            except LookupError:  # the locals are not available
                check = self._recognise((kind, known_as, digest), of_type)
                manager.add_lambda_guard(check, parts, None)
                return
            value = type(value) if of_type else value
            self._compare(value, (kind, known_as, digest), source)
        address = id(value)
        self.guarded[address] = value, known_as
        arguments: list[Any] = []
        for key, sort in operation.operands:
            if sort == Operand.IDENTITY:
                arguments.append(address)
            elif sort == Operand.TEXTS:
                arguments.append([part.replace("\0", str(address)) for part in parts])
            else:
                arguments.append(None if sort in _CONSTANT else self.operand[sort](stored[key]))
        getattr(manager, name)(*arguments)

    def _recognise(self, wanted: tuple[str, str, str], of_type: bool) -> Callable[[Any], bool]:
        """Return a check for objects without a name; it remembers the last one recognised."""
        known: Callable[[], Any] = lambda: None  # noqa: E731

        def check(value: Any) -> bool:
            nonlocal known
            value = type(value) if of_type else value
            if value is not None and known() is value:
                return True
            try:
                if Describer().describe(value) != wanted:
                    return False
                known = weakref.ref(value)
            except (NotStorable, TypeError):
                return False
            return True

        return check

    # Steps handled specially.

    def _tensor_guard(self, name: str, step: list[Any]) -> None:
        _, index, tensor, sizes, strides, source, parts, cls = step
        dtype, device, number, requires_grad, keys = self.program.tensors[tensor]
        value = sample(dtype, device, number, requires_grad, len(self._term(sizes)))
        kind = self._found(cls)
        text = self.program.texts[source]
        if not issubclass(kind, torch.nn.Parameter):
            self.tensors.append(text)
        arguments = (
            *(value, self._term(sizes), self._term(strides), text, self.program.parts[parts], None, kind),
            _key_set(keys),
        )
        # the stored keys include the recording thread's state, so this thread's must not count
        with _no_dispatch_state():
            self.managers[index].add_tensor_match_guard(*arguments)

    def _device_guard(self, name: str, step: list[Any]) -> None:
        _, index, parts = step
        wanted, here = value_of(self.program.device, self._found), native.current_device()
        if wanted != here:  # the guard would accept the present value as the stored one
            change = Change("default device", str(wanted), str(here))
            raise GuardsNotApplicable(str(change), change)
        self.managers[index].add_default_device_guard(self.program.parts[parts], None)

    def _lambda_guard(self, name: str, step: list[Any]) -> None:
        _, index, function, parts = step
        kind, *operands = self.program.functions[function]
        if kind == "shapes":
            try:
                check = compile_guard(operands[0], self.scope)
            except NotInLanguage as error:
                raise ObjectChanged(f"a guard over shapes: {error}") from error
        else:
            check = leaf(kind, operands, self._term)
        getattr(self.managers[index], name)(check, self.program.parts[parts], None)

    def _lambda_manager(self, name: str, step: list[Any]) -> None:
        _, index, function, source, dummy, kind = step
        made = self.managers[index].lambda_manager(
            accessor(*self.program.functions[function]), self.program.texts[source],
            self._example(dummy), self.operand[Operand.DICT](kind),
        )  # fmt: skip
        self.managers.append(made)
        self.makers.append(step)


_UNREAD: Final = object()
_DICT_GETITEM: Final = NUMBERS["dict_getitem_manager"]
_GETATTR: Final = NUMBERS["getattr_manager"]
_GLOBALS: Final = NUMBERS["globals_dict_manager"]


def _no_dispatch_state() -> Any:
    """Return a context in which a thread neither adds dispatch keys to a tensor's nor removes any."""
    return native.ForceDispatchKeyGuard(_key_set(0), _key_set(0))


_key_set = functools.cache(native.dispatch_keys_from)


def _module(name: str) -> Any:
    """Return a module of a package the program uses; never one of the compiler."""
    if (made := namedtuple_scope(name)) is not None:
        return made
    if name in sys.modules:
        return sys.modules[name]
    if of_compiler(name) or name.split(".", 1)[0] not in sys.modules:
        raise ObjectChanged(f"module {name} is not imported")
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ObjectChanged(f"module {name}: {error}") from error
