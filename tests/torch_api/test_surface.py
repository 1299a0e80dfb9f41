"""The tables of what Firebrick relies on say what the installed torch has, and nothing of it is guessed."""

import ast
import collections
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from firebrick.torch_api import MINORS
from firebrick.torch_api.minors import PRESENT, minor_of
from firebrick.torch_api.surface import Entry, Group, Installed, compare, read_tables
from support.places import ROOT

ROOMS = (
    "capture/",
    "guards/",
    "loader/",
    "reports/",
    "runtime/",
    "session/",
    "torch_api/",
    "validity/configuration.py",
)
HERE = minor_of(torch.__version__)
TABLES = read_tables()
INSTALLED = Installed(Path(torch.__file__).parent)
SCHEMAS = "torch._functorch._aot_autograd.schemas"


def found_in(tables: list[Group], minor: str = HERE) -> dict[str, str]:
    return {f"{d.kind} {d.subject} {d.name}".strip(): d.what for d in compare(tables, INSTALLED, minor)}


class TestTheTables:
    def test_say_what_the_installed_torch_has(self) -> None:
        assert found_in(TABLES) == {}

    @pytest.mark.parametrize("group", TABLES, ids=lambda group: f"{group.kind} {group.subject}")
    def test_have_every_name_once_for_each_minor(self, group: Group) -> None:
        assert group.entries
        for minor in MINORS:
            names = collections.Counter(e.name for e in group.entries if e.holds_for(minor))
            assert [name for name, count in names.items() if count > 1] == []
        for entry in group.entries:
            assert {entry.first, entry.last} <= {"", *MINORS}
            assert any(map(entry.holds_for, MINORS))

    def test_have_no_subject_twice(self) -> None:
        heads = [(group.kind, group.subject) for group in TABLES]
        assert len(heads) == len(set(heads))

    def test_know_the_names_that_only_some_minors_have(self) -> None:
        known = {
            f"{group.subject}{'.' if ':' in group.subject else ':'}{entry.name}": (entry.first, entry.last)
            for group in TABLES
            for entry in group.entries
        }
        parameters = {name for name in PRESENT if name.endswith((".readonly_values", ".bw_compiler"))}
        attributes = {name for name in PRESENT if name.endswith(":Function.boxed_grads_call")}
        for name in PRESENT.keys() - parameters - attributes:
            if name.startswith("torch._C"):  # which is looked at since 2.13
                assert max(PRESENT[name][0], "2.13") == known[name][0]
            else:
                assert known[name.replace("<", "").replace(">", "")] == PRESENT[name], name

    @pytest.mark.parametrize(
        ("text", "reason"),
        [
            ("[fields]x", "no head"),
            ("[colours torch]", "no head"),
            ("[names torch]\n  compile", "without a verdict"),
            ("[names torch]\nperhaps: not sure\n  compile", "no verdict"),
            ("[names torch]\nhandled:\n  compile", "no verdict"),
            ("[names torch]\nhandled: called\n  compile@2-", "no name"),
        ],
    )
    def test_that_are_written_otherwise_are_an_error(self, tmp_path: Path, text: str, reason: str) -> None:
        (tmp_path / "bad.txt").write_text(text)
        with pytest.raises(ValueError, match=f"bad.txt:.*{reason}"):
            read_tables(tmp_path)

    def test_are_read_as_they_are_written(self, tmp_path: Path) -> None:
        text = "# x\n[names torch:Tensor]\nrefused: why: so\n  a(b,*c)@-2.12 d=e,f\n"
        (tmp_path / "good.txt").write_text(text)
        assert read_tables(tmp_path) == [
            Group("names", "torch:Tensor", (
                Entry("a", "(b,*c)", "", "2.12", "refused", "why: so"),
                Entry("d", "=e,f", "", "", "refused", "why: so"),
            )),
        ]  # fmt: skip


class TestAComparison:
    def test_finds_what_is_new_gone_and_changed(self) -> None:
        def entry(name: str, fact: str = "") -> Entry:
            return Entry(name, fact, "", "", "handled", "read")

        tables = [
            Group("fields", f"{SCHEMAS}:MemoryFormatMeta", (entry("size"), entry("stride"), entry("colour"))),
            Group("fields", f"{SCHEMAS}:NoSuchMeta", (entry("size"),)),
            Group(
                "names", "torch._dynamo.package", (entry("load_guards_state", "(state)"), entry("nothing"))
            ),
            Group("texts", "torch._dynamo.package", (entry("load_guards_state"), entry("no such text"))),
            Group("behaviours", "torch._C._dynamo.guards", (entry("local_state", "=another"),)),
            Group("methods", "torch._C._dynamo.guards:NoSuchManager", (entry("check"),)),
        ]
        assert found_in(tables) == {
            f"fields {SCHEMAS}:MemoryFormatMeta memory_format": "new",
            f"fields {SCHEMAS}:MemoryFormatMeta colour": "gone",
            f"fields {SCHEMAS}:NoSuchMeta": "gone",
            "names torch._dynamo.package load_guards_state": "changed",
            "names torch._dynamo.package nothing": "gone",
            "texts torch._dynamo.package no such text": "gone",
            "behaviours torch._C._dynamo.guards local_state": "changed",
            "methods torch._C._dynamo.guards:NoSuchManager": "gone",
        }

    def test_is_a_command_that_imports_no_compiler(self) -> None:
        code = (
            "import runpy, sys\n"
            "try: runpy.run_module('firebrick.torch_api.surface', run_name='__main__')\n"
            "except SystemExit as end: print(end.code, 'torch._dynamo' in sys.modules)"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        first, *_, last = done.stdout.splitlines()
        assert first.endswith(", 0 differ")
        assert last == "0 False"


def reads_with_a_default() -> Iterator[str]:
    """Yield the places at which a name that an object may lack is read, as the list has them."""
    for path in sorted((ROOT / "store").rglob("*.py")):
        where = path.relative_to(ROOT).as_posix()
        if where.removeprefix("store/").startswith(ROOMS):
            for node in ast.walk(ast.parse(path.read_text())):
                match node:
                    case ast.Call(func=ast.Name(id="getattr"), args=[_, _, _]):
                        yield f"{where}: {ast.unparse(node)}"
                    case ast.Call(func=ast.Name(id="hasattr")):
                        yield f"{where}: {ast.unparse(node)}"
                    case ast.Call(
                        func=ast.Attribute(value=ast.Call(func=ast.Name(id="vars")), attr="get" | "pop")
                    ):
                        yield f"{where}: {ast.unparse(node)}"
                    case ast.Call(
                        func=ast.Attribute(value=ast.Attribute(attr="__dict__"), attr="get" | "pop")
                    ):
                        yield f"{where}: {ast.unparse(node)}"


def allowed() -> Iterator[tuple[str, str]]:
    """Yield the places of the list, each with its reason."""
    reason = ""
    for line in (ROOT / "tests" / "reads_with_a_default.txt").read_text().splitlines():
        if line.startswith("["):
            reason = line.strip("[]")
        elif line and not line.startswith("#"):
            yield line, reason


class TestNames:
    def test_that_may_be_missing_are_read_with_a_default_only_where_there_is_a_reason(self) -> None:
        assert sorted(set(reads_with_a_default()) - dict(allowed()).keys()) == []

    def test_on_the_list_are_still_read_so(self) -> None:
        assert sorted(dict(allowed()).keys() - set(reads_with_a_default())) == []

    def test_on_the_list_have_a_reason_and_stand_there_once(self) -> None:
        places = [place for place, _ in allowed()]
        assert len(places) == len(set(places)) and all(reason for _, reason in allowed())
