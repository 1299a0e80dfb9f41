"""The GPUs on which a compiled frame may run.

A frame is stored with the index of its GPU, which the lean lane replaces if nothing else in the frame depends
on it.
"""

from __future__ import annotations

from collections.abc import Iterable
from types import CodeType
from typing import TYPE_CHECKING, Final

import torch

from firebrick.bundle.platform import CURRENT_GPU
from firebrick.capture.devices import leaves_of
from firebrick.codecs.guard_program import NUMBERS, GuardProgram
from firebrick.storage.manifest import Placement
from firebrick.validity.code_facts import nested

if TYPE_CHECKING:
    from firebrick.capture.recorder import Compilation

_TENSOR_GUARD: Final = NUMBERS["add_tensor_match_guard"]


def pinning_of(
    compilation: Compilation, program: GuardProgram, backends: Iterable[tuple[frozenset[int], str]]
) -> Placement | None:
    """Return the GPU a frame runs on, and why it is pinned to it.

    Args:
        compilation: of the frame.
        program: its guards.
        backends: for each, the GPUs it runs on and why it is pinned to them.

    Returns:
        None for a frame that uses no GPU.
    """
    parts, devices = list(backends), compilation.devices
    gpus = {row[2] or 0 for row in program.tensors if row[1] == "cuda"}.union(*(part[0] for part in parts))
    if not gpus:
        return None
    gpu = gpus.pop() if len(gpus) == 1 else -1
    reasons = [devices.pinned, *(part[1] for part in parts)]
    if gpu < 0:
        reasons.append("several GPUs")
    elif any(fact == CURRENT_GPU and text != str(gpu) for fact, _, text in compilation.process):
        reasons.append("another GPU was current")
    guarded = {program.texts[step[5]] for step in program.steps if step[0] == _TENSOR_GUARD}
    reasons += [f"no guard on {name}" for name in sorted(devices.inputs - guarded)]
    if any(_holds_device(code) for code in compilation.resumes.values()):
        reasons.append("a resume function that names a device")
    return Placement(gpu, next(filter(None, reasons), ""))


def _holds_device(code: CodeType) -> bool:
    constants = (value for inner in nested(code) for value in leaves_of(inner.co_consts))
    return any(isinstance(value, torch.device) for value in constants)
