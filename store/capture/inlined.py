"""Note the functions that Dynamo inlined into a frame (see `loader.inlined`)."""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from types import CodeType

from firebrick.codecs.code import code_digest, module_files
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
        if module is not None and (module == "torch" or module.startswith("torch.")):
            continue
        entry = Inlined(module or "__main__", code.co_qualname, code_digest(code).hex())
        if find_code(entry) is not None:
            found.add(entry)
            known.update(code_digest(inner).hex() for inner in nested(code))
        elif module is not None:
            lost.append((entry.qualname, entry.digest))
    for name, digest in lost:
        if digest not in known:
            raise NotStorable(f"inlined function {name} can not be found by its name")
    return sorted(found)


def _module_of(code: CodeType) -> str | None:
    """Return the module of a code object's file, ``None`` for code typed in, or made by exec."""
    file = code.co_filename
    if (name := module_files().get(file)) or file.startswith("<"):
        return name
    module = inspect.getmodule(code)  # by the real path
    return None if module is None else module.__name__
