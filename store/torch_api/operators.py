"""Private names of torch 2.11 to 2.14 about user operators; they need no compiler.

Source followed: ``torch/library.py``, ``torch/_library/custom_ops.py``.
"""

from __future__ import annotations

import sys
from typing import Any

import torch
from torch._library.custom_ops import OPDEFS


def has_python_gradient(namespace: str, name: str) -> bool:
    """Tell whether an operator's gradient is user Python that only the dispatcher knows.

    A ``custom_op`` holds its gradient itself, so that it can be compared.
    """
    if f"{namespace}::{name}" in OPDEFS:
        return False
    kernels = torch.library._impls  # the names of Python kernels
    return any(kernel.startswith(f"{namespace}/{name}/Autograd") for kernel in kernels)


def is_of_compiler(operator: Any) -> bool:
    """Tell whether Inductor registers an operator when it is imported: a start without it lacks it."""
    prims = sys.modules.get("torch._inductor.inductor_prims")
    found = () if prims is None else [v for v in vars(prims).values() if isinstance(v, torch._ops.OpOverload)]
    return any(operator in (value, value.overloadpacket) for value in found)
