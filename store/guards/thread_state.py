"""Check the thread states that torch pickles with guards, before C++ reads them.

Source followed: ``GlobalStateGuard`` and ``LocalState`` of ``torch/csrc/dynamo/guards.cpp``.
"""

from __future__ import annotations

import json
from typing import Any, Final

from firebrick.errors import DecodeError
from firebrick.torch_api.minors import has
from firebrick.torch_api.native import guards as cpp

LOCAL_STATE: Final[Any] = vars(cpp)["LocalState"] if has("torch._C._dynamo.guards:LocalState") else None


def check_global_state(state: Any) -> None:
    """Check the state of torch's global-state guard: torch aborts the process on any it did not write.

    Raises:
        DecodeError: it is not JSON with torch's fields.
    """
    try:
        if type(state) is str and _form(json.loads(state)) == _form(json.loads(_a_global_state())):
            return
    except ValueError:
        pass
    raise DecodeError(f"a guard on global state from {state!r:.40}")


def check_local_state(state: Any) -> None:
    """Check the dispatch state that guards were built under: torch casts the items of its tuple blindly.

    Raises:
        DecodeError: it is not three raw sets of dispatch keys and two flags, as torch writes it.
    """
    if type(state) is not tuple or tuple(map(type, state)) != (int, int, int, bool, bool):
        raise DecodeError(f"a state of dispatch from {state!r:.40}")
    if not all(0 <= keys < 1 << 64 for keys in state[:3]):
        raise DecodeError(f"a state of dispatch from {state!r:.80}")


def _a_global_state() -> str:
    return str(cpp.GlobalStateGuard().__getstate__())


def _form(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _form(item) for key, item in value.items()}
    return [_form(item) for item in value] if isinstance(value, list) else type(value)
