"""A torch newer than those that are supported, where the user chose to try it."""

from __future__ import annotations

from pathlib import Path

from firebrick import torch_api
from firebrick.errors import Unsupported
from firebrick.settings import Settings
from firebrick.torch_api import minors
from firebrick.torch_api.minors import minor_of


def is_tried(settings: Settings) -> bool:
    """Tell whether the installed torch is newer than those supported and is to be tried; imports no torch."""
    if settings.unknown_torch is None or (version := torch_api.installed_version()) is None:
        return False
    here, newest = (tuple(map(int, minor_of(v).split("."))) for v in (version, torch_api.MINORS[-1]))
    return here > newest


def cautious(settings: Settings) -> Settings:
    """Return the settings for a torch that is tried: the full lane alone, and every hit is audited."""
    return settings._replace(lean=False, self_test=True, audit=1.0)


def admit() -> str:
    """Let the torch that is imported be used as the newest supported one; takes seconds.

    Returns:
        what to tell the user.

    Raises:
        Unsupported: what is relied on is not as in that one; the message has the first differences.
    """
    import torch

    from firebrick.torch_api.surface import Installed, compare, read_tables

    known = torch_api.MINORS[-1]
    found = list(compare(read_tables(), Installed(Path(torch.__file__).parent), known))
    if found:
        first = ", ".join(f"{d.name or d.subject} ({d.what})" for d in found[:3])
        raise Unsupported(
            f"torch {torch.__version__}: of what is relied on in torch {known}, {len(found)} names differ: "
            f"{first}{', …' * (len(found) > 3)}; python -m firebrick.torch_api.surface lists them"
        )
    minors.stand_in(minor_of(torch.__version__), known)
    return (
        f"trying torch {torch.__version__} as if it were {known}, in the full lane, and auditing each hit; "
        f"supported are {', '.join(torch_api.MINORS)}"
    )
