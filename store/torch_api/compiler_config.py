"""The compiler's configuration in torch 2.11 to 2.14.

Source followed: ``torch/utils/_config_module.py``.
"""

from __future__ import annotations

from typing import Any

import torch._dynamo.config as dynamo_config
import torch._functorch.config as functorch_config
import torch._inductor.config as inductor_config

CONFIGS = {
    "inductor": inductor_config,
    "dynamo": dynamo_config,
    "functorch": functorch_config,
}


def get_compiler_config(backend: Any) -> dict[str, Any]:
    """Return Inductor's configuration with a backend's options, without importing its code generators.

    Replaces ``_TorchCompileInductorWrapper.get_compiler_config`` of ``torch/__init__.py``.
    """
    with inductor_config.patch(backend.config):
        copied: dict[str, Any] = inductor_config.get_config_copy()
    return copied
