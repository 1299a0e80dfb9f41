"""Guards of torch 2.11 to 2.14: build them live, store them, build stored ones.

Source followed: ``torch/_dynamo/{guards,output_graph,package}.py``.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import logging
import operator
import re
import sys
import weakref
from collections.abc import Callable, Iterable, Iterator
from types import CellType, CodeType, FunctionType
from typing import Any, Protocol

import torch
from torch._dynamo import guards as dynamo_guards
from torch._dynamo import output_graph
from torch._dynamo import source as dynamo_source
from torch._dynamo.source import AttrSource, TypeSource, get_local_source_name
from torch._guards import ChainedSource, Guard, GuardsSet
from torch.utils._ordered_set import OrderedSet

from firebrick.base.patches import Patches
from firebrick.torch_api.compiler_free import is_triton_kernel
from firebrick.torch_api.minors import has

CheckFunctionManager = dynamo_guards.CheckFunctionManager
GuardBuilder = dynamo_guards.GuardBuilder
BUILTINS_NAME = "__builtins_dict___firebrick"

# Guards on the identity of an object: torch cannot serialise them.
IDENTITY_GUARDS = frozenset(
    {"ID_MATCH", "FUNCTION_MATCH", "CLASS_MATCH", "MODULE_MATCH", "CLOSURE_MATCH", "BUILTIN_MATCH"}
)
REFUSED_GUARDS = frozenset(
    {
        *("COW_TENSOR_MATCH", "DICT_VERSION", "FAKE_SCRIPT_TYPE_MATCH", "NN_MODULE"),
        *("OPAQUE_OBJ_GUARD_FN_MATCH", "WEAKREF_ALIVE"),
    }
)

_ADDRESSES = re.compile(r"(?<=_id\()(.*), \d+(?=\))| at 0x[0-9a-f]+")
_SETS = re.compile(r"\{([^{}:]*)\}")  # their texts have the order of hashes
_BY_CODE = (FunctionType, CodeType, type)  # of these torch keeps what it can itself
_SINGLE = frozenset({torch.dtype, torch.layout, torch.memory_format})
_PLAIN_DICTS = frozenset({"builtins", "collections", "torch.nn.modules.container"})


class StateReader(Protocol):
    """What reads pickled guard states, as far as their writer has to know it."""

    rebuild_mapping: Callable[[Any, list[tuple[Any, Any]], dict[str, Any]], Any]
    """Makes a mapping of a user's class again; named in the pickle."""

    def reads_back(self, value: Any, reduced: Any, classes: dict[type, bool], /) -> bool:
        """Tell whether a value is surely made again from how the pickler reduces it."""


def builtins_name(state: Any) -> str | None:
    """Return the global name under which a guard state expects the builtins."""
    name: str | None = state.output_graph.name_of_builtins_dict_key_in_fglobals
    return name


def builtins_of(scope: dict[str, Any]) -> Any:
    """Return the builtins dictionary of a module's globals."""
    return output_graph.get_builtins_dict(scope)


def build_manager(code: CodeType, state: Any, scope: dict[str, Any]) -> tuple[Any, str]:
    """Build the guard manager of a loaded guard state, and tell what its guards expect.

    Follows ``load_guard_manager`` of ``torch/_dynamo/package.py``.
    """
    if name := builtins_name(state):
        state.output_graph.global_scope[name] = output_graph.get_builtins_dict(scope)
    log = logging.getLogger("torch._guards")
    quiet, log.disabled = log.disabled, True  # a guard that cannot be built here is a miss, no error
    try:
        manager = CheckFunctionManager(
            code,
            output_graph.OutputGraphCommon(state.output_graph),
            shape_code_parts=state.shape_code_parts,
            runtime_global_scope=scope,
            **_built_under(state),
        ).guard_manager
        return manager, expectations(state.output_graph._guards)
    finally:
        log.disabled = quiet


def _by_keys(guard: Any) -> dict[str, bool]:
    """Return the attribute by which a stored guard compares torch's table of pytree nodes by its keys.

    Dynamo compares it by its version, which no other process has, but for guards that it saves (torch 2.14).
    """
    kept = has("torch._guards:Guard._force_dict_keys_match") and guard._force_dict_keys_match
    return {"_force_dict_keys_match": True} if kept else {}


def _built_under(state: Any) -> dict[str, Any]:
    """Return, as an argument, the state of dispatch under which stored guards were built (torch 2.14).

    Before, guards on tensors count the state of the thread that builds them again.
    """
    if not has("torch._dynamo.guards:GuardsState.local_state"):
        return {}
    return {"guard_build_local_state": state.local_state}


def guard_types(guard: Any) -> frozenset[str]:
    """Return the kinds of a guard that has been built once: its own and those derived from it."""
    return frozenset({guard.create_fn_name(), *(guard.guard_types or ())})


def is_closure_guard(guard: Any, value: Any) -> bool:
    """Tell whether a guard compares a Python function by its code object, not by itself."""
    return guard.create_fn_name() == "CLOSURE_MATCH" and hasattr(value, "__code__")


def fresh_guard(source: Any, create: Callable[..., None]) -> Any:
    """Return a guard without stacks, texts and addresses."""
    return Guard(source, create)


def code_source(source: Any) -> Any:
    """Return the source of a function's code object."""
    return AttrSource(source, "__code__")


def guard_set(guards: list[Any]) -> Any:
    """Return guards as the set that torch keeps them in, in an order of their own."""
    result = GuardsSet(OrderedSet(_sorted(guards)))
    for guard in guards:
        guard._hash = None  # computed by the set; differs in every process
    return result


def _sorted(guards: list[Any]) -> Iterator[Any]:
    """Yield guards in an order of their own; the texts of sources, slow to write, only part those alike."""
    keyed = [((*guard.sort_key()[:4], guard.create_fn_name()), guard) for guard in guards]
    keyed.sort(key=operator.itemgetter(0))
    for _, alike in itertools.groupby(keyed, operator.itemgetter(0)):
        group = [guard for _, guard in alike]
        yield from sorted(group, key=lambda guard: repr(guard.originating_source)) if group[1:] else group


class _TextOnly:
    """A guard builder that writes the text of a guard, and the manager to which it adds nothing."""

    def __init__(self, builder: Any) -> None:
        self._builder = builder

    def __getattr__(self, name: str) -> Any:
        return getattr(self._builder, name)

    def id_ref(self, value: object, name: str) -> int:
        return id(value)

    def get_guard_manager(self, guard: Any) -> Any:
        return self

    def add_type_match_guard(self, *args: Any) -> None:
        pass


def type_guard(source: Any, builder: Any) -> Any:
    """Return a guard on the type of a live object, with its text."""
    guard = fresh_guard(source, GuardBuilder.TYPE_MATCH)
    GuardBuilder.TYPE_MATCH(_TextOnly(builder), guard)
    return guard


def distinct(guards: Iterable[Any]) -> list[Any]:
    """Return guards without those that do what one before them does."""
    found: dict[Any, Any] = {}
    for guard in guards:
        found.setdefault((guard.originating_source, guard.create_fn), guard)
    return list(found.values())


def serialize(
    manager: Any,
    builder: Any,
    guards: list[Any],
    graph: Any,
    identified: dict[Any, Any],
    reader: StateReader,
) -> tuple[bytes, bool]:
    """Return the pickled state of a frame's guards, and whether it surely can be read back.

    Args:
        manager: the ``CheckFunctionManager`` that was built for the live function.
        builder: its guard builder, which knows the values.
        guards: what is to be stored.
        graph: torch's output graph of the frame.
        identified: sources that are compared by what they are, and their values, which stay out.
        reader: who reads the state again.

    Raises:
        PackageError: of torch, for a guard that cannot be serialised.
    """
    hidden = _hidden(builder, guards, identified)
    manager.used_builtin_vars.clear()  # they are compared by what they are
    pickler, pickled = dynamo_guards.GuardsStatePickler, dynamo_guards.pickle_guards_state
    patches, doubts = Patches(), list[Any]()
    patches.set(dynamo_guards, "pickle_guards_state", lambda state, b: pickled(canonical_state(state), b))
    patches.set(pickler, "reducer_override", _reducing(pickler.reducer_override, doubts, reader, hidden))
    live = builder.guard_tree_values
    builder.guard_tree_values = {k: v for k, v in live.items() if k not in hidden}
    try:
        return CheckFunctionManager.serialize_guards(manager, builder, guards, graph), not doubts
    finally:
        builder.guard_tree_values = live
        patches.undo()


def _hidden(builder: Any, guards: list[Any], identified: dict[Any, Any]) -> set[int]:
    """Return the ids of values of which only the identity is guarded: no stored guard needs more of them."""
    looked_at = set[Any]()
    for guard in guards:
        source = guard.originating_source
        if guard.create_fn_name() == "identity_match":
            source = _base(source)
        while source is not None and source not in looked_at:
            looked_at.add(source)
            source = _base(source)
    values = builder.src_get_value_cache
    kept = {id(values[source]) for source in looked_at if source in values}
    return {id(value) for value in identified.values()} - kept


def _base(source: Any) -> Any:
    return source.base if isinstance(source, ChainedSource) else None


def _reducing(
    original: Callable[..., Any], doubts: list[Any], reader: StateReader, hidden: set[int]
) -> Callable[..., Any]:
    """Wrap ``GuardsStatePickler.reducer_override`` so that more values that guards look at are kept.

    Values of which it is not sure that they can be read back are added to `doubts`; those with an address in
    `hidden` are marked as missing. A dtype, of which there is one, is kept in any case: torch marks it as
    missing everywhere where one module has it in an attribute that no guard looks at.

    Triton kernels are marked as missing, as torch does with what it cannot keep.
    Functions that are not what their name stands for (a decorator's), which torch marks as missing, keep
    their code and what guards look at in their closure. Mappings of a class of the user's are
    kept by their contents, so that no constructor need be called when they are read.
    """
    classes: dict[type, bool] = {}

    def reducer_override(self: Any, obj: Any) -> Any:
        cls = type(obj)
        if cls.__module__ == dynamo_source.__name__:  # most of a state; torch has no way of its own for these
            return NotImplemented
        if id(obj) in hidden and cls not in _BY_CODE:
            return dynamo_guards._Missing, ("known by what it is",)
        if cls in _SINGLE:
            return NotImplemented
        if isinstance(obj, FunctionType) and id(obj) in self.guard_tree_values:
            found: Any = sys.modules.get(obj.__module__)
            for name in obj.__qualname__.split("."):
                found = getattr(found, name, None)
            if found is not obj:
                closure = obj.__closure__ and tuple(map(functools.partial(_cell, self), obj.__closure__))
                seen = {k: v for k, v in vars(obj).items() if id(v) in self.guard_tree_values}
                return self._unpickle_nested_function, (
                    obj.__code__, obj.__module__, obj.__qualname__, obj.__defaults__, closure,
                ), seen or None  # fmt: skip
        if is_triton_kernel(obj):  # its guard looks at the one of the program
            return dynamo_guards._Missing, ("Triton kernel",)
        if cls is Guard:  # its other fields are empty: see `canonical_state`
            slots = _by_keys(obj)
            return Guard, (obj.originating_source, obj.create_fn), (None, slots) if slots else None
        result = original(self, obj)
        if result is NotImplemented and isinstance(obj, dict) and cls.__module__ not in _PLAIN_DICTS:
            doubts.append(obj)
            return reader.rebuild_mapping, (cls, list(dict.items(obj)), vars(obj))
        sparse = isinstance(obj, torch.Tensor) and obj.layout is not torch.strided
        if sparse or not reader.reads_back(obj, result, classes):
            doubts.append(obj)
        return result

    return reducer_override


def _cell(pickler: Any, cell: CellType) -> CellType:
    try:
        value = cell.cell_contents
    except ValueError:
        return cell
    return cell if id(value) in pickler.guard_tree_values else CellType(None)


def canonical_state(state: Any) -> Any:
    """Return a guard state in which nothing hangs on addresses, stacks or the hash seed."""
    graph = state.output_graph
    guards = []
    for guard in graph._guards:
        guards.append(fresh := fresh_guard(guard.originating_source, guard.create_fn))
        for name, value in _by_keys(guard).items():
            setattr(fresh, name, value)
    return dataclasses.replace(
        state,
        output_graph=dataclasses.replace(
            graph,
            _guards=guard_set(guards),
            guard_on_key_order=OrderedSet(sorted(graph.guard_on_key_order, key=repr)),
        ),
    )


def expectations(guards: Iterable[Any]) -> str:
    """Return the texts of what built guards expect, without addresses, sorted, with NUL between them.

    A stored guard state names functions, classes and modules, and torch takes the values to expect from
    them when it builds the guards again: from a program that may have changed. So what was expected when
    the frame was compiled is kept beside the state, and compared.
    """
    texts = sorted(without_addresses(text) for guard in guards for text in set(guard.code_list or ()))
    return "\0".join(texts)


def without_addresses(text: str) -> str:
    """Return the text of a guard without addresses, and with sets in an order of their own."""
    return _SETS.sub(_ordered, _ADDRESSES.sub(r"\1", text))


def guarded_object(guard: Any) -> Any:
    """Return the object that a built guard looks at, where torch holds on to it; else ``None``."""
    held = guard.obj_weakref
    return held() if isinstance(held, weakref.ref) else None


def _ordered(found: re.Match[str]) -> str:
    return "{" + ", ".join(sorted(found[1].split(", "))) + "}"


def live_value(builder: Any, guard: Any) -> Any:
    """Evaluate a guard's source against the live globals and the builder's locals."""
    scope = {**builder.scope, "G": builder.runtime_global_scope}
    return guard.originating_source.get_value(scope, dynamo_guards._get_closure_vars(), {})


def type_of(source: Any) -> Any | None:
    """Return the source whose type a source stands for, if it stands for a type."""
    return source.base if isinstance(source, TypeSource) else None


def local_name(source: Any) -> str | None:
    """Return the local variable that a source starts from, ``None`` for another start."""
    name = get_local_source_name(source)
    return name if isinstance(name, str) else None


def add_id_guard(builder: Any, guard: Any, value: Any, text: str) -> None:
    """Add a guard on the identity of a live object, dropped with the object.

    Follows ``GuardBuilder.id_match_unchecked`` of ``torch/_dynamo/guards.py``.
    """
    # what a stored state has in place of a local may be a mark that it is missing
    builder.src_get_value_cache[guard.originating_source] = value
    identity = builder.id_ref(value, guard.name)
    builder.get_guard_manager(guard).add_id_match_guard(identity, [text], guard.user_stack)


def add_lambda_guard(builder: Any, guard: Any, check: Callable[[Any], bool], text: str) -> None:
    """Add a guard that calls a Python function with the object."""
    source, values = guard.originating_source, builder.src_get_value_cache
    missing = source not in values
    if missing:  # what a stored state has in place of a local may be a mark that it is missing
        values[source] = None
    builder.get_guard_manager(guard).add_lambda_guard(check, [text], guard.user_stack)
    if missing:
        del values[source]


def add_failing_guard(builder: Any, text: str) -> None:
    """Make a frame's guards fail whatever the inputs."""
    builder.guard_manager.root.add_lambda_guard(lambda _: False, [text], None)


def share_builtins_name(graph: Any) -> str:
    """Install the builtins of a frame's module under one name for all compilations, and return it.

    torch counts (``__builtins_dict___3``); a loaded guard state must find the name it was built with,
    and must not take one that the compiler of this process is about to make.
    Stands for ``OutputGraph.install_builtins_dict_in_fglobals``.
    """
    scope = graph.global_scope
    scope.setdefault(BUILTINS_NAME, output_graph.get_builtins_dict(scope))
    return BUILTINS_NAME
