"""Behaviours of torch's C++ parts that show only when tried. The compiler is not imported."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, Final

import torch
import torch._C._dynamo.guards as cpp

from firebrick.guards.manager import manager_types, stand_ins


def _state_of_tensor_guards() -> str:
    """Return whose dispatch state a tensor guard uses: the adding thread's, or the root's."""
    value = torch.ones(1)

    def passes(root_in: bool, added_in: bool) -> bool:
        with torch.inference_mode(root_in):
            root = cpp.RootGuardManager()
        names: Any = {"source": "L['x']", "example_value": None, "guard_manager_enum": manager_types()[0]}
        manager = root.framelocals_manager(key=("x", 0), **names)
        arguments: Any = value, [1], [1], "x", ["x"], None, torch.Tensor, torch._C._dispatch_keys(value)
        with torch.inference_mode(added_in):
            manager.add_tensor_match_guard(*arguments)
        return bool(root.check({"x": value}))

    with stand_ins():
        outcome = passes(True, False), passes(False, True)
    return {(True, False): "adding_thread", (False, True): "root"}.get(outcome, "other")


def _global_state() -> str:
    """Return the fields in the pickle of torch's global-state guard."""
    state: Any = cpp.GlobalStateGuard()
    return ",".join(sorted(json.loads(state.__getstate__())))


def _local_state() -> str:
    """Return the types in the pickle of a dispatch state; "none" if there is none."""
    if "get_local_state" not in vars(cpp.RootGuardManager):
        return "none"
    root: Any = cpp.RootGuardManager()
    return ",".join(type(value).__name__ for value in root.get_local_state().__getstate__())


PROBES: Final[Mapping[str, Callable[[], str]]] = {
    "state_of_tensor_guards": _state_of_tensor_guards,
    "global_state": _global_state,
    "local_state": _local_state,
}
