"""Suites and tools for testing stores and the programs that use them."""

from __future__ import annotations

import inspect

from firebrick import errors


def errors_table() -> str:
    """Write docs/errors.md from the classes of `firebrick.errors`."""
    lines = [
        "# Errors",
        "",
        "Every error that Firebrick raises, from `firebrick.errors`. The exit code is that of",
        "command lines, and stable. Made by `python -m firebrick.testing > docs/errors.md`.",
        "",
        "| error | is a | exit code | what happened | what to do |",
        "|---|---|---|---|---|",
    ]

    def add(kind: type[errors.FirebrickError]) -> None:
        sentence = inspect.cleandoc(kind.__doc__ or "").splitlines()[0]
        names = f"`{kind.__name__}` | `{kind.__mro__[1].__name__}`"
        lines.append(f"| {names} | {kind.exit_code} | {sentence} | {kind.hint} |")
        for derived in kind.__subclasses__():
            if derived.__module__ == errors.__name__:
                add(derived)

    add(errors.FirebrickError)
    return "\n".join(lines) + "\n"
