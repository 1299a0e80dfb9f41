"""Hooks of modules, which torch's guards see only where there are some.

Dynamo traces hooks into the graph and guards on those that it met, but by default not on there being none
(``skip_nnmodule_hook_guards``). In one process that is torch's choice; a program that has got a hook since
its frames were stored must not be served without it. So a bundle says which modules had hooks, and serves
where the same ones have.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import CodeType
from typing import Any

import torch
import torch.nn.modules.module as nn_module

_OWN = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


def hooks_of(code: CodeType, values: Mapping[str, Any], scope: Mapping[str, Any]) -> str:
    """Return where the modules within reach of a frame have hooks, and how many; empty for none.

    Args:
        code: the frame's code object.
        values: its locals.
        scope: its globals, of which those that the code names are looked at.
    """
    found = [
        f"{name}.{part} {kind} {len(hooks)}"
        for name, module in _modules(code, values, scope)
        for part, inner in module.named_modules()
        for kind in _OWN
        if (hooks := getattr(inner, kind, None))
    ]
    if nn_module._has_any_global_hook():
        found += [
            f"{name} {len(hooks)}"
            for name, hooks in sorted(vars(nn_module).items())
            if name.startswith("_global_") and "hooks" in name and isinstance(hooks, Mapping) and hooks
        ]
    return "\n".join(found)


def _modules(
    code: CodeType, values: Mapping[str, Any], scope: Mapping[str, Any]
) -> Iterator[tuple[str, torch.nn.Module]]:
    for name, value in (*values.items(), *((name, scope.get(name)) for name in code.co_names)):
        if isinstance(value, torch.nn.Module):
            yield name, value
