"""Note the functions that Dynamo inlined into a frame (see `loader.inlined`)."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterable
from types import CodeType

from firebrick.codecs.code import code_digest
from firebrick.errors import NotStorable
from firebrick.loader.inlined import Inlined, find_code, nested


def inlined_functions(root: CodeType, codes: Iterable[CodeType], guarded: set[str]) -> list[Inlined]:
    """Return what a bundle says of the functions that were inlined into a frame, sorted.

    Functions of torch are left out: torch's version and commit are part of every recipe.

    Args:
        root: code object of the frame.
        codes: code objects that Dynamo traced.
        guarded: hexadecimal digests of functions that the frame's guards compare by their code.

    Raises:
        NotStorable: for a function that is neither guarded nor can be found again by its name.
    """
    codes = list(codes)
    found: set[Inlined] = set()
    known = {code_digest(code).hex() for code in nested(root)} | guarded
    lost: list[tuple[str, str]] = []
    for code in codes:
        module = _module_of(code)
        if module is None or module == "torch" or module.startswith("torch."):
            continue
        entry = Inlined(module, code.co_qualname, code_digest(code).hex())
        if find_code(entry) is None:
            lost.append((entry.qualname, entry.digest))
        else:
            found.add(entry)
            known.update(code_digest(inner).hex() for inner in nested(code))
    for name, digest in lost:
        if digest not in known:
            raise NotStorable(f"inlined function {name} can not be found by its name")
    return sorted(found)


def _module_of(code: CodeType) -> str | None:
    module = inspect.getmodule(code)
    if module is not None:
        return module.__name__
    # inspect goes by files; a function made by exec has none
    for name, candidate in list(sys.modules.items()):
        if getattr(candidate, "__file__", None) == code.co_filename:
            return name
    return None
