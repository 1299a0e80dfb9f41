"""Where a compiled frame may run: on which GPU, and in which place among the processes of a group.

A frame is stored with the facts of its process that torch folded into the graph and does not guard, and
with the index of its GPU, which the lane without the compiler exchanges where nothing else depends on it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from types import CodeType
from typing import TYPE_CHECKING, Any, Final

import torch

from firebrick.codecs.guard_program import NUMBERS
from firebrick.loader.inlined import nested
from firebrick.platform import CURRENT_GPU, process_fact

if TYPE_CHECKING:
    from firebrick.capture.recorder import Compilation

# Functions that Dynamo calls while it traces (`constant_fold_functions` of torch/_dynamo/variables/torch.py).
_FOLDED: Final = {"is_initialized": "process group", "get_rank": "rank", "get_world_size": "world size"}
_TENSOR_GUARD: Final = NUMBERS["add_tensor_match_guard"]


def process_facts(compilation: Compilation) -> dict[str, str]:
    """Return the facts of this process that a graph may hold as constants, fact -> text.

    To be asked right after the compilation: a program may leave its group of processes later.
    """
    codes = (inner for code in (compilation.code, *compilation.inlined) for inner in nested(code))
    used = {name for code in codes for name in code.co_names}
    facts = [fact for name, fact in _FOLDED.items() if name in used]
    facts += [CURRENT_GPU] if compilation.devices.current else []
    return {fact: process_fact(fact) for fact in facts}


def gpu_of(compilation: Compilation, backends: Iterable[tuple[frozenset[int], str]]) -> dict[str, Any]:
    """Return ``gpu``, the index of the GPU that a frame runs on, and ``pinned``, why it can run on no other.

    Args:
        compilation: of the frame, with its guard program.
        backends: for each, the GPUs it runs on and why it can run on no other.

    Returns:
        An empty dictionary for a frame that runs on no GPU; ``gpu`` is -1 for one that runs on several.
    """
    parts, program, devices = list(backends), compilation.program, compilation.devices
    gpus = {row[2] or 0 for row in program.tensors if row[1] == "cuda"}.union(*(part[0] for part in parts))
    if not gpus:
        return {}
    gpu = gpus.pop() if len(gpus) == 1 else -1
    reasons = [devices.pinned, *(part[1] for part in parts)]
    if gpu < 0:
        reasons.append("several GPUs")
    elif compilation.process.get(CURRENT_GPU, str(gpu)) != str(gpu):
        reasons.append("another GPU was current")
    guarded = {program.texts[step[5]] for step in program.steps if step[0] == _TENSOR_GUARD}
    reasons += [f"no guard on {name}" for name in sorted(devices.inputs - guarded)]
    if any(_holds_device(code) for code in compilation.resumes.values()):
        reasons.append("a resume function that names a device")
    return {"gpu": gpu, "pinned": next(filter(None, reasons), "")}


def _holds_device(code: CodeType) -> bool:
    return any(
        isinstance(value, torch.device) for inner in nested(code) for value in _constants(inner.co_consts)
    )


def _constants(values: Iterable[Any]) -> Iterator[Any]:
    for value in values:
        if isinstance(value, tuple | frozenset):
            yield from _constants(value)
        else:
            yield value
