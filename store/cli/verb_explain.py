"""Explain why functions were compiled or not stored."""

from typing import Annotated, Any

import typer

from firebrick.cli import output
from firebrick.cli.options import JsonOption, StoreOption, opened
from firebrick.errors import NoSuchEntry
from firebrick.session.explain import Explanation, Explanations, explain_runs


def command(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="Of a function or module.", show_default=False)
    ] = "",
    runs: Annotated[int, typer.Option("--runs", min=1, max=20, help="How many of the last runs.")] = 1,
    store: StoreOption = None,
    json: JsonOption = False,
) -> None:
    """Explain why functions were compiled or not stored in recent runs, with stored and new values.

    The store keeps the last 20 runs with misses.
    """
    with opened(store) as source:
        found = explain_runs(source, runs)
    if name:
        found = [Explanations(run.source, [e for e in run if _is_of(e, name)]) for run in found]
        found = [run for run in found if len(run)]
        if not found:
            raise NoSuchEntry(name)
    if json:
        value = [{"process": run.source, "explanations": [_plain(e) for e in run]} for run in found]
        output.print_json("explain", {"runs": value})
    elif not found:
        print("the store keeps no run in which anything was missed")
    else:
        print(output.plain("\n\n".join(map(str, found))))


def _is_of(explanation: Explanation, name: str) -> bool:
    function = explanation.function
    return name in (function.name, function.place, function.qualname) or function.name.startswith(f"{name}.")


def _plain(explanation: Explanation) -> dict[str, Any]:
    event = explanation.event
    return {
        "function": explanation.function.name or explanation.function.qualname,
        "place": explanation.function.place,
        "outcome": explanation.outcome,
        "lane": event.lane if event is not None else "",
        "code": explanation.code,
        "reason": explanation.reason,
        "changes": [change._asdict() for change in explanation.changes],
        "others": list(event.others) if event is not None else [],
        "nearest": explanation.nearest,
        "advice": explanation.advice,
        "when": event.when if event is not None else 0.0,
    }
