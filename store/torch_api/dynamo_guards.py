"""Guards of torch 2.11 to 2.14: build them live, store them, build stored ones.

Source followed: ``torch/_dynamo/{guards,output_graph,package}.py``.
"""

from __future__ import annotations

import copyreg
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
from torch._library.custom_ops import CustomOpDef
from torch.utils._ordered_set import OrderedSet

from firebrick.base.patches import Patches
from firebrick.torch_api.compiler_free import is_triton_kernel
from firebrick.torch_api.minors import has

CheckFunctionManager = dynamo_guards.CheckFunctionManager
GuardBuilder = dynamo_guards.GuardBuilder
BUILTINS_NAME = "__builtins_dict___firebrick"

# Guards on an object's identity, which torch cannot serialise.
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
_SETS = re.compile(r"\{([^{}:]*)\}")  # their texts follow hash order
_BY_CODE = (FunctionType, CodeType, type)  # torch itself keeps these as far as it can
_SINGLE = frozenset({torch.dtype, torch.layout, torch.memory_format})
_PLAIN_DICTS = frozenset({"builtins", "collections", "torch.nn.modules.container"})


class StateReader(Protocol):
    """The reader of pickled guard states, as far as their writer depends on it."""

    rebuild_mapping: Callable[[Any, list[tuple[Any, Any]], dict[str, Any]], Any]
    """Rebuilds a mapping of a user class; named in the pickle."""

    def reads_back(self, value: Any, reduced: Any, classes: dict[type, bool], /) -> bool:
        """Tell whether the pickler's reduction certainly restores a value."""


def builtins_name(state: Any) -> str | None:
    """Return the global name by which a guard state expects the builtins."""
    name: str | None = state.output_graph.name_of_builtins_dict_key_in_fglobals
    return name


def builtins_of(scope: dict[str, Any]) -> Any:
    """Return the builtins dictionary of a module's globals."""
    return output_graph.get_builtins_dict(scope)


def build_manager(code: CodeType, state: Any, scope: dict[str, Any]) -> tuple[Any, str]:
    """Return the guard manager of a loaded guard state, and its guards' expectations.

    Follows ``load_guard_manager`` of ``torch/_dynamo/package.py``.
    """
    if name := builtins_name(state):
        state.output_graph.global_scope[name] = output_graph.get_builtins_dict(scope)
    log = logging.getLogger("torch._guards")
    quiet, log.disabled = log.disabled, True  # a guard that cannot be built here is a miss, not an error
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
    """Return the attribute that makes a stored guard compare torch's pytree node table by keys.

    Dynamo compares its version, which differs in every process, except in guards it saves (torch 2.14).
    """
    kept = has("torch._guards:Guard._force_dict_keys_match") and guard._force_dict_keys_match
    return {"_force_dict_keys_match": True} if kept else {}


def _built_under(state: Any) -> dict[str, Any]:
    """Return, as an argument, the dispatch state that stored guards were built under (torch 2.14).

    Earlier, tensor guards use the state of the thread that rebuilds them.
    """
    if not has("torch._dynamo.guards:GuardsState.local_state"):
        return {}
    return {"guard_build_local_state": state.local_state}


def guard_types(guard: Any) -> frozenset[str]:
    """Return the kinds of a guard built once: its own and those derived from it."""
    return frozenset({guard.create_fn_name(), *(guard.guard_types or ())})


def is_closure_guard(guard: Any, value: Any) -> bool:
    """Tell whether a guard compares a Python function by its code object, not its identity."""
    return guard.create_fn_name() == "CLOSURE_MATCH" and hasattr(value, "__code__")


def fresh_guard(source: Any, create: Callable[..., None]) -> Any:
    """Return a guard without stacks, texts and addresses."""
    return Guard(source, create)


def code_source(source: Any) -> Any:
    """Return the source of a function's code object."""
    return AttrSource(source, "__code__")


def guard_set(guards: list[Any]) -> Any:
    """Return guards as torch's set, in canonical order."""
    result = GuardsSet(OrderedSet(_sorted(guards)))
    for guard in guards:
        guard._hash = None  # computed by the set; differs in every process
    return result


def _sorted(guards: list[Any]) -> Iterator[Any]:
    """Yield guards in canonical order; texts of sources, which are slow, only break ties."""
    keyed = [((*guard.sort_key()[:4], guard.create_fn_name()), guard) for guard in guards]
    keyed.sort(key=operator.itemgetter(0))
    for _, alike in itertools.groupby(keyed, operator.itemgetter(0)):
        group = [guard for _, guard in alike]
        yield from sorted(group, key=lambda guard: repr(guard.originating_source)) if group[1:] else group


class _TextOnly:
    """A guard builder, and its manager, that only write the text of a guard."""

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
    """Return guards without those that repeat an earlier one."""
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
    """Return the pickled state of a frame's guards, and whether it certainly can be read back.

    Args:
        manager: the ``CheckFunctionManager`` of the live function.
        builder: its guard builder, which knows the values.
        guards: the guards to store.
        graph: torch's output graph of the frame.
        identified: sources compared by identity, and their values, which are left out.
        reader: the reader of the state.

    Raises:
        PackageError: torch's, for a guard that cannot be serialised.
    """
    hidden = _hidden(builder, guards, identified)
    manager.used_builtin_vars.clear()  # they are compared by identity
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
    """Return the ids of values guarded by identity only: no stored guard needs more of them."""
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
    """Wrap ``GuardsStatePickler.reducer_override`` to keep more of the values that guards read.

    Values that may not be readable are added to `doubts`; those with an address in `hidden` are marked as
    missing. A dtype, a singleton, is always kept: torch marks it as missing everywhere if one module has it
    in an attribute that no guard reads.

    Triton kernels are marked as missing, as torch does with values it cannot keep. Functions to which their
    own name does not lead (a decorator's), which torch marks as missing, keep their code and the part of
    their closure that guards read. Mappings of a user class are kept by contents, so that reading them calls
    no constructor.
    """
    classes: dict[type, bool] = {}

    def reducer_override(self: Any, obj: Any) -> Any:
        cls = type(obj)
        if cls.__module__ == dynamo_source.__name__:  # most of a state; torch has no reduction for these
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
        if cls is CustomOpDef:  # guards read few of its attributes; the dispatcher's cannot be kept
            seen = {k: v if id(v) in self.guard_tree_values else None for k, v in vars(obj).items()}
            return copyreg.__newobj__, (cls,), seen  # type: ignore[attr-defined]
        if is_triton_kernel(obj):  # its guard reads the program's own
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
    """Return a guard state independent of addresses, stacks and the hash seed."""
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
    """Return the expectations of built guards as texts, without addresses, sorted, separated by NUL.

    A stored guard state names functions, classes and modules, and torch takes the expected values from them
    when it rebuilds the guards: from a program that may have changed. So the expectations at compile time are
    kept beside the state, and compared.
    """
    texts = sorted(without_addresses(text) for guard in guards for text in set(guard.code_list or ()))
    return "\0".join(texts)


def without_addresses(text: str) -> str:
    """Return the text of a guard without addresses, with sets in canonical order."""
    return _SETS.sub(_ordered, _ADDRESSES.sub(r"\1", text))


def guarded_object(guard: Any) -> Any:
    """Return the object of a built guard if torch keeps it alive, else ``None``."""
    held = guard.obj_weakref
    return held() if isinstance(held, weakref.ref) else None


def _ordered(found: re.Match[str]) -> str:
    return "{" + ", ".join(sorted(found[1].split(", "))) + "}"


def live_value(builder: Any, guard: Any) -> Any:
    """Evaluate a guard's source against the live globals and the builder's locals."""
    scope = {**builder.scope, "G": builder.runtime_global_scope}
    return guard.originating_source.get_value(scope, dynamo_guards._get_closure_vars(), {})


def type_of(source: Any) -> Any | None:
    """Return the source whose type this source denotes, if it denotes a type."""
    return source.base if isinstance(source, TypeSource) else None


def local_name(source: Any) -> str | None:
    """Return the local variable a source starts from; ``None`` if it starts elsewhere."""
    name = get_local_source_name(source)
    return name if isinstance(name, str) else None


def add_id_guard(builder: Any, guard: Any, value: Any, text: str) -> None:
    """Add a guard on the identity of a live object, dropped with the object.

    Follows ``GuardBuilder.id_match_unchecked`` of ``torch/_dynamo/guards.py``.
    """
    # in a stored state a local may be replaced by a missing-value mark
    builder.src_get_value_cache[guard.originating_source] = value
    identity = builder.id_ref(value, guard.name)
    builder.get_guard_manager(guard).add_id_match_guard(identity, [text], guard.user_stack)


def add_lambda_guard(builder: Any, guard: Any, check: Callable[[Any], bool], text: str) -> None:
    """Add a guard that calls a Python function with the object."""
    source, values = guard.originating_source, builder.src_get_value_cache
    missing = source not in values
    if missing:  # in a stored state a local may be replaced by a missing-value mark
        values[source] = None
    builder.get_guard_manager(guard).add_lambda_guard(check, [text], guard.user_stack)
    if missing:
        del values[source]


def add_failing_guard(builder: Any, text: str) -> None:
    """Make a frame's guards fail whatever the inputs."""
    builder.guard_manager.root.add_lambda_guard(lambda _: False, [text], None)


def share_builtins_name(graph: Any) -> str:
    """Install the builtins of a frame's module under one name for all compilations, and return it.

    torch counts (``__builtins_dict___3``); a loaded guard state must find the name it was built with, and
    must not take one that this process's compiler is about to generate. Replaces
    ``OutputGraph.install_builtins_dict_in_fglobals``.
    """
    scope = graph.global_scope
    scope.setdefault(BUILTINS_NAME, output_graph.get_builtins_dict(scope))
    return BUILTINS_NAME
