"""Word differences: of facts, values and recipes. Imports no compiler."""

from __future__ import annotations

import re
import types
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import torch

from firebrick.bundle.recipe import RecipeDifference
from firebrick.reports.events import Change

_LONGEST: Final = 160
ANOTHER_OBJECT: Final = "another object"  # if its name was not kept
_CONFIG: Final = re.compile(r"options\.config\.(\w+)")
_OPTIONS: Final = {
    "inductor": "`options` and `mode` of torch.compile",
    "dynamic": "`dynamic` of torch.compile",
    "fullgraph": "`fullgraph` of torch.compile",
}
_PLAIN: Final = (type(None), bool, int, float, complex, str, bytes, type(...))
_TORCH: Final = (torch.dtype, torch.device, torch.layout, torch.memory_format, torch.Size)


def source_name(text: str) -> str:
    """Return a source in the user's terms: ``G['SCALE']`` is the global ``SCALE``, locals stay."""
    plain = re.fullmatch(r"G\['(\w+)'\]", text)
    return f"global `{plain[1]}`" if plain else f"`{clipped(text)}`"


def object_change(where: str, stored: tuple[str, str], here: tuple[str, str], value: Any) -> Change:
    """Return the difference of an object known by its name and code.

    Args:
        where: source of the object, or its name.
        stored: kind and name of the stored object.
        here: the same of the present object; equal if only the code differs.
        value: the present object.
    """
    what = source_name(where) if where[:2] in ("L[", "G[") else where
    if stored[0] == here[0] == "code":  # of a function: code itself has no name
        owner, now = where.removesuffix(".__code__"), getattr(value, "co_qualname", "") or "other code"
        same = re.search(r"(\w+)(?:'\])?$", owner)
        if same is not None and same[1] == now.rpartition(".")[2]:
            return Change(f"code of {source_name(owner)}", None, None)
        return Change(f"code of {source_name(owner)}", "other code", now)
    differs = " that holds something else" if stored[0] == "object" else " with other code"
    other = differs if stored == here else ""
    return Change(what, " ".join(stored), " ".join(here) + other)


def clipped(text: str) -> str:
    """Return a text, shortened to fit on a line."""
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"


def shown(value: Any) -> str:
    """Return a value as a text. Runs no user code: an object is named by its class."""
    return clipped(_shown(value, 3))


def _shown(value: Any, depth: int) -> str:
    cls = type(value)
    if cls in _PLAIN or cls in _TORCH:
        return repr(value) if cls is not torch.Size else repr(tuple(value))
    if cls in (list, tuple, set, frozenset) and depth and len(value) <= 20:
        items = [_shown(item, depth - 1) for item in value]
        if cls is list:
            return f"[{', '.join(items)}]"
        if cls is tuple:
            return f"({', '.join(items)}{',' if len(items) == 1 else ''})"
        return f"{{{', '.join(sorted(items))}}}" if items else f"{cls.__name__}()"
    if cls is dict and depth and len(value) <= 20:
        return "{" + ", ".join(f"{_shown(k, 0)}: {_shown(v, depth - 1)}" for k, v in value.items()) + "}"
    if isinstance(value, type):
        return f"<class '{type.__getattribute__(value, '__qualname__')}'>"
    if cls is types.FunctionType:
        return f"function {value.__module__}:{value.__qualname__}"
    if cls is types.ModuleType:
        return f"module {value.__dict__.get('__name__')}"
    if cls in (torch.Tensor, torch.nn.Parameter):
        return f"{cls.__name__} of {value.dtype} {tuple(value.shape)}"
    if cls.__module__ == "numpy" and hasattr(cls, "itemsize"):
        return f"{cls.__name__}({value})"
    return f"a {cls.__qualname__} object"


def recipe_changes(differences: Iterable[RecipeDifference], function: str) -> list[Change]:
    """Return the differences between a recipe and the nearest stored one.

    Args:
        differences: of both, stored first.
        function: the function's location, for its code.
    """
    changes: list[Change] = []
    for component, old, new in differences:
        part, _, name = component.partition(".")
        if component == "function.code":
            changes.append(Change(f"`{function}`", None, None))
        elif (found := _CONFIG.fullmatch(component)) is not None:
            changes += _configuration(found[1], old, new)
        elif part in ("options", "platform"):
            what = f"`{name}`" if part == "platform" else _OPTIONS.get(name, f"option `{name}`")
            changes.append(Change(what, old, new))
        else:
            changes.append(Change(component, old, new))
    return changes


def _configuration(part: str, old: str | None, new: str | None) -> list[Change]:
    """Return the compiler's configuration values that differ; a text names those that are not defaults."""
    sides = [dict(_settings(text)) for text in (old, new)]
    names = sorted(set(sides[0]) | set(sides[1]))
    found = [
        Change(f"torch._{part}.config.{name}", *(side.get(name, "the default") for side in sides))
        for name in names
        if sides[0].get(name) != sides[1].get(name)
    ]
    return found or [Change(f"the defaults of torch._{part}.config", None, None)]


def _settings(text: str | None) -> list[tuple[str, str]]:
    rest = (text or "").partition("; ")[2]
    pairs = re.split(r"; (?=[A-Za-z_][\w.]*=)", rest) if rest else []
    return [(name, value) for pair in pairs for name, _, value in [pair.partition("=")]]


def code_of(changes: Sequence[RecipeDifference]) -> str:
    """Return the stable name of the reason a recipe differs: of the difference that counts most."""
    parts = {component: component.partition(".")[0] for component, *_ in changes}
    if "function.code" in parts:
        return "code"
    for part in ("options", "platform"):
        if part in parts.values():
            return part
    return "version" if "recipe.version" in parts else "unknown"


GLOBAL_STATE: Final[Mapping[str, str]] = {
    "num_threads": "threads (torch.set_num_threads)",
    "grad_mode": "grad mode (torch.no_grad, torch.enable_grad)",
    "default_dtype": "default dtype (torch.set_default_dtype)",
    "deterministic_algorithms": "deterministic algorithms (torch.use_deterministic_algorithms)",
    "deterministic_algorithms_warn_only": "deterministic algorithms, warnings only",
    "allow_tf32": "TF32 in matrix products",
    "allow_fp16_reduce": "reduced precision in float16 sums",
    "allow_bf16_reduce": "reduced precision in bfloat16 sums",
    "torch_function": "torch functions of subclasses (torch._C.DisableTorchFunctionSubclass)",
    "torch_function_all_disabled": "torch functions of all (torch._C.DisableTorchFunction)",
    "autocast_state": "autocast",
}
