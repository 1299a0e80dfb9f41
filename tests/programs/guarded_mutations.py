"""Change what guards look at, in every way that types suggest, and put it back.

`changes` walks a frame's locals and the globals that it reads, and yields the same labelled changes, in
the same order, in every process.
"""

import collections
import contextlib
import copy
import enum
import math
import random
import types
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import guarded
import numpy as np
import torch
from torch import nn

Change = tuple[str, Callable[[], AbstractContextManager[Any]]]
Setter = Callable[[Any], Callable[[], None]]
DEPTH = 7


class _Missing:
    """Marks what is to be deleted."""


def _set_item(container: Any, key: Any) -> Setter:
    kind: Any = dict if isinstance(container, dict) else type(container)

    def replace(value: Any) -> Callable[[], None]:
        items = list(dict.items(container)) if kind is dict else list(container)
        if value is _Missing:
            kind.__delitem__(container, key)
        else:
            kind.__setitem__(container, key, value)

        def undo() -> None:
            if kind is dict:  # keeps the order of keys
                dict.clear(container)
                dict.update(container, items)
                if isinstance(container, collections.OrderedDict):
                    container.clear()
                    container.update(items)
            else:
                container[:] = items

        return undo

    return replace


def _set_attribute(owner: Any, name: str) -> Setter:
    def replace(value: Any) -> Callable[[], None]:
        old = getattr(owner, name)
        if value is _Missing:
            delattr(owner, name)
        else:
            setattr(owner, name, value)
        return lambda: setattr(owner, name, old)

    return replace


def _rebuilt(value: Any, index: int, setter: Setter) -> Setter:
    def replace(item: Any) -> Callable[[], None]:
        items = list(value)
        if item is _Missing:
            del items[index]
            return setter(tuple(items))
        items[index] = item
        return setter(value._make(items) if hasattr(value, "_make") else tuple(items))

    return replace


def sites(value: Any, path: str, setter: Setter | None, depth: int, seen: set[int]) -> Iterator[Any]:
    """Yield path, value and setter of everything inside a value."""
    if setter is not None:
        yield path, value, setter
    atom = isinstance(value, type | types.ModuleType | int | float | str | torch.dtype | type(None))
    if depth == 0 or atom or id(value) in seen:
        return
    seen.add(id(value))
    inside: list[tuple[str, Any, Setter]] = []
    if isinstance(value, dict):
        inside = [(f"{path}[{key!r}]", value[key], _set_item(value, key)) for key in dict.keys(value)]
    elif isinstance(value, list):
        inside = [(f"{path}[{i}]", item, _set_item(value, i)) for i, item in enumerate(value)]
    elif isinstance(value, tuple) and setter is not None:
        inside = [(f"{path}[{i}]", x, _rebuilt(value, i, setter)) for i, x in enumerate(value)]
    elif isinstance(value, types.FunctionType):
        if value.__defaults__:
            defaults = value.__defaults__
            inside = [(f"{path}.__defaults__", defaults, _set_attribute(value, "__defaults__"))]
        if value.__kwdefaults__:
            inside += [
                (f"{path}.{k}", v, _set_item(value.__kwdefaults__, k))
                for k, v in value.__kwdefaults__.items()
            ]
        for name, cell in zip(value.__code__.co_freevars, value.__closure__ or (), strict=True):
            inside.append((f"{path}({name})", cell.cell_contents, _set_attribute(cell, "cell_contents")))
        inside.append((f"{path}.__code__", value.__code__, _set_attribute(value, "__code__")))
    elif isinstance(value, types.MethodType):
        inside = []
        yield from sites(value.__self__, f"{path}.__self__", None, depth - 1, seen)
    elif not isinstance(value, torch.Tensor):
        inside = [
            (f"{path}.{k}", v, _set_item(vars(value), k))
            for k, v in getattr(value, "__dict__", {}).items()
            if k != "_is_torch_compile"
        ]
        for name in getattr(type(value), "__slots__", ()):
            if hasattr(value, name):
                inside.append((f"{path}.{name}", getattr(value, name), _set_attribute(value, name)))
        for cls in type(value).__mro__ if not isinstance(value, enum.Enum) else ():
            if cls.__module__ == guarded.__name__ and id(cls) not in seen:
                seen.add(id(cls))
                for name, member in list(vars(cls).items()):
                    if isinstance(member, int | float | types.FunctionType):
                        inside.append((f"{path}::{name}", member, _set_attribute(cls, name)))
    for name, item, inner in inside:
        yield from sites(item, name, inner, depth - 1, seen)


def _tensors(t: torch.Tensor) -> Iterator[Any]:
    if t.is_meta:  # operators on them import more of torch
        yield from (torch.ones(3), torch.empty(3, device="meta"), torch.empty(4, device="meta"), None)
        return
    plain = t.detach().clone()
    yield plain
    yield from (None, 3, plain.numpy(force=True) if not t.is_conj() else None)
    yield plain.to(torch.complex128 if t.is_complex() else torch.float64)
    yield plain.unsqueeze(0)
    if plain.dim():
        yield torch.cat([plain, plain])
        yield plain[:1].clone()
        yield torch.stack([plain, plain], -1)[..., 0]  # other strides
        yield plain.to_sparse()
    if plain.dim() > 1:
        yield plain.transpose(0, 1).contiguous().transpose(0, 1)
        yield torch.cat([plain, plain], 1)
    if t.is_floating_point() or t.is_complex():
        yield plain.clone().requires_grad_(not t.requires_grad)
        yield nn.Parameter(plain.clone(), requires_grad=t.requires_grad)
    if t.is_complex():
        yield plain.conj()
    yield plain.to("meta")
    for mark in ("_dynamo_dynamic_indices", "_dynamo_weak_dynamic_indices", "_dynamo_static_indices"):
        marked = plain.clone()
        setattr(marked, mark, {0})  # as the marking functions of Dynamo do, which is not always there
        yield marked


def variants(value: Any) -> Iterator[Any]:
    """Yield other values for a place, right ones among them."""
    if isinstance(value, torch.Tensor):
        yield from _tensors(value)
    elif isinstance(value, bool):
        yield from (not value, int(value), None, 1.0)
    elif isinstance(value, enum.Enum):
        yield from type(value)
        yield value.value
    elif isinstance(value, int):
        yield from (
            int(str(value)),
            value + 1,
            -value,
            value * 2 + 5,
            float(value),
            str(value),
            None,
            bool(value),
            guarded.Metres(value),
        )
    elif isinstance(value, float):
        yield from (
            float.fromhex(float.hex(value)),
            value + 1,
            -value,
            math.nan,
            math.inf,
            1,
            np.float64(value),
            None,
        )
    elif isinstance(value, str):
        yield from ("".join(list(value)), value + "x", "", None, guarded.Tagged(value), value.encode())
    elif value is None:
        yield from (0, False, torch.ones(3), "", [])
    elif isinstance(value, dict):
        items = list(dict.items(value))
        yield from (dict(items), collections.OrderedDict(items), guarded.MyDict(items), list(value))
        yield dict([*items, ("extra", 1)])
        yield dict(items[:-1])
        yield dict(items[::-1])
    elif isinstance(value, list | tuple | collections.deque):
        items = list(value)
        yield from (items, tuple(items), collections.deque(items), items[::-1], [*items, 1], items[:-1], None)
        yield from (tuple(items[::-1]), (*items, 1), tuple(items[:-1]), torch.Size([9]))
    elif isinstance(value, set | frozenset):
        yield from (set(value), frozenset(value), value | {"new"}, set(), frozenset(), list(value))
    elif isinstance(value, types.CodeType):
        yield value.replace(co_firstlineno=1)
        yield guarded.other_helper.__code__ if not value.co_freevars else value.replace(co_name="x")
    elif isinstance(value, types.FunctionType | types.BuiltinFunctionType | types.MethodType):
        yield from (guarded.helper, guarded.other_helper, len, torch.cos, guarded.Plain().scaled, None)
        if isinstance(value, types.FunctionType):
            yield types.FunctionType(
                value.__code__, value.__globals__, value.__name__, value.__defaults__, value.__closure__
            )
    elif isinstance(value, torch.dtype):
        yield from (torch.float32, torch.float64, torch.float16, "float64", None)
    elif isinstance(value, torch.device):
        yield from (torch.device("cpu"), torch.device("cpu", 0), torch.device("meta"), "cpu")
    elif isinstance(value, slice):
        yield from (slice(value.start, value.stop, value.step), slice(0, 2), slice(1, 5, 3), 1)
    elif isinstance(value, range):
        yield from (range(value.start, value.stop, value.step), range(2), range(1, 8, 3), [1, 4])
    elif isinstance(value, np.ndarray | np.generic):
        yield from (
            value.copy(),
            np.float64(3.5),
            np.ones(3),
            np.ones(4, dtype=np.float32),
            torch.ones(3),
            1.0,
        )
    else:
        yield from (None, 3, guarded.Plain(), guarded.Slotted(), guarded.Config(), torch.ones(3))
        if not hasattr(value, "__next__"):
            with contextlib.suppress(Exception):
                yield copy.copy(value)
        if isinstance(value, nn.Module):
            yield from (nn.Linear(3, 3), guarded.Net(), copy.deepcopy(value))


def _changing(setter: Setter, make: Callable[[], Any]) -> Callable[[], AbstractContextManager[Any]]:
    @contextlib.contextmanager
    def change() -> Iterator[None]:
        undo = setter(make())
        try:
            yield
        finally:
            undo()

    return change


def ambient() -> list[Change]:
    """Return changes of torch's global state."""

    @contextlib.contextmanager
    def calling(setter: Callable[[Any], Any], value: Any, old: Any) -> Iterator[None]:
        setter(value)
        try:
            yield
        finally:
            setter(old)

    class Mode(torch.overrides.TorchFunctionMode):
        pass

    def hooks() -> Any:
        return torch.autograd.graph.saved_tensors_hooks(lambda x: x, lambda x: x)

    matmul = torch.backends.cuda.matmul
    return [
        ("no_grad", torch.no_grad),
        ("enable_grad", torch.enable_grad),
        ("inference_mode", torch.inference_mode),
        ("autocast", lambda: torch.autocast("cpu", dtype=torch.bfloat16)),
        ("autocast off", lambda: torch.autocast("cpu", enabled=False)),
        ("double", lambda: calling(torch.set_default_dtype, torch.float64, torch.float32)),
        (
            "threads",
            lambda: calling(torch.set_num_threads, 1 + torch.get_num_threads(), torch.get_num_threads()),
        ),
        ("tf32", lambda: calling(lambda on: setattr(matmul, "allow_tf32", on), True, matmul.allow_tf32)),
        ("deterministic", lambda: calling(torch._C._set_deterministic_algorithms, True, False)),
        ("function mode", Mode),
        ("device", lambda: torch.device("meta")),
        ("default device", lambda: calling(torch.set_default_device, "meta", None)),
        ("no torch function", torch._C.DisableTorchFunctionSubclass),
        ("hooks", hooks),
        ("forward ad", torch.autograd.forward_ad.dual_level),
    ]


def changes(
    f_locals: dict[str, Any], scope: dict[str, Any], code: types.CodeType, most: int = 400
) -> list[Change]:
    """Return the changes to a frame; at most so many, spread evenly."""
    found: list[Change] = []
    seen: set[int] = set()
    roots = [(f"L.{name}", f_locals[name], _set_item(f_locals, name)) for name in f_locals]
    roots += [
        (f"G.{name}", scope[name], _set_item(scope, name))
        for name in dict.fromkeys((*code.co_names, "helper", "Plain", "HELPER"))
        if name in scope and not isinstance(scope[name], types.ModuleType)
    ]
    for path, value, setter in roots:
        for place, inner, inner_setter in list(sites(value, path, setter, DEPTH, seen)):
            for number, variant in enumerate(variants(inner)):
                label = f"{place} = {type(variant).__name__} {number}"
                found.append((label, _changing(inner_setter, lambda v=variant: v)))  # type: ignore[misc]
            if ("[" in place or "." in place.partition(".")[2]) and "::" not in place:
                found.append((f"del {place}", _changing(inner_setter, lambda: _Missing)))
    if len(found) > most:
        found = [found[i * len(found) // most] for i in range(most)]
    chosen = random.Random(len(found))
    pairs = [(chosen.choice(found), chosen.choice(found)) for _ in range(min(60, len(found)))]
    return [*found, *(_both(a, b) for a, b in pairs), *ambient()]


def _both(first: Change, second: Change) -> Change:
    @contextlib.contextmanager
    def change() -> Iterator[None]:
        with first[1](), second[1]():
            yield

    return f"{first[0]}; {second[0]}", change


def verdict(check: Callable[[Any], bool], f_locals: dict[str, Any]) -> bool | str:
    """Return what a check says, or the type of what it raises."""
    try:
        return check(f_locals)
    except Exception as error:
        return type(error).__name__


def verdicts(
    checks: list[Callable[[Any], bool]], f_locals: dict[str, Any], made: list[Change]
) -> Iterator[tuple[str, list[bool | str]]]:
    """Yield what each check says under each change, and under none in between."""
    for label, change in made:
        try:
            with change():
                result = [verdict(check, f_locals) for check in checks]
        except (TypeError, AttributeError, RuntimeError, ValueError, LookupError):
            continue  # a change that the objects do not let happen
        yield label, result
    yield "unchanged", [verdict(check, f_locals) for check in checks]
