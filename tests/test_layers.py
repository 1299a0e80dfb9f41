"""The rooms of the house stand in the order that docs/architecture.md gives, and nobody climbs."""

import ast
import collections
import graphlib
import re
from collections.abc import Iterable, Iterator

import pytest

from support.places import ROOT

DOCUMENT = (ROOT / "docs" / "architecture.md").read_text()
ROOMS = re.findall(
    r"^\| `([\w.]+)` \|", DOCUMENT.partition("<!-- layers")[2].partition("<!-- end")[0], re.MULTILINE
)
FILES = {
    ".".join((name, *path.relative_to(ROOT / folder).with_suffix("").parts)).removesuffix(".__init__"): path
    for name, folder in (("firebrick", "store"), ("firebrick.codecs", "codecs"))
    for path in (ROOT / folder).rglob("*.py")
}
Import = tuple[str, str, bool]  # who, whom, and whether for type checkers alone


def room(module: str) -> str:
    inside = module.removeprefix("firebrick.")
    found = [name for name in ROOMS if inside == name or inside.startswith(f"{name}.")]
    return max(found, key=len) if found else "firebrick"


def imports(files: dict[str, str]) -> Iterator[Import]:
    """Yield the imports among files, given by their texts; also those inside functions."""
    for module, text in files.items():
        tree = ast.parse(text)
        typing = {
            id(inner)
            for node in ast.walk(tree)
            if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
            for statement in node.body
            for inner in ast.walk(statement)
        }
        for node in ast.walk(tree):
            named: list[str] = []
            if isinstance(node, ast.ImportFrom):
                named = [
                    f"{node.module}.{a.name}" if f"{node.module}.{a.name}" in files else str(node.module)
                    for a in node.names
                ]
            elif isinstance(node, ast.Import):
                named = [alias.name for alias in node.names]
            yield from (
                (module, name, id(node) in typing) for name in named if name in files and name != module
            )


def faults(found: list[Import]) -> list[str]:
    """Return what breaks the order: imports of rooms above, of private modules of others, and circles."""
    height = {name: -number for number, name in enumerate(ROOMS)}
    across = [(who, whom) for who, whom, _ in found if room(who) != room(whom)]
    broken = [f"{who} climbs to {whom}" for who, whom in across if height[room(whom)] > height[room(who)]]
    broken += [
        f"{who} imports the private {whom}" for who, whom in across if whom.rpartition(".")[2].startswith("_")
    ]
    graph = collections.defaultdict[str, set[str]](set)
    for who, whom, typing in found:
        if not typing or room(who) != room(whom):
            graph[who].add(whom)
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        broken.append(f"a circle: {' -> '.join(error.args[1])}")
    return sorted(set(broken))


TEXTS = {module: path.read_text() for module, path in FILES.items()}


def test_rooms_import_only_what_stands_below_them() -> None:
    assert faults(list(imports(TEXTS))) == []


@pytest.mark.parametrize(
    ("module", "line", "fault"),
    [
        (
            "storage.blob",
            "from firebrick.loader import bundles",
            "storage.blob climbs to firebrick.loader.bundles",
        ),
        (
            "base.patches",
            "if TYPE_CHECKING:\n    from firebrick.storage.store import Store",
            "climbs to firebrick.storage.store",
        ),
        (
            "loader.bundles",
            "def f():\n    from firebrick.capture import recorder",
            "climbs to firebrick.capture.recorder",
        ),
        ("loader.bundles", "from firebrick.torch_api._common import probe", "imports the private"),
        ("storage.format", "import firebrick.storage.store", "a circle"),
    ],
)
def test_a_climb_a_private_import_and_a_circle_are_seen(module: str, line: str, fault: str) -> None:
    texts = TEXTS | {f"firebrick.{module}": TEXTS[f"firebrick.{module}"] + f"\n{line}\n"}
    assert any(fault in found for found in faults(list(imports(texts))))


def test_every_folder_is_a_room_of_the_list_and_the_other_way_round() -> None:
    folders = {room(module) for module in FILES}
    assert folders == set(ROOMS)
    assert len(ROOMS) == len(set(ROOMS))


def twice(names: Iterable[str]) -> list[str]:
    return [name for name, count in collections.Counter(names).items() if count > 1]


def test_one_file_name_means_one_thing() -> None:
    stems = (path.stem for path in FILES.values() if path.stem not in ("__init__", "__main__"))
    assert twice(stem.lstrip("_") for stem in stems) == []


def test_one_class_name_means_one_thing() -> None:
    nodes = (node for text in TEXTS.values() for node in ast.walk(ast.parse(text)))
    assert twice(node.name for node in nodes if isinstance(node, ast.ClassDef)) == []


@pytest.mark.parametrize(
    ("library", "door"),
    [
        ("blake3", "firebrick.base.digest"),
        ("lmdb", "firebrick.storage.lmdb_api"),
        ("msgpack", "firebrick.storage.msgpack"),
        ("zstandard", "firebrick.storage.compression"),
    ],
)
def test_every_library_has_one_door(library: str, door: str) -> None:
    pattern = re.compile(rf"^\s*(import {library}\b|from {library}[. ])", re.MULTILINE)
    users = {module for module, text in TEXTS.items() if pattern.search(text)}
    assert users == {door}


def private_names(text: str) -> set[str]:
    """Return the private names of torch that code takes from torch itself; texts are data."""
    tree, known, found = ast.parse(text), {"torch": "torch"}, set[str]()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.partition(".")[0] == "torch":
                    known[alias.asname or "torch"] = alias.name if alias.asname else "torch"
                    found.add(alias.name)
        elif isinstance(node, ast.ImportFrom) and str(node.module).partition(".")[0] == "torch":
            for alias in node.names:
                known[alias.asname or alias.name] = f"{node.module}.{alias.name}"
                found.add(f"{node.module}.{alias.name}")
    for node in ast.walk(tree):
        path, inner = list[str](), node
        while isinstance(inner, ast.Attribute):
            path.append(inner.attr)
            inner = inner.value
        if path and isinstance(inner, ast.Name) and inner.id in known:
            found.add(".".join([known[inner.id], *reversed(path)]))
    return {name for name in found if re.search(r"\._(?!_)", name)}


def test_private_names_of_torch_have_one_door() -> None:
    inside = ("torch_api", "torch_api.native", "torch_api.surface")
    found = {
        module: names
        for module, text in TEXTS.items()
        if room(module) not in inside and (names := private_names(text))
    }
    # a classmethod of torch.Tensor that is documented for those who make subclasses
    assert found == {"firebrick.guards.examples": {"torch.Tensor._make_wrapper_subclass"}}


def test_a_private_name_is_seen_however_it_is_reached() -> None:
    lines = (
        "import torch._dynamo.config as c",
        "from torch import _C as x\nx.y",
        "import torch\ntorch.library._impls.z",
    )
    assert all(private_names(line) for line in lines)
    assert private_names("import torch\ntorch.__version__, torch.nn.Module, 'torch._C'") == set()
