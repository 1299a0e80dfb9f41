"""Observe Dynamo while it traces: code it inlines, names it reads, and calls it folds.

Source followed: ``torch/_dynamo/symbolic_convert.py`` and, in ``torch/_dynamo/variables``, ``builtin.py``,
``functions.py``, ``sets.py``, ``torch.py``.
Importing this module imports torch's compiler.
"""

from __future__ import annotations

import functools
import importlib.metadata
import importlib.util
import os
import sys
from collections.abc import Callable, Iterator
from types import CodeType, FunctionType
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch._dynamo import output_graph, polyfills
from torch._dynamo.symbolic_convert import InliningInstructionTranslator
from torch._dynamo.variables import builtin, functions, optimizer, user_defined
from torch._dynamo.variables import torch as torch_variables
from torch._dynamo.variables.base import ValueMutationNew, VariableTracker
from torch._dynamo.variables.lazy import LazyVariableTracker

from firebrick.base.shipped import shipped_file
from firebrick.torch_api.method_tables import wrap_in_table

if TYPE_CHECKING:
    from firebrick.base.patches import Patches

_FOUND = {importlib.util.find_spec: "find_spec", importlib.metadata.version: "package version"}
_NAMING = frozenset({getattr, hasattr, setattr, delattr})
_CALLING = frozenset({max, min, sorted, map, filter})  # functions that may call their arguments
_MAKES_SETS = ("set_update", "set_intersection", "set_union", "set_difference", "set_symmetric_difference")
_VARIABLES = "torch._dynamo.variables"


class TraceSink(Protocol):
    """An observer of what Dynamo looks at in a frame."""

    names: set[str]

    def refuse(self, reason: str, /) -> None:
        """Record that the trace cannot be followed."""

    def inlined(self, code: CodeType, function: Any, /) -> None:
        """Record inlined code."""

    def makes(self) -> None:
        """Record that an object is created."""

    def called(self, function: FunctionType, /) -> None:
        """Record that a graph calls a user function."""

    def fact(self, name: str, arguments: list[Any], /) -> None:
        """Record a process fact folded into the graph."""

    def folded(self, function: Any, arguments: list[Any], /) -> None:
        """Record a call folded into the graph."""

    def ran(self, value: Any, /) -> None:
        """Record a value that Python receives, and may call, while the compiler folds a call."""

    def compares_with(self, kind: Any, /) -> None:
        """Record an ``isinstance`` check against one or several classes."""

    def sorts(self) -> None:
        """Record that objects are sorted."""

    bound: dict[str, list[Any]]
    """Name of a graph -> tensors that it holds itself, in the order in which AOTAutograd takes them."""

    optimizers: dict[str, int]
    """Source of an optimizer whose ``_init_group`` Dynamo ran -> how many lists that fills."""

    in_order: dict[int, Any] | None
    """Sets that the code filled item by item, by the address of their items; ``None`` if unknown."""

    def iterates(self, items: list[Any], kind: type, /) -> None:
        """Record that a set is iterated."""

    def hashes(self, value: Any, /) -> None:
        """Record that a hash is computed."""


Seen = Callable[[], TraceSink | None]


def note_tracing(patches: Patches, seen: Seen) -> None:
    """Make Dynamo report what it looks at, until the patches are undone.

    Args:
        patches: keeps the originals.
        seen: returns the observer of the current compilation; ``None`` for none.
    """
    inlining = InliningInstructionTranslator
    patches.set(inlining, "build_inline_tracer", staticmethod(_inlining(inlining.build_inline_tracer, seen)))
    for cls in vars(builtin).values():
        if isinstance(cls, type) and issubclass(cls, VariableTracker) and "call_function" in vars(cls):
            patches.set(cls, "call_function", _sorting(_builtin(cls.call_function, seen), seen))
    for owner, name, wrap in (
        (user_defined.UserDefinedClassVariable, "call_function", _making),
        (functions.SkipFunctionVariable, "call_function", _found),
        (functions.UserFunctionVariable, "call_function", _constant),
        (functions.UserMethodVariable, "call_function", _constant),
        (functions.PolyfilledFunctionVariable, "call_function", _polyfilled),
        (torch_variables.TorchInGraphFunctionVariable, "call_function", _folded),
        (output_graph.OutputGraph, "call_user_compiler", _graph),
        (optimizer.OptimizerVariable, "call_method", _initialising),
    ):
        patches.set(owner, name, wrap(getattr(owner, name), seen))
    for cls in _set_variables():
        if "__init__" in vars(cls):
            patches.set(cls, "__init__", _made(cls.__init__, seen))
        for name in list(vars(cls)):
            if name in ("unpack_var_sequence", "tp_iter_impl"):
                patches.set(cls, name, _iterating(getattr(cls, name), seen))
            elif name in ("repr_impl", "tp_repr_impl"):
                patches.set(cls, name, _writing(getattr(cls, name), seen))
            elif name.startswith("nb_"):
                patches.set(cls, name, _joining(getattr(cls, name), seen))
            elif name == "tp_init_impl":
                patches.set(cls, name, _filling(getattr(cls, name), seen))
        if "call_method" in vars(cls):
            patches.set(cls, "call_method", _popping(cls.call_method, seen))
        for name, wrap in (
            ("pop", _taking),
            ("update", _taking_in),
            ("symmetric_difference_update", _taking_in),
        ):
            wrap_in_table(patches, cls, name, wrap, seen)
    if (object_protocol := sys.modules.get(f"{_VARIABLES}.object_protocol")) is not None:
        hashing = _hashing(object_protocol.generic_hash, seen)
        for module in (object_protocol, builtin):
            if "generic_hash" in vars(module):  # torch 2.14 binds it in both
                patches.set(module, "generic_hash", hashing)


def _set_variables() -> Iterator[Any]:
    """Yield Dynamo's set classes; up to torch 2.12 they are in the module of dictionaries."""
    module = sys.modules.get(f"{_VARIABLES}.sets") or sys.modules[f"{_VARIABLES}.dicts"]
    for cls in vars(module).values():
        if isinstance(cls, type) and issubclass(cls, vars(module)["SetVariable"]):
            yield cls


def _wrapping(look: Callable[..., None]) -> Callable[[Callable[..., Any], Seen], Callable[..., Any]]:
    """Return a wrapper that calls `look` with a function's arguments before it runs."""

    def wrap(original: Callable[..., Any], seen: Seen) -> Callable[..., Any]:
        @functools.wraps(original)
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            _look(look, seen, args, kwargs)
            return original(*args, **kwargs)

        return wrapped

    return wrap


def _after(look: Callable[..., None]) -> Callable[[Callable[..., Any], Seen], Callable[..., Any]]:
    """Return a wrapper that calls `look` once a function has queried its arguments."""

    def wrap(original: Callable[..., Any], seen: Seen) -> Callable[..., Any]:
        @functools.wraps(original)
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            try:
                return original(*args, **kwargs)
            finally:
                _look(look, seen, args, kwargs)

        return wrapped

    return wrap


def _look(look: Callable[..., None], seen: Seen, args: Any, kwargs: Any) -> None:
    if (traced := seen()) is not None:
        try:
            look(traced, *args, **kwargs)
        except Exception as error:
            traced.refuse(f"what Dynamo did could not be followed: {type(error).__name__}: {error}")


def _is_constant(value: Any) -> bool:
    """Tell whether a variable is a constant, without adding a guard to one Dynamo has not read."""
    if issubclass(type(value), LazyVariableTracker) and not value.is_realized():
        return False
    return bool(value.is_python_constant())


def _constants(args: Any, kwargs: Any) -> list[Any] | None:
    values = [*args, *kwargs.values()]
    if not all(map(_is_constant, values)):
        return None
    return [value.as_python_constant() for value in values]


@_wrapping
def _inlining(
    traced: TraceSink, parent: Any, func: Any, args: Any = (), kwargs: Any = None, **_: Any
) -> None:
    code = func.get_code()
    traced.inlined(code, getattr(func, "fn", None))
    if f"{os.sep}einops{os.sep}" in code.co_filename and _knows_tensors():
        traced.fact("prepared package", ["einops"])
    if code.co_qualname == "_createenviron.<locals>.encode":
        keys = [key.as_python_constant() for key in args if key.is_python_constant()]
        if keys and type(keys[0]) is str:
            traced.fact("environment", [keys[0]])
        else:
            traced.refuse("a variable of the environment whose name could not be followed")
    elif code.co_qualname in ("_Environ.__iter__", "_Environ.copy", "_Environ.__repr__", "_Environ.__len__"):
        traced.refuse("the code goes through the whole environment")


def _knows_tensors() -> bool:
    """Tell whether einops was called before its code is traced: torch does that itself."""
    try:
        return torch.Tensor in sys.modules["einops._backends"]._type2backend
    except (KeyError, AttributeError):  # another version
        return False


@_wrapping
def _sorting(traced: TraceSink, self: Any, *_: Any) -> None:
    if getattr(self, "fn", None) is sorted:
        traced.sorts()


@_after
def _builtin(traced: TraceSink, self: Any, tx: Any, args: Any, kwargs: Any) -> None:
    fn = getattr(self, "fn", None) or getattr(type(self), "_fn", None)
    if fn in _NAMING and len(args) > 1 and _is_constant(args[1]):
        name = args[1].as_python_constant()
        if type(name) is str:
            traced.names.add(name)
    elif fn in (isinstance, issubclass) and len(args) > 1 and _is_constant(args[1]):
        traced.compares_with(args[1].as_python_constant())
    elif fn in _CALLING:
        traced.ran(_constants(args, kwargs) or [])


@_wrapping
def _making(traced: TraceSink, self: Any, *_: Any, **__: Any) -> None:
    traced.makes()


@_after
def _found(traced: TraceSink, self: Any, tx: Any, args: Any, kwargs: Any) -> None:
    if (name := _FOUND.get(self.value)) is not None:
        constants = _constants(args, kwargs)
        if constants and len(constants) == 1 and type(constants[0]) is str:
            traced.fact(name, constants)
        elif constants is not None:
            traced.refuse(f"{name} of what cannot be kept")


@_wrapping
def _constant(traced: TraceSink, self: Any, tx: Any, args: Any, kwargs: Any) -> None:
    if self.is_constant:
        name = getattr(self.fn, "__qualname__", "a function")
        traced.refuse(f"the result of {name}, which is declared to be constant (assume_constant_result)")


@_after
def _polyfilled(traced: TraceSink, self: Any, tx: Any, args: Any, kwargs: Any) -> None:
    if shipped_file(tx.f_code.co_filename):
        return  # the library's queries of Python, such as the recursion limit, do not concern the program
    if self.can_constant_fold_through() and (constants := _constants(args, kwargs)) is not None:
        traced.folded(self.fn, constants)
        traced.ran([value for value in constants if not isinstance(value, type)])


@_after
def _folded(traced: TraceSink, self: Any, tx: Any, args: Any, kwargs: Any) -> None:
    if self.value in torch_variables.constant_fold_functions:
        constants = _constants(args, kwargs)
        if constants is not None and (not kwargs or len(constants) == 1):
            traced.folded(self.value, constants)


@_after
def _initialising(traced: TraceSink, self: Any, tx: Any, name: str, args: Any, kwargs: Any) -> None:
    """Note that Dynamo ran ``_init_group`` of an optimizer: it fills the optimizer's state."""
    if name != "_init_group" or not self.tensor_to_source:
        return
    traced.ran([type(self.value)._init_group])
    traced.optimizers[_name_of(self.source)] = len(args) - 1
    if kwargs:
        traced.refuse("_init_group with arguments by name")


def _name_of(source: Any) -> str:
    return str(source.name() if callable(source.name) else source.name)


@_wrapping
def _graph(traced: TraceSink, self: Any, module: Any, *args: Any, **kwargs: Any) -> None:
    tensors = [tensor for _, tensor in module.named_parameters(remove_duplicate=False)]
    tensors += [tensor for _, tensor in module.named_buffers(remove_duplicate=False)]
    if tensors:
        traced.bound[module._backend_id] = tensors
    for graph in module.modules():
        for node in getattr(getattr(graph, "graph", None), "nodes", ()):
            if node.op == "call_method":
                traced.names.add(node.target)
            elif node.op == "call_function" and type(node.target) is FunctionType:
                traced.called(node.target)


@_after
def _made(traced: TraceSink, self: Any, items: Any = (), *_: Any, **kwargs: Any) -> None:
    """Record a set that is empty, literal, or a copy of such a set.

    Dynamo iterates a set in insertion order, which varies only if the items came from iterating a Python set.
    """
    if (known := traced.in_order) is None:
        return
    written = type(kwargs.get("mutation_type")) is ValueMutationNew and _is_called_by("BUILD_SET")
    if written or len(self.items) < 2 or _in_order(traced, items):
        known[id(self.items)] = self


def _is_called_by(name: str) -> bool:
    return sys._getframe(4).f_code.co_name == name  # past the wrapper, `_look`, and the observer


def _in_order(traced: TraceSink, items: Any) -> bool:
    known = (traced.in_order or {}).get(id(items))
    return known is not None and known.items is items


@_wrapping
def _joining(traced: TraceSink, self: Any, tx: Any, other: Any, *_: Any, **__: Any) -> None:
    if not all(_in_order(traced, part.items) if "items" in vars(part) else False for part in (self, other)):
        traced.in_order = None


@_wrapping
def _writing(traced: TraceSink, self: Any, tx: Any, *_: Any, **__: Any) -> None:
    traced.iterates([item.vt for item in self.items], self.python_type())


@_wrapping
def _iterating(traced: TraceSink, self: Any, tx: Any, *args: Any, **kwargs: Any) -> None:
    if _in_order(traced, self.items):
        return
    code = tx.f_code
    if code.co_name.startswith(_MAKES_SETS) and code.co_filename == polyfills.__file__:
        traced.in_order = None  # the result is another set, in this one's order
    else:
        traced.iterates([item.vt for item in self.items], self.python_type())


@_wrapping
def _filling(traced: TraceSink, *_: Any, **__: Any) -> None:
    traced.in_order = None


@_wrapping
def _taking(traced: TraceSink, self: Any, *_: Any, **__: Any) -> None:
    traced.iterates([item.vt for item in self.items], self.python_type())


@_wrapping
def _taking_in(traced: TraceSink, self: Any, tx: Any, args: Any, kwargs: Any) -> None:
    ordered = (_in_order(traced, part.items) if "items" in vars(part) else False for part in args)
    if not all(ordered) and traced.in_order is not None:
        traced.in_order.pop(id(self.items), None)


@_wrapping
def _popping(traced: TraceSink, self: Any, tx: Any, name: str, *args: Any, **kwargs: Any) -> None:
    if name == "__init__":
        traced.in_order = None
    elif name == "pop":
        traced.iterates([item.vt for item in self.items], self.python_type())


@_after
def _hashing(traced: TraceSink, tx: Any, obj: Any) -> None:
    if obj.is_python_constant():
        traced.hashes(obj.as_python_constant())
    else:
        traced.refuse(
            f"the hash of {obj.python_type().__qualname__} objects, which can be another in each process"
        )
