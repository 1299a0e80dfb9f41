"""Join the parts of a split backend.

Source followed: the result of ``DDPOptimizer.compile_fn`` of ``torch/_dynamo/backends/distributed.py``. Like
the code of graph modules, the function drops each value after its last use.
"""

from __future__ import annotations

import functools
import types
from collections.abc import Callable, Sequence
from typing import Any

from firebrick.codecs.lean_split import NO_PART, Steps
from firebrick.runtime.calls import skip


def join(steps: Steps, parts: Sequence[Callable[..., Any]]) -> Callable[..., Any]:
    """Return the function that takes the steps, as Dynamo's bytecode calls it.

    Args:
        steps: checked by the codec.
        parts: the functions of the parts. The result keeps them; any thread may call it if they allow that.
    """
    scope: dict[str, Any] = {f"part{number}": part for number, part in enumerate(parts)}
    exec(_code(steps), scope)
    run: Callable[..., Any] = scope["run"]
    skip(run.__code__)
    return run


@functools.lru_cache(64)
def _code(steps: Steps) -> types.CodeType:
    last: dict[int, int] = {}  # value -> the step that uses it last
    for place, step in enumerate(steps.steps):
        last |= dict.fromkeys(step.arguments, place)
    kept = set(steps.outputs)
    lines = [f"def run({_listed(range(steps.inputs))}):"]
    for place, (part, arguments, item) in enumerate(steps.steps):
        value = f"v{arguments[0]}" if part == NO_PART else f"part{part}({_listed(arguments)})"
        lines.append(f"    v{steps.inputs + place} = {value}{'' if item is None else f'[{item}]'}")
        lines += [f"    v{used} = None" for used in sorted({*arguments} - kept) if last[used] == place]
    lines.append(f"    return ({_listed(steps.outputs)})")
    return compile("\n".join(lines), "<firebrick split>", "exec")


def _listed(numbers: Sequence[int]) -> str:
    return "".join(f"v{number}, " for number in numbers)
