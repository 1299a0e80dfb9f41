"""Recipes: the facts that decide whether a bundle may be used for a frame.

A recipe maps component names to texts; its key is the digest of the map. The store keeps the components
beside the key, so that a miss can be explained. Only these facts enter: the frame's function (module,
qualified name, digest of its code), the options of ``torch.compile``, the compiler's non-default
configuration, and the platform. Nothing else that may differ between two processes (directories, ports,
ranks, process ids, device indices) does.
"""

import re
from collections.abc import Mapping
from types import CodeType

from firebrick.base.namedtuple import NamedTuple
from firebrick.codecs.code import code_digest
from firebrick.storage.format import RECIPE_VERSION
from firebrick.storage.keys import recipe_key

_RESUME = r"torch_dynamo_resume_in_(.*)_at_\d+"

# In place of options: torch skips a function because of its file, whatever the options are.
SKIPPED_FILE: Mapping[str, str] = {"file": "skipped by torch"}


class Recipe(NamedTuple):
    """A recipe's key (32 bytes) and its components. Immutable by convention."""

    key: bytes
    components: Mapping[str, str]


class RecipeDifference(NamedTuple):
    """One component in which two recipes differ; ``None`` where a side lacks it."""

    component: str
    old: str | None
    new: str | None


def frame_name(code: CodeType) -> str:
    """Return a frame's qualified name, for a resume function without its line number."""
    match = re.fullmatch(_RESUME, code.co_name)
    return f"{match[1]} (resumed)" if match else code.co_qualname


def make_recipe(
    code: CodeType, module: str, options: Mapping[str, str], platform: Mapping[str, str]
) -> Recipe:
    """Return the recipe of a frame.

    Args:
        code: the frame's code object as Python runs it, not the compiled one.
        module: ``__name__`` of the frame's globals.
        options: options of ``torch.compile`` and configuration, name -> text.
        platform: facts about this machine, name -> text.
    """
    components = {
        "recipe.version": str(RECIPE_VERSION),
        "function.module": module,
        "function.name": frame_name(code),
        "function.code": code_digest(code).hex(),
        **{f"options.{name}": text for name, text in options.items()},
        **{f"platform.{name}": text for name, text in platform.items()},
    }
    return Recipe(recipe_key(components), components)


def differences(old: Mapping[str, str], new: Mapping[str, str]) -> list[RecipeDifference]:
    """Return the components in which two recipes differ, ordered by name."""
    return [
        RecipeDifference(name, old.get(name), new.get(name))
        for name in sorted(set(old) | set(new))
        if old.get(name) != new.get(name)
    ]


def nearest(
    wanted: Mapping[str, str], known: Mapping[bytes, Mapping[str, str]]
) -> tuple[bytes, list[RecipeDifference]] | None:
    """Return the known recipe of the same function that differs least, and its differences.

    Recipes of other functions are ignored: they would explain nothing.
    """
    best: tuple[bytes, list[RecipeDifference]] | None = None
    for key in sorted(known):
        other = known[key]
        if any(other.get(n) != wanted.get(n) for n in ("function.module", "function.name")):
            continue
        found = differences(other, wanted)
        if best is None or len(found) < len(best[1]):
            best = key, found
    return best
