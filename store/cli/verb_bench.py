"""Measure Firebrick's savings for a program."""

from typing import Annotated, Any

import typer

from firebrick.cli import output
from firebrick.cli.measure import COLD, FIREBRICK, Measured, measure
from firebrick.cli.options import JsonOption
from firebrick.cli.verb_run import ProgramArgument, command_settings


@command_settings
def command(
    program: ProgramArgument,
    repeats: Annotated[int, typer.Option("--repeats", min=1, max=100, help="Starts of each warm way.")] = 3,
    json: JsonOption = False,
) -> None:
    """Start a program cold, from torch's warm caches and from a Firebrick store, and compare the seconds.

    Each start is a separate process, in temporary directories: your stores and caches are not touched. Its
    output is compared with that of the cold start.
    """
    show(measure(program, repeats, lambda way: output.note(f"starting it: {way} …")), json=json)


def show(found: list[Measured], *, json: bool = False) -> None:
    """Print the measurements."""
    cold = next(measured.median for measured in found if measured.way == COLD)
    if json:
        ways: list[dict[str, Any]] = [
            {
                "way": measured.way,
                "seconds": [round(seconds, 3) for seconds in measured.seconds],
                "median": round(measured.median, 3),
                "same_output": measured.same,
            }
            for measured in found
        ]
        output.print_json("bench", {"ways": ways})
        return
    rows = [
        (
            measured.way,
            f"{measured.median:.2f} s",
            f"{cold / measured.median:.1f} ×",
            str(len(measured.seconds)),
            "yes" if measured.same else "NO",
        )
        for measured in found
    ]
    output.table(
        ("START", "MEDIAN", "FASTER", "STARTS", "SAME OUTPUT"), rows, right=("MEDIAN", "FASTER", "STARTS")
    )
    saved = cold - next(measured.median for measured in found if measured.way == FIREBRICK)
    print(f"\nFirebrick saves {saved:.1f} s of {cold:.1f} s at each start of this program.")
