"""Move a bundle compiled for one GPU to another of the same kind: only indices change.

Capture decides which bundles may move (`firebrick.capture.device_pinning`). A bundle moves to the current GPU
if that is not its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import CodeType
from typing import Any

import torch

from firebrick.base.namedtuple import NamedTuple
from firebrick.bundle.platform import CURRENT_GPU, process_fact
from firebrick.codecs.code import rename
from firebrick.codecs.guard_program import NUMBERS, GuardProgram
from firebrick.reports.not_served import Miss
from firebrick.storage.manifest import Fact, LeanForm

_TENSOR_GUARD = NUMBERS["add_tensor_match_guard"]


class DeviceRemap(NamedTuple):
    """The index of the GPU a bundle was compiled for, and of the one to run it on."""

    origin: int
    to: int


def remaps_of(lean: LeanForm, process: Iterable[Fact]) -> list[DeviceRemap | None]:
    """Return the remappings to try for a bundle in the lean lane, in order; None means without remapping.

    Args:
        lean: its lean part.
        process: facts it was recorded under.

    Raises:
        Miss: there is none.
    """
    origin, pinned = lean.place or (None, "no tensor says which GPU it is")
    wanted = next((text for name, _, text in process if name == CURRENT_GPU), None)
    if wanted is not None and pinned and (found := process_fact(CURRENT_GPU)) != wanted:
        reason = f"{CURRENT_GPU}: stored {wanted}, here {found}; it cannot be moved: {pinned}"
        raise Miss(reason, code="process", changes=[(CURRENT_GPU, wanted, found)])
    if origin is None or pinned or (here := torch.cuda.current_device()) == origin:
        return [None]
    # if the current GPU counts, the unmoved function means something else
    return [DeviceRemap(origin, here), None] if wanted is None else [DeviceRemap(origin, here)]


def moved_program(program: GuardProgram, move: DeviceRemap) -> GuardProgram:
    """Return the guards of the same function for tensors on another GPU."""
    origin, to = move
    tensors = [
        [dtype, kind, to if (kind, index) == ("cuda", origin) else index, *rest]
        for dtype, kind, index, *rest in program.tensors
    ]
    parts = list(program.parts)
    for step in program.steps:
        if step[0] == _TENSOR_GUARD:
            texts = program.parts[step[6]]
            parts[step[6]] = [text.replace(f" device={origin},", f" device={to},") for text in texts]
    return program._replace(tensors=tensors, parts=parts)


def moved_name(name: str, move: DeviceRemap) -> str:
    """Return the global name of the functions of a moved bundle."""
    return f"{name}_gpu_{move.to}"


def moved_code(code: CodeType, names: Mapping[str, Any], move: DeviceRemap) -> CodeType:
    """Return compiled code that calls the moved functions `names` and holds the new device."""
    origin, to = (torch.device("cuda", index) for index in move)

    def exchange(value: Any) -> Any:
        return to if type(value) is torch.device and value == origin else value

    return rename(code, {name: moved_name(name, move) for name in names}, exchange)
