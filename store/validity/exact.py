"""Write values as texts that are equal only if type and bits are.

``==`` does not distinguish 1, 1.0, True and an ``IntEnum``, or 0.0 and -0.0; traced code does.
"""

from __future__ import annotations

import enum
import math
import types
from typing import Any, Final

import torch

from firebrick.base.digest import hex_digest

PLAIN: Final = frozenset(
    {type(None), bool, int, float, complex, str, bytes, types.EllipsisType, types.NotImplementedType}
)
OF_TORCH: Final = frozenset({torch.dtype, torch.device, torch.layout, torch.memory_format, torch.Size})
_LONG: Final = 200


def exact(value: Any) -> str | None:
    """Return the text of a plain, immutable value; ``None`` for any other.

    Long texts and bytes become a digest with their first characters.
    """
    kind = type(value)
    if kind in PLAIN or kind in OF_TORCH:
        text = repr(value)  # floats: all bits, and the sign of zero
        if len(text) > _LONG:
            digest = hex_digest(text.encode("utf-8", "surrogatepass"))[:16]
            return f"{text[:40]}… ({len(text)} characters, {digest})"
        return text
    if kind in (tuple, frozenset, slice, range):
        items = (value.start, value.stop, value.step) if kind in (slice, range) else value
        texts = [exact(item) for item in items]
        if None in texts:
            return None
        known = [text for text in texts if text is not None]
        if kind is frozenset:  # in the order of their texts: hash order is a separate fact
            known.sort()
        return f"{kind.__name__}({', '.join(known)})"
    if issubclass(kind, enum.Enum):
        return f"{kind.__module__}:{kind.__qualname__}.{value._name_}"
    return None


def peculiarity(value: Any) -> str:
    """Return what ``==`` misses about a plain value that a guard compares; empty for nothing.

    That is the sign of a zero and, inside tuples and frozen sets, the types. Values that vary between calls
    do not differ here, unless they change type or become -0.0.
    """
    kind = type(value)
    if kind is float:
        return "-0.0" if value == 0.0 and math.copysign(1.0, value) < 0 else ""
    if kind is complex:
        parts = peculiarity(value.real), peculiarity(value.imag)
        return f"complex({', '.join(part or '+' for part in parts)})" if any(parts) else ""
    if kind in (tuple, frozenset):
        texts = [peculiarity(item) or type(item).__qualname__ for item in value]
        return f"{kind.__name__}({', '.join(sorted(texts) if kind is frozenset else texts)})"
    return ""
