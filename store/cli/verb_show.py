"""Show a stored function as a tree."""

import itertools
from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from firebrick.cli import output
from firebrick.cli.anatomy import anatomy
from firebrick.cli.options import JsonOption, StoreOption, opened
from firebrick.cli.selection import blob_of, one
from firebrick.errors import NoSuchEntry
from firebrick.reports.inventory import inventory
from firebrick.storage.format import Kind
from firebrick.storage.reader import Reads

if TYPE_CHECKING:
    from rich.tree import Tree

_SHOWN: Final = 12  # lines of a branch, unless all are requested
_TEXTS: Final = frozenset({Kind.TEXT, Kind.WRAPPER})


def command(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="Of a function or module, or the digits of a key.")
    ],
    everything: Annotated[bool, typer.Option("--all", "-a", help="All guards and parts.")] = False,
    graph: Annotated[bool, typer.Option("--graph", help="The graphs, as Dynamo traced them.")] = False,
    source: Annotated[bool, typer.Option("--source", help="The source that Inductor generated.")] = False,
    store: StoreOption = None,
    json: JsonOption = False,
) -> None:
    """Show a stored function as a tree: frames, guards in words, graphs, kernels, origin.

    With the key of a blob, show that blob: texts and sources verbatim.
    """
    with opened(store) as opened_store, opened_store.snapshot() as snapshot:
        found = inventory(snapshot)
        try:
            held = one(found.bundles, name)
        except NoSuchEntry:
            _blob(snapshot, blob_of(snapshot, name), json=json)
            return
        value = anatomy(snapshot, held, found.users())
        for wrapper in value["wrappers"]:
            text = str(snapshot.get(bytes.fromhex(wrapper["key"])).data, "utf-8", "replace")
            wrapper["source"] = text if source or json else ""
    if json:
        output.print_json("show", value)
    elif source or graph:
        print(output.plain("\n\n".join(_texts(value, graph=graph, source=source))))
    else:
        output.console().print(_tree(value, 1 << 30 if everything else _SHOWN))
    for problem in value["problems"]:
        output.note(f"left out: {problem}")


def _texts(value: dict[str, Any], *, graph: bool, source: bool) -> Iterable[str]:
    if graph:
        yield from (f"# {entry['name']}\n{entry['text']}" for entry in value["graphs"])
    if source:
        yield from (f"# {entry['key']}\n{entry['source']}" for entry in value["wrappers"])


def _blob(store: Reads, key: bytes, *, json: bool) -> None:
    blob = store.get(key)
    text = str(blob.data, "utf-8", "replace") if blob.kind in _TEXTS else None
    if json:
        value = {"key": key.hex(), "kind": blob.kind.name.lower(), "version": blob.version}
        output.print_json("blob", {**value, "bytes": len(blob.data), "text": text})
    elif text is not None:
        print(output.plain(text))
    else:
        print(f"{key.hex()}  {blob.kind.name.lower()}, {output.size(len(blob.data))}, not a text")


def _tree(value: dict[str, Any], most: int) -> "Tree":
    from rich.markup import escape as without_markup
    from rich.tree import Tree

    def escape(text: str) -> str:
        return without_markup(output.plain(text))

    def branch(at: Tree, title: str, lines: Iterable[str]) -> Tree:
        listed = list(lines)
        made = at.add(f"[bold]{escape(title)}[/]") if listed else at
        for line in itertools.islice(listed, most):
            made.add(escape(line))
        if len(listed) > most:
            made.add(f"… and {len(listed) - most} more: --all")
        return made

    root = Tree(f"[bold]{escape(value['name'])}[/]  {value['key'][:12]}")
    root.add(
        escape(f"{value['place']}, {value['lane']} lane, {value['device']}, {output.size(value['bytes'])}")
    )
    if value["why"]:
        root.add(escape(f"not for the lean lane: {value['why']}"))
    stored = f"stored {output.ago(value['stored_at'])}, used {output.ago(value['used_at'])}"
    root.add(f"compiled in {value['seconds']:.1f} s, {stored}")
    branch(root, "frames", (_frame(frame) for frame in value["frames"]))
    branch(root, f"guards ({len(value['guards'])})", value["guards"])
    for graph in value["graphs"]:
        operations = graph["text"].count(" = call_")
        title = f"graph {graph['name']}" + (f", {operations} operations: --graph" if operations else "")
        branch(
            root, title, (_part(part) for part in graph["parts"]) if graph["parts"] else [graph["artifact"]]
        )
    branch(root, f"kernels ({len(value['kernels'])})", (_kernel(kernel) for kernel in value["kernels"]))
    wrappers = (f"{entry['key'][:12]}  {entry['lines']} lines: --source" for entry in value["wrappers"])
    branch(root, "wrapper source", wrappers)
    components = value["components"].items()
    platform = [
        f"{name.partition('.')[2]}  {text}" for name, text in components if name.startswith("platform.")
    ]
    options = [
        f"{name.partition('.')[2]}  {text}" for name, text in components if name.startswith("options.")
    ]
    branch(root, "made on", [*platform, *(f"{name}  {text}" for name, text in value["requires"].items())])
    branch(root, "made with", options)
    branch(root, "holds in a process where", value["process"])
    parts = sorted(value["parts"], key=lambda part: -part["bytes"])
    branch(root, f"parts ({len(parts)})", map(_blob_line, parts))
    return root


def _frame(frame: dict[str, Any]) -> str:
    where = f"{frame['file']}, line {frame['line']}, {frame['python']}"
    return f"{frame['function']} ({where}): {frame['what']}, {output.size(frame['bytes'])}"


def _part(part: dict[str, Any]) -> str:
    kernels, constants = ", ".join(part["kernels"]) or "no kernels", len(part["constants"])
    graphs = ", in CUDA graphs" if part["cuda_graphs"] else ""
    more = f", {output.counted(constants, 'constant')}" if constants else ""
    return f"{part['what']}: {part['inputs']} in, {part['outputs']} out{more}{graphs}: {kernels}"


def _kernel(kernel: dict[str, Any]) -> str:
    facts = [kernel["architecture"], output.size(kernel["bytes"])]
    if kernel["registers"] is not None:
        facts.append(f"{kernel['registers']} registers")
    if kernel["shared"] is not None:
        facts.append(f"{output.size(kernel['shared'])} shared memory")
    if kernel["warps"] is not None:
        facts.append(output.counted(kernel["warps"], "warp"))
    return f"{kernel['name']}  {kernel['kind']}: {', '.join(facts + kernel['configurations'])}"


def _blob_line(part: dict[str, Any]) -> str:
    shared = f", shared by {part['bundles']} bundles" if part["bundles"] > 1 else ""
    return f"{part['key'][:12]}  {part['kind']}, {output.size(part['bytes'])}{shared}"
