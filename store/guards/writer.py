"""Turn a recorded build of guards into a guard program, or say which guard prevents it.

Anything that differs between processes (addresses, stacks, file names) stays out of the program.
"""

from __future__ import annotations

import re
import weakref
from collections.abc import Callable
from types import CodeType
from typing import Any, Final

import torch

from firebrick.codecs.guard_program import (
    FIND,
    NUMBERS,
    OF_NODES,
    OPERATIONS,
    SOURCE,
    GuardProgram,
    Operand,
)
from firebrick.errors import NotLean, NotStorable
from firebrick.guards.call_log import GuardCall, Log
from firebrick.guards.examples import DICT_MAKERS
from firebrick.guards.function_names import function_of
from firebrick.guards.growing_tables import in_one_guard
from firebrick.guards.identity_guards import Describer, compiler_behind, find, is_pinned, of_compiler, path_of
from firebrick.guards.shapes import NotInLanguage, canonical
from firebrick.guards.sources import CAN_FOLLOW
from firebrick.guards.static_tensors import StaticTensors
from firebrick.guards.values import same_value, term_of, value_of
from firebrick.reports.not_served import ObjectChanged
from firebrick.storage.msgpack import INT64, pack
from firebrick.torch_api.dynamo_modules import config

_UNSTABLE: Final = re.compile(r" at 0x[0-9a-f]+|(?<=') from '[^']*'|, file \"[^\"]*\", line \d+")
_HINT: Final = re.compile(r" \(HINT: .*\)$")
BUILTINS: Final = "__builtins_dict___firebrick"  # as in `firebrick.torch_api`


class _Table:
    """Unique rows, in order of first use."""

    def __init__(self) -> None:
        self.rows: list[Any] = []
        self._positions: dict[bytes, int] = {}

    def add(self, row: Any) -> int:
        key = pack(row, maps=False)
        if (position := self._positions.get(key)) is None:
            position = self._positions[key] = len(self.rows)
            self.rows.append(row)
        return position


class Writer:
    """A writer of one program; used once.

    Args:
        log: the recording.
        scope: globals of the frame.
        code: code object of the frame.
    """

    def __init__(self, log: Log, scope: dict[str, Any], code: CodeType) -> None:
        self._log = log
        self._scope = scope
        self._code = code
        self._describer = Describer()
        self.static = StaticTensors()
        self._weak: set[int] = set()  # managers of objects that other guards know by their address
        self._numbers: dict[int, int] = {}
        self._chains: list[tuple[int, int]] = [(0, 0)]  # operation and parent of each manager
        self._pinned: set[int] = set()  # managers inside compiler modules
        self._named_places: set[int] = set()  # managers of objects guarded by name
        self._imports: dict[str, str] = {}
        self._builtins = ""
        self._device: Any = None
        self._where = ""
        self.texts, self.parts, self.terms = _Table(), _Table(), _Table()
        self.identities, self.examples = _Table(), _Table()
        self.tensors, self.functions = _Table(), _Table()
        self.steps: list[list[Any]] = []
        self._write: dict[str, Callable[[GuardCall, Any], Any]] = {
            Operand.LOCAL: lambda call, value: self.texts.add(value[0]),
            Operand.TEXT: lambda call, value: self.texts.add(self._canonical(value)),
            Operand.TEXTS: lambda call, value: self.parts.add([*map(self._stable, value)]),
            Operand.NAMES: lambda call, value: self.parts.add([*map(self._canonical, value)]),
            Operand.TERM: lambda call, value: self._term(value),
            Operand.MAPPING: lambda call, value: self._term(call.facts),
            Operand.EXAMPLE: self._example,
            Operand.DICT: lambda call, value: int(self._of_keys(call)),
            Operand.NUMBER: self._number,
            Operand.TYPE: lambda call, value: self._named(value),
            Operand.TENSOR: lambda call, value: self.tensors.add(call.facts),
            Operand.KEY_SET: lambda call, value: value.raw_repr(),
            Operand.STATE: lambda call, value: self.texts.add(value.__getstate__()),
            Operand.FUNCTION: self._function,
            Operand.MANAGER: lambda call, value: self._manager(value),
            Operand.MANAGERS: lambda call, value: [*map(self._manager, value)],
        }

    def program(self) -> GuardProgram:
        """Return the program.

        Raises:
            NotLean: naming a guard the language cannot express.
        """
        self._numbers[id(self._log.root)] = 0
        for call in in_one_guard(self._log.calls, self._log.root):
            self._where = call.kwargs.get("source") or (call.manager.get_source() if call.manager else "")
            try:
                self._step(call)
            except NotLean:
                raise
            except (NotStorable, NotInLanguage) as error:
                raise NotLean(f"{call.name} on {self._where}: {error}") from error
        return GuardProgram(
            bool(config.skip_tensor_guards_with_matching_dict_tags),
            int(config.max_saved_pointers_for_recursive_dict_tags_check),
            self._builtins,
            [[alias, module] for alias, module in sorted(self._imports.items())],
            self._device,
            self.texts.rows, self.parts.rows, self.terms.rows, self.identities.rows, self.examples.rows,
            self.tensors.rows, self.functions.rows, self.steps,
        )  # fmt: skip

    def _step(self, call: GuardCall) -> None:
        if self._is_alive_anyway(call):
            return
        number = NUMBERS.get(call.name)
        if number is None:
            raise NotLean(f"{call.name} on {self._where}")
        operation = OPERATIONS[number]
        if operation.makes and id(call.result) in self._numbers:
            return  # torch reused an existing manager
        values = dict(zip((name for name, _ in operation.operands), call.args, strict=False)) | call.kwargs
        if len(values) != len(operation.operands) or len(call.args) + len(call.kwargs) != len(values):
            raise NotLean(f"{call.name} with other arguments")
        if call.name == "install_object_aliasing_guard" and self._is_settled(values["x"], values["y"]):
            return
        manager = -1 if operation.function else self._manager(call.manager)
        if call.name == "add_dict_length_check_guard" and self._is_of_nodes(call.manager):
            raise NotLean(f"the whole table of pytree nodes at {self._where}")
        if call.name == "dict_getitem_manager" and OPERATIONS[self._chains[manager][0]].name == (
            "globals_dict_manager"
        ):
            values["key"] = self._global(values["key"])
            pinned = of_compiler(self._imports.get(values["key"], ""))
        elif call.name == "getattr_manager" and compiler_behind(values["attr"], values["source"]):
            pinned = True
            if not call.facts[1]:
                raise NotLean(f"what stands for a module of the compiler at {self._where}")
        else:
            pinned = manager in self._pinned
        if pinned and call.name not in _PINNED:
            raise NotLean(f"{call.name} on {self._where}, inside the compiler")
        step: list[Any] = [number, manager]
        for name, sort in operation.operands:
            value = values[name]
            if sort == Operand.IDENTITY:
                step.append(self._identity(call, value, manager))
            elif sort == Operand.TEXTS and call.name in _ADDRESSED:
                address = str(values[_ADDRESSED[call.name]])
                step.append(self.parts.add([self._stable(t).replace(address, "\0") for t in value]))
            elif sort == Operand.TEXTS and call.name == "add_equals_match_guard" and _has_set(call.args[0]):
                kind = type(call.args[0]).__name__  # a set's text follows its hash order
                step.append(self.parts.add([f"{self._canonical(self._where)} == <{kind}>"]))
            elif sort == Operand.SCOPE:
                if value is not self._scope:
                    raise NotLean(f"globals of another module at {self._where}")
            elif sort == Operand.EMPTY:
                if len(value):
                    raise NotLean("torch function modes")
            elif sort != Operand.STACK and sort != Operand.KEYS:
                step.append(self._write[sort](call, value))
        if call.name == "add_default_device_guard":
            self._device = term_of(call.facts, self._named)
        self.steps.append(step)
        if operation.makes:
            self._numbers[id(call.result)] = len(self._chains)
            if pinned:
                self._pinned.add(len(self._chains))
            self._chains.append((number, manager))

    def _is_alive_anyway(self, call: GuardCall) -> bool:
        """Tell whether a guard asks that an object is alive whose address is guarded: then it is."""
        if call.name == "global_weakref_manager":
            reference = self._scope.get(call.kwargs["global_name"])
            if isinstance(reference, weakref.ref) and id(reference()) in self._log.objects:
                self._weak.add(id(call.result))
                return True
        return call.name == "add_not_none_guard" and id(call.manager) in self._weak

    def _manager(self, value: Any) -> int:
        try:
            return self._numbers[id(value)]
        except KeyError:
            raise NotLean(f"a guard manager of another tree ({value.get_source()})") from None

    def _is_settled(self, x: Any, y: Any) -> bool:
        """Tell whether two places, one of them inside the compiler, certainly hold one object.

        The platform pins the contents of the compiler's modules; the guard on the other place knows the
        object by name.
        """
        places = {self._manager(x), self._manager(y)}
        return bool(places & self._pinned) and bool(places & self._named_places - self._pinned)

    def _global(self, name: Any) -> Any:
        """Record a global that guards start from, and return its name in the program.

        A global made by Dynamo must mean the same elsewhere.
        """
        if name == self._log.builtins:
            self._builtins = BUILTINS
            return BUILTINS
        elif name in self._log.imports:
            self._imports[name] = self._log.imports[name]
        elif name in self._log.installed:
            raise NotLean(f"a guard on the generated global {re.sub(r'[0-9]+', 'N', str(name))}")
        return name

    def _canonical(self, text: str) -> str:
        name = self._log.builtins
        return text.replace(f"'{name}'", f"'{BUILTINS}'") if name else text

    def _stable(self, text: str) -> str:
        """Return a guard's text without stack, addresses and files."""
        head, mark, tail = text.partition("  # ")
        hint = _HINT.search(tail) if mark else None
        return _UNSTABLE.sub("", self._canonical(head.rstrip() + (hint[0] if hint else "")))

    # Operands.

    def _number(self, call: GuardCall, value: Any) -> int:
        if type(value) not in (int, bool) or value not in INT64:
            raise NotLean(f"{call.name} with {value!r:.40}")
        return int(value)

    def _term(self, value: Any) -> int:
        term = term_of(value, self._named)
        try:
            back = value_of(term, self._object)
        except (ValueError, TypeError, LookupError, AttributeError) as error:
            raise NotLean(f"a value of type {path_of(type(value))} at {self._where}: {error}") from error
        if not same_value(value, back):
            raise NotLean(f"a value of type {path_of(type(value))} at {self._where} that changes on its way")
        return self.terms.add(term)

    def _object(self, position: int) -> Any:
        kind, name, _, _ = self.identities.rows[position]
        return find(kind, name)

    def _named(self, value: Any) -> int:
        """Enter an object found by name; return its position."""
        identity = self._describer.describe(value)
        if not self._finds(value, identity):
            raise NotLean(f"{identity[0]} {identity[1]} at {self._where}, which its name does not lead to")
        return self.identities.add([*identity, FIND])

    def _finds(self, value: Any, identity: tuple[str, str, str]) -> bool:
        kind, name, _ = identity
        if of_compiler(name.partition(":")[0]):
            raise NotLean(f"a guard on the compiler's own {name}")
        if kind in ("code", "operator"):
            return False
        try:
            return find(kind, name) is value
        except (LookupError, AttributeError, StopIteration, ObjectChanged):
            return False

    def _identity(self, call: GuardCall, address: int, manager: int) -> int:
        """Enter an object guarded by address; return its position."""
        if address not in self._log.objects:
            raise NotLean(f"{call.name} on {self._where}: an unknown address")
        value = self._log.objects[address]
        static = isinstance(value, torch.Tensor) and call.name == "add_id_match_guard"
        identity = self.static.describe(value) if static else self._describer.describe(value)
        if manager in self._pinned and identity[0] != "code":
            module = identity[1].partition(":")[0]
            if identity[0] not in ("module", "class", "function", "builtin") or not is_pinned(module):
                raise NotLean(f"{identity[0]} {identity[1]} at {self._where}, inside the compiler")
            return self.identities.add([*identity, FIND])
        if self._finds(value, identity):
            if call.name == "add_id_match_guard":
                self._named_places.add(manager)
            return self.identities.add([*identity, FIND])
        place = manager
        while place:
            operation, place = self._chains[place]
            if operation not in CAN_FOLLOW:
                raise NotLean(
                    f"{identity[0]} {identity[1]} at {self._where}, behind {OPERATIONS[operation].name}"
                )
        return self.identities.add([*identity, SOURCE])

    def _example(self, call: GuardCall, _: Any) -> int:
        if call.example is None:
            raise NotLean(f"{call.name} without an example")
        cls, length = call.example
        of_keys = self._of_keys(call)
        if of_keys and (length < 0 or cls.__new__ not in DICT_MAKERS or hasattr(cls, "__del__")):
            raise NotLean(f"the order of keys of a {path_of(cls)} at {self._where}")
        identity = -1
        try:
            described = "class", path_of(cls), ""
            if find("class", described[1]) is cls:
                identity = self.identities.add([*described, FIND])
        except (LookupError, AttributeError, StopIteration):
            if of_keys and cls is not dict:
                raise NotLean(f"the order of keys of a {path_of(cls)} at {self._where}") from None
        if not of_keys:
            length = min(length, 0)  # only managers of keys need it
        elif call.facts[0]:
            length = OF_NODES
        return self.examples.add([identity, int(call.result.is_guarded_value_immutable()), length])

    def _is_of_nodes(self, manager: Any) -> bool:
        """Tell whether a manager guards torch's table of pytree nodes."""
        calls = (call for call in self._log.calls if call.result is manager)
        return any("example_value" in call.kwargs and call.facts[0] for call in calls)

    def _of_keys(self, call: GuardCall) -> bool:
        """Tell whether a manager compares a dict's length and may look at its keys, like torch's.

        Importing the compiler adds to torch's table of pytree nodes. If guards only test membership, its
        length does not count; if they look at its first keys, its present length does.
        """
        if call.kwargs["guard_manager_enum"].name != "DICT_GUARD_MANAGER":
            return False
        return not call.facts[0] or any(
            other.manager is call.result and other.name not in _OF_NODES for other in self._log.calls
        )

    def _compiler_modules(self) -> dict[str, Any]:
        return {
            alias: self._scope[alias] for alias, module in self._log.imports.items() if of_compiler(module)
        }

    def _function(self, call: GuardCall, function: Any) -> int:
        if call.body is not None:
            body, names = canonical(self._canonical(call.body), self._compiler_modules())
            for name in sorted(names - {BUILTINS}):
                self._global(name)
            return self.functions.add(["shapes", body])
        name, operands = function_of(function, call.name, self._where)
        row: list[Any] = [name]
        for operand in operands:
            row.append(operand if isinstance(operand, str) else self._term(operand.value))
        return self.functions.add(row)


def _has_set(value: Any) -> bool:
    if isinstance(value, set | frozenset):
        return True
    return isinstance(value, tuple | list) and any(map(_has_set, value))


# Guards allowed below a compiler module: they hold wherever the module is not imported, because the platform
# pins its code.
_PINNED: Final = frozenset(
    {
        "code_manager",
        "dict_getitem_manager",
        "getattr_manager",
        "add_id_match_guard",
        "add_type_match_guard",
        "mark_tag_safe",
    }
)
# Guards on torch's table of pytree nodes for which its length does not count.
_OF_NODES: Final = frozenset(
    {"add_dict_contains_guard", "add_dict_version_guard", "add_type_match_guard", "mark_tag_safe"}
)
_ADDRESSED: Final = {
    "add_id_match_guard": "id_val",
    "add_type_match_guard": "value",
    "add_tuple_iterator_length_guard": "type_id",
    "add_range_iterator_match_guard": "type_id",
}
