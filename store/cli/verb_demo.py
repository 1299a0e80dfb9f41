"""Demonstrate Firebrick on a small bundled model."""

from pathlib import Path
from typing import Annotated

import typer

from firebrick.cli import output
from firebrick.cli.measure import measure
from firebrick.cli.options import JsonOption
from firebrick.cli.verb_bench import show

_PROGRAM = Path(__file__).with_name("demo_program.py")


def command(
    repeats: Annotated[int, typer.Option("--repeats", min=1, max=100, help="Starts of each warm way.")] = 1,
    json: JsonOption = False,
) -> None:
    """Train a small transformer for one step, started cold and from a store: minutes on two cores."""
    output.note(f"the program is {_PROGRAM}")
    show(measure([str(_PROGRAM)], repeats, lambda way: output.note(f"starting it: {way} …")), json=json)
