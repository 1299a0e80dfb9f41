"""Take the GPU index out of Inductor's wrappers, so that one wrapper serves all devices of a kind.

Source followed: ``torch/_inductor/codegen/wrapper.py``, ``CUDADeviceOpOverrides`` beside it.
"""

from __future__ import annotations

import ast
import functools
import operator
import re
from collections.abc import Callable, Iterator, Sequence

from firebrick.errors import NotLean
from firebrick.runtime.names import DEVICE

_TAKES_INDEX = ("_DeviceGuard", "set_device", "get_raw_stream")
_TEXT = re.compile(r"cuda:\d")


def take_device(functions: Sequence[ast.FunctionDef]) -> int | None:
    """Replace the device index in a wrapper's functions by the name `DEVICE`, in place, and return it.

    Replace nothing and return None if they name no device, several, or one within a string.

    Raises:
        NotLean: the wrapper already uses the name.
    """
    nodes = [node for function in functions for node in ast.walk(function)]
    if any(isinstance(node, ast.Name) and node.id == DEVICE for node in nodes):
        raise NotLean(f"the wrapper uses {DEVICE}")
    places = [place for node in nodes for place in _places(node)]
    indices = {index for index, _ in places}
    if len(indices) != 1 or any(map(_is_text, nodes)):
        return None
    for _, replace in places:
        replace(ast.Name(DEVICE, ast.Load()))
    return indices.pop()


def _is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str) and bool(_TEXT.search(node.value))


def _places(node: ast.AST) -> Iterator[tuple[int, Callable[[ast.expr], None]]]:
    """Yield the device indices in a call, each with a function that replaces it."""
    match node:
        case ast.Call(
            func=ast.Attribute(attr=name) | ast.Name(id=name),
            args=[ast.Constant(value=int(index))],
            keywords=[],
        ) if name in _TAKES_INDEX:
            yield index, functools.partial(operator.setitem, node.args, 0)
        case ast.Call(
            func=ast.Attribute(attr="device") | ast.Name(id="device"),
            keywords=[
                ast.keyword(arg="type", value=ast.Constant(value="cuda")),
                ast.keyword(arg="index", value=ast.Constant(value=int(index))) as place,
            ],
        ):
            yield index, functools.partial(setattr, place, "value")
