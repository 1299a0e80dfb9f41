"""Take mends of Firebrick out, one by one: each must then be missed by some pair.

A mend is what keeps one kind of edit from being served stale (`fuzz.mends`). A change that is no longer found in the source
is an error, so that the table follows the code.
"""

import __future__

import ast
import importlib
import inspect
import sys
import textwrap
import types

from fuzz.mends import MENDS


def take_out(name):
    """Take a mend out of Firebrick in this process, before it is enabled.

    Args:
        name: a key of `MENDS`.
    """
    mend = MENDS[name]
    for one in (mend, *(MENDS[other] for other in mend.also)):
        for place, old, new in one.changes:
            change(place, old, new)


def change(place, old, new):
    """Replace a text in the source of one of Firebrick's functions, and the function by what that gives.

    Args:
        place: ``module:qualified name`` below ``firebrick``.
        old: a text that is in the source of the function.
        new: what is to stand there.

    Raises:
        ValueError: the source has no such text.
    """
    module, _, qualname = place.partition(":")
    module = importlib.import_module(f"firebrick.{module}")
    *owners, name = qualname.split(".")
    owner = module
    for part in owners:
        owner = getattr(owner, part)
    original = vars(owner)[name]
    source = _sources[place] = changed(place, _sources.get(place) or source_of(module, qualname), old, new)
    scope = {}
    flags = __future__.annotations.compiler_flag
    exec(compile(source, f"<{place} without a mend>", "exec", flags), vars(module), scope)
    if isinstance(owner, types.ModuleType):
        for other in [m for n, m in sys.modules.items() if n.partition(".")[0] == "firebrick"]:
            if vars(other).get(name) is original:
                setattr(other, name, scope[name])
    else:
        setattr(owner, name, scope[name])


_sources = {}  # place -> what stands there by now


def source_of(module, qualname):
    """Return the source of a function or method of a module, with its decorators."""
    text = inspect.getsource(module)
    node = ast.parse(text)
    for part in qualname.split("."):
        node = next(item for item in node.body if getattr(item, "name", "") == part)
    first = min([node.lineno, *(d.lineno for d in node.decorator_list)])
    return textwrap.dedent("\n".join(text.splitlines()[first - 1 : node.end_lineno])) + "\n"


def changed(place, source, old, new):
    """Return a source with one text in place of another, which must be there."""
    if old not in source:
        raise ValueError(f"{place} has no {old!r}")
    return source.replace(old, new)
