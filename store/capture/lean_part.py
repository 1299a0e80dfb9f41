"""Decide whether the lean lane may serve a frame, and assemble what it needs.

All or nothing: the lane must know every guard, every backend function and every helper that the bytecode
calls. Otherwise the manifest says why not, and the full lane serves the frame.
"""

from __future__ import annotations

import dis
import re
from collections.abc import Iterable, Mapping
from types import CodeType
from typing import TYPE_CHECKING, Any, NamedTuple

from firebrick import codecs
from firebrick.capture.device_pinning import pinning_of
from firebrick.errors import NotLean
from firebrick.runtime.helpers import HELPERS
from firebrick.storage.blob import Blob
from firebrick.storage.format import Kind
from firebrick.storage.manifest import LeanForm, NoLeanForm
from firebrick.validity.code_facts import nested

if TYPE_CHECKING:
    from firebrick.capture.recorder import Compilation

_COMPILER = re.compile(r"torch\.(_dynamo|_inductor|_functorch|fx\.experimental)\b|sympy\b|triton\b")


class LeanPart(NamedTuple):
    """An encoded lean backend, with its libraries and devices.

    Attributes:
        encoded: its blobs.
        libraries: which of CUDA's libraries it calls.
        gpus: indices of the GPUs it runs on.
        pinned: why it cannot move to another GPU; empty if it can.
    """

    encoded: codecs.Encoded
    libraries: frozenset[str]
    gpus: frozenset[int] = frozenset()
    pinned: str = ""


def make_lean(
    compilation: Compilation,
    backends: Mapping[str, LeanPart | NoLeanForm],
    code: CodeType,
    imports: Mapping[str, str],
) -> tuple[LeanForm, list[Blob]]:
    """Return what the lane needs of a frame besides its code, and its blobs.

    Args:
        compilation: of the frame; its guard program may instead be the reason there is none.
        backends: name in the compiled code -> lean backend, or the reason there is none.
        code: the compiled code.
        imports: alias -> module, for the generated globals that are modules.

    Raises:
        NotLean: naming what the lane does not support.
    """
    if isinstance(program := compilation.program, NoLeanForm):
        raise NotLean(program.reason)
    for found in backends.values():
        if isinstance(found, NoLeanForm):
            raise NotLean(found.reason)
    # `co_names` may hold leftovers of tracing
    names = {step.argval for inner in nested(code) for step in _steps(inner) if step.opname in _GLOBAL}
    used = {alias: module for alias, module in imports.items() if alias in names}
    _check_helpers(code, used)
    parts = {name: value for name, value in backends.items() if isinstance(value, LeanPart)}
    place = pinning_of(compilation, program, ((part.gpus, part.pinned) for part in parts.values()))
    guards = codecs.encode(Kind.GUARD_PROGRAM, program)
    form = LeanForm(
        guards=guards.root.key,
        imports=used,
        backends={name: part.encoded.root.key for name, part in parts.items()},
        opens=sorted(frozenset().union(*(part.libraries for part in parts.values()))),
        place=place,
    )
    every = (guards, *(part.encoded for part in parts.values()))
    return form, [blob for encoded in every for blob in (*encoded.children, encoded.root)]


def _check_helpers(code: CodeType, imports: Mapping[str, str]) -> None:
    aliases = {alias: module for alias, module in imports.items() if _COMPILER.match(module)}
    for inner in nested(code):
        before: Any = None
        for step in (*_steps(inner), None):
            if before in aliases:
                known = HELPERS.get(aliases[before], {})
                name = step.argval if step is not None and step.opname in _ATTRIBUTE else "as a whole"
                if name not in known:
                    raise NotLean(f"bytecode uses {aliases[before]} {name}")
            loads = step is not None and step.opname in _GLOBAL
            before = step.argval if step is not None and loads else None


_GLOBAL = ("LOAD_GLOBAL", "LOAD_NAME")
_ATTRIBUTE = ("LOAD_ATTR", "LOAD_METHOD")
_QUIET = ("CACHE", "EXTENDED_ARG", "NOP", "PRECALL")


def _steps(code: CodeType) -> Iterable[dis.Instruction]:
    return (step for step in dis.get_instructions(code) if step.opname not in _QUIET)
