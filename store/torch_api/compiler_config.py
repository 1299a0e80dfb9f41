"""The compiler's configuration in torch 2.11 to 2.14, as texts that say what is computed.

Source followed: ``torch/utils/_config_module.py``.
"""

from __future__ import annotations

import hashlib
from typing import Any

import torch._dynamo.config as dynamo_config
import torch._functorch.config as functorch_config
import torch._inductor.config as inductor_config

from firebrick.validity.configuration import config_values, text_of

_CONFIGS = {
    "inductor": inductor_config,
    "dynamo": dynamo_config,
    "functorch": functorch_config,
}


def configuration() -> dict[str, str]:
    """Return the compiler's configuration as it stands in this thread now, one text per part.

    A text is the digest of all values, followed by those that differ from their defaults.
    """
    parts = {}
    for part, config in _CONFIGS.items():
        texts = [(name, text_of(value)) for name, value in sorted(config_values(part, config).items())]
        changed = [f"{n}={text}" for n, text in texts if text != text_of(config._config[n].default)]
        digest = hashlib.sha256(repr(texts).encode()).hexdigest()[:32]
        parts[f"config.{part}"] = "; ".join([digest, *changed])
    return parts


def get_compiler_config(backend: Any) -> dict[str, Any]:
    """Return Inductor's configuration with a backend's options, without importing its code generators.

    Stands for ``_TorchCompileInductorWrapper.get_compiler_config`` of ``torch/__init__.py``.
    """
    with inductor_config.patch(backend.config):
        copied: dict[str, Any] = inductor_config.get_config_copy()
    return copied
