"""Compare two stored functions."""

import difflib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from firebrick.cli import output
from firebrick.cli.anatomy import anatomy
from firebrick.cli.options import JsonOption, StoreOption, opened
from firebrick.cli.selection import one
from firebrick.reports.inventory import inventory


def command(
    first: Annotated[str, typer.Argument(metavar="A", help="Name or key of a bundle.")],
    second: Annotated[str, typer.Argument(metavar="B", help="Name or key of another.")],
    other: Annotated[
        Path | None, typer.Option("--other", metavar="DIR", help="Folder of the store that has B.")
    ] = None,
    store: StoreOption = None,
    json: JsonOption = False,
) -> None:
    """Show how two stored functions differ: conditions, guards, graphs, sources, kernels.

    The exit code is 1 if they differ.
    """
    a, b = _read(store, first), _read(other or store, second)
    sections = [{"what": what, "lines": lines} for what, lines in _differences(a, b) if lines]
    if json:
        value = {"a": a["key"], "b": b["key"], "equal": not sections, "sections": sections}
        output.print_json("diff", value)
    elif not sections:
        print("no difference")
    else:
        shown = output.console()
        from rich.text import Text

        colours = {"+": "green", "-": "red"}
        for section in sections:
            shown.print(Text(str(section["what"]), "bold"))
            for line in section["lines"]:
                shown.print(Text(f"  {output.plain(line)}", colours.get(line[:1], "")))
    raise typer.Exit(int(bool(sections)))


def _read(store: Path | None, name: str) -> dict[str, Any]:
    with opened(store) as source, source.snapshot() as snapshot:
        found = inventory(snapshot)
        value = anatomy(snapshot, one(found.bundles, name), found.users())
        for wrapper in value["wrappers"]:
            wrapper["source"] = str(snapshot.get(bytes.fromhex(wrapper["key"])).data, "utf-8", "replace")
    for problem in value["problems"]:
        output.note(f"left out: {problem}")
    return value


def _differences(a: dict[str, Any], b: dict[str, Any]) -> Iterable[tuple[str, list[str]]]:
    facts = ("name", "place", "lane", "why", "device")
    yield "function", _of_maps({key: a[key] for key in facts}, {key: b[key] for key in facts})
    yield "recipe", _of_maps(a["components"], b["components"])
    yield "requires", _of_maps(a["requires"], b["requires"])
    yield "guards", _of_lists(a["guards"], b["guards"])
    yield "process", _of_lists(a["process"], b["process"])
    yield "graphs", _of_texts(*("\n".join(graph["text"] for graph in side["graphs"]) for side in (a, b)))
    yield "kernels", _of_lists(*([_kernel(kernel) for kernel in side["kernels"]] for side in (a, b)))
    sources = (sorted(wrapper["source"] for wrapper in side["wrappers"]) for side in (a, b))
    yield "wrapper source", _of_texts(*map("\n".join, sources))


def _kernel(kernel: dict[str, Any]) -> str:
    facts = (f"{name} {kernel[name]}" for name in ("architecture", "registers", "shared", "warps", "bytes"))
    return f"{kernel['name']}: {', '.join(facts)}"


def _of_maps(a: Mapping[str, str], b: Mapping[str, str]) -> list[str]:
    lines = []
    for name in sorted({*a, *b}):
        if a.get(name) != b.get(name):
            lines += [f"{sign} {name}  {side[name]}" for sign, side in (("-", a), ("+", b)) if name in side]
    return lines


def _of_lists(a: list[str], b: list[str]) -> list[str]:
    gone = [f"- {item}" for item in a if item not in b]
    return gone + [f"+ {item}" for item in b if item not in a]


def _of_texts(a: str, b: str) -> list[str]:
    return list(difflib.unified_diff(a.splitlines(), b.splitlines(), "A", "B", lineterm="", n=2))
