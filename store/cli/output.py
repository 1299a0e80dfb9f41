"""Output of verbs: tables and trees for people, aligned lines for pipes, JSON for programs."""

import json
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, Literal

if TYPE_CHECKING:
    from rich.console import Console

_WIDE: Final = 1 << 14  # columns of a pipe, which truncates nothing
_FOLDED: Final = frozenset({"NAME", "WHERE", "ARTIFACT"})  # columns that may take several lines
_UNITS: Final = ("B", "KiB", "MiB", "GiB", "TiB")
_AGES: Final = ((86400 * 365, "a"), (86400, "d"), (3600, "h"), (60, "min"), (1, "s"))


def print_json(verb: str, value: dict[str, Any]) -> None:
    """Print a value, preceded by the name of its schema."""
    print(json.dumps({"schema": f"firebrick.{verb}/1", **value}, indent=2))


def console(*, stderr: bool = False) -> "Console":
    """Return the console to print to: without colours in a pipe, or if NO_COLOR is set."""
    from rich.console import Console

    terminal = (sys.stderr if stderr else sys.stdout).isatty()
    return Console(stderr=stderr, highlight=False, width=None if terminal else _WIDE)


def plain(text: str) -> str:
    """Return a text of a store with control characters escaped, since a terminal would obey them."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in "\n\t" else c.encode("unicode_escape").decode() for c in text)


def note(text: str) -> None:
    """Print a note besides the result, on standard error."""
    print(f"firebrick: {plain(text)}", file=sys.stderr)


def table(headers: Sequence[str], rows: Iterable[Sequence[str]], *, right: Sequence[str] = ()) -> None:
    """Print rows under headers; in a pipe as lines that are not cut, in a terminal with names that fold.

    Args:
        headers: of the columns.
        rows: the cells, as texts.
        right: headers of right-aligned columns.
    """
    listed = [[plain(cell.replace("\n", " ")) for cell in row] for row in rows]
    if sys.stdout.isatty():
        from rich.table import Table
        from rich.text import Text

        made = Table(box=None, pad_edge=False, header_style="bold")
        for header in headers:
            justify: Literal["right", "left"] = "right" if header in right else "left"
            made.add_column(header, justify=justify, overflow="fold", no_wrap=header not in _FOLDED)
        for row in listed:
            made.add_row(*map(Text, row))
        console().print(made)
        return
    widths = [max(map(len, column)) for column in zip(headers, *listed, strict=True)]
    for row in [list(headers), *listed]:
        cells = zip(headers, widths, row, strict=True)
        aligned = [
            cell.rjust(width) if header in right else cell.ljust(width) for header, width, cell in cells
        ]
        print("  ".join(aligned).rstrip())


@contextmanager
def progress(what: str) -> Iterator[None]:
    """Show progress on a terminal; nothing in a pipe."""
    if not sys.stderr.isatty():
        yield
        return
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn()
    with Progress(*columns, console=console(stderr=True), transient=True) as shown:
        shown.add_task(what, total=None)
        yield


def size(number: float) -> str:
    """Return bytes in words: ``3.1 MiB``."""
    for unit in _UNITS:
        if number < 1024 or unit == _UNITS[-1]:
            break
        number /= 1024
    return f"{number:.0f} {unit}" if unit == "B" else f"{number:.1f} {unit}"


def ago(when: float) -> str:
    """Return how long ago a time was, in words; ``never`` for 0."""
    if not when:
        return "never"
    passed = max(0.0, time.time() - when)
    for seconds, unit in _AGES:
        if passed >= seconds:
            return f"{int(passed / seconds)} {unit} ago"
    return "now"


def counted(number: int, noun: str) -> str:
    """Return a number with its noun: ``1 hit``, ``2 hits``, ``2 misses``."""
    if number == 1:
        return f"1 {noun}"
    return f"{number} {noun}{'es' if noun.endswith('s') else 's'}"
