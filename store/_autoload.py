"""Entry point of the group ``torch.backends``: called at the end of ``import torch``.

It imports nothing but this module unless ``FIREBRICK_CACHE_DIR`` is set, and never raises: torch turns
an error here into a failed ``import torch``.
"""

from __future__ import annotations

import os


def autoload() -> None:
    """Enable Firebrick when the environment asks for it."""
    if not os.environ.get("FIREBRICK_CACHE_DIR"):
        return
    try:
        from firebrick.session.session import enable, warn
    except BaseException as error:
        import sys

        print(f"firebrick: not enabled: {error}", file=sys.stderr)
        return
    try:
        enable()
    except Exception as error:
        try:
            warn(f"not enabled: {error}")
        except Warning:  # the user turns warnings into errors; not this import
            pass
