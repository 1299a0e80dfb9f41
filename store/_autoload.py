"""Entry point of the group ``torch.backends``: called at the end of ``import torch``.

It imports only this module unless a ``FIREBRICK_…`` variable is set. Torch turns an error here into a failed
``import torch``: only a torch that is not supported raises, in strict mode.
"""

from __future__ import annotations

import os


def _named(variable: str) -> bool:
    return variable.startswith("FIREBRICK_")


def autoload() -> None:
    """Enable Firebrick if the environment requests it."""
    if not any(map(_named, os.environ)):
        return
    try:
        from firebrick.errors import Unsupported
        from firebrick.session.session import enable, warn, warn_of_misspelt
    except BaseException as error:
        import sys

        print(f"firebrick: not enabled: {error}", file=sys.stderr)
        return
    try:
        if os.environ.get("FIREBRICK_CACHE_DIR"):
            enable()
        else:
            warn_of_misspelt()
    except Unsupported:
        raise
    except Exception as error:
        try:
            warn(f"not enabled: {error}")
        except Warning:  # the user turns warnings into errors, but this import must not fail
            pass
