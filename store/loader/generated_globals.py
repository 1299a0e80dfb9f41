"""The targets of generated names in compiled code: modules and resume functions."""

from __future__ import annotations

import functools
import importlib
import sys
from collections.abc import Callable
from types import CodeType, FunctionType
from typing import Any

from firebrick.base.namedtuple import namedtuple_scope
from firebrick.reports.not_served import Miss


def used_module(name: str) -> Any:
    """Import a module of a package the program already uses, or make a stand-in for it.

    Raises:
        Miss: the program does not use the package.
    """
    if (made := namedtuple_scope(name)) is not None:
        return made
    if name.split(".", 1)[0] not in sys.modules:
        raise Miss(f"module {name} is not imported")
    return importlib.import_module(name)


def resume_function(code: CodeType, scope: dict[str, Any], name: str) -> Callable[..., Any]:
    """Return a resume function or, if it has free variables, the function that binds them.

    Follows ``CompilePackage.install`` of ``torch/_dynamo/package.py``.
    """
    if not code.co_freevars:
        return FunctionType(code, scope, name)
    # not a Python function: Dynamo would look at its frame
    return functools.partial(FunctionType, code, scope, name, None)
