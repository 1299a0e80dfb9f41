"""Private names of torch 2.11 to 2.14 about user operators; they need no compiler.

Source followed: ``torch/library.py``, ``torch/_library/custom_ops.py``.
"""

from __future__ import annotations

import torch
from torch._library.custom_ops import OPDEFS


def has_python_gradient(namespace: str, name: str) -> bool:
    """Tell whether an operator's gradient is user Python."""
    if (defined := OPDEFS.get(f"{namespace}::{name}")) is not None:
        return defined._backward_fn is not None
    kernels = torch.library._impls  # the names of Python kernels
    return any(kernel.startswith(f"{namespace}/{name}/Autograd") for kernel in kernels)
