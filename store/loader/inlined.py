"""Find the functions that Dynamo inlined into a frame again, by name, and compare their code.

Dynamo guards an inlined function where it was reached through a variable, but not a method that it
found through the class of an object. So a bundle names every inlined function with the digest of its
code, and is not used where one of them is another now.
"""

import sys
import types
from collections.abc import Iterator
from typing import Any

from firebrick._tuples import NamedTuple
from firebrick.codecs.code import code_digest

_DEPTH = 8


class Inlined(NamedTuple):
    """A function that was inlined: its module, qualified name and the digest of its code (hex)."""

    module: str
    qualname: str
    digest: str


def nested(code: types.CodeType) -> Iterator[types.CodeType]:
    """Yield a code object and those in its constants, outermost first."""
    yield code
    for const in code.co_consts:
        if isinstance(const, types.CodeType):
            yield from nested(const)


def _codes(value: Any, depth: int = _DEPTH) -> Iterator[types.CodeType]:
    """Yield the code objects behind a function, method, property, partial or decorated function."""
    if depth == 0:
        return
    if isinstance(value, types.FunctionType):
        yield from nested(value.__code__)
        for cell in value.__closure__ or ():
            try:
                yield from _codes(cell.cell_contents, depth - 1)
            except ValueError:  # an empty cell
                continue
    for name in ("__wrapped__", "__func__", "fget", "fset", "func", "_torchdynamo_orig_callable"):
        try:
            inner = value.__dict__.get(name) if name == "__wrapped__" else getattr(value, name, None)
        except Exception:
            continue
        if isinstance(inner, types.FunctionType | types.MethodType) or name == "__wrapped__":
            yield from _codes(inner, depth - 1)


def find_code(inlined: Inlined) -> types.CodeType | None:
    """Return the code object of that name and digest among the imported modules, else ``None``."""
    value: Any = sys.modules.get(inlined.module)
    for part in inlined.qualname.split("."):
        if part == "<locals>":
            break
        if isinstance(value, type):
            # not getattr: a descriptor would hand out something else
            value = next((b.__dict__[part] for b in value.__mro__ if part in b.__dict__), None)
        else:
            value = getattr(value, part, None)
        if value is None:
            return None
        if isinstance(value, types.FunctionType):
            break
    for code in _codes(value):
        if code_digest(code).hex() == inlined.digest:
            return code
    return None
