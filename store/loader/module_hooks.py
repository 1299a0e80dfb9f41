"""Hooks of modules, which torch's guards do not see.

Dynamo traces hooks into the graph and, by default, does not guard that there are none
(``skip_nnmodule_hook_guards``). In one process that is torch's choice; a program that has got a hook
since its frames were stored must not be served without it. So frames
with hooks are neither stored nor served.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import CodeType
from typing import Any

import torch
import torch.nn.modules.module as nn_module

_OWN = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


def has_hooks(code: CodeType, values: Mapping[str, Any], scope: Mapping[str, Any]) -> bool:
    """Tell whether a module within reach of a frame has a hook.

    Args:
        code: the frame's code object.
        values: its locals.
        scope: its globals, of which those that the code names are looked at.
    """
    if nn_module._has_any_global_hook():
        return True
    return any(
        any(getattr(part, name, None) for name in _OWN)
        for module in _modules(code, values, scope)
        for part in module.modules()
    )


def _modules(
    code: CodeType, values: Mapping[str, Any], scope: Mapping[str, Any]
) -> Iterator[torch.nn.Module]:
    for value in (*values.values(), *(scope.get(name) for name in code.co_names)):
        if isinstance(value, torch.nn.Module):
            yield value
