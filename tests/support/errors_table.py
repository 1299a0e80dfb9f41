"""Write docs/errors.md from the classes of `firebrick.errors`.

python tests/support/errors_table.py > docs/errors.md
"""

from __future__ import annotations

import inspect

from firebrick import errors


def errors_table() -> str:
    """Return the text of docs/errors.md."""
    lines = [
        "# Errors",
        "",
        "Every error that Firebrick raises, from `firebrick.errors`. The exit code is that of",
        "command lines, and stable. Made by `python tests/support/errors_table.py > docs/errors.md`.",
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


if __name__ == "__main__":
    print(errors_table(), end="")
