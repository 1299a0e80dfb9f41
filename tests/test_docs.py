"""The documents say what the code does: links, examples, tables and commands."""

import configparser
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from firebrick.settings import Settings
from support.places import ROOT

README = (ROOT / "README.md").read_text()
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
LINK = re.compile(r"\[[^]]*\]\(([^)\s]+)\)")
EXAMPLES = re.findall(r"^```python\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)
COMMANDS = dict(re.findall(r"^<!-- (\w+) -->\n```sh\n(.*?)\n```$", README, re.MULTILINE))


def cells(line: str) -> list[str]:
    return [cell.strip().strip("`") for cell in line.strip("| \n").split("|")]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_to_files(document: Path) -> None:
    targets = [link.partition("#")[0] for link in LINK.findall(document.read_text())]
    local = [target for target in targets if target and "://" not in target]
    assert [target for target in local if not (document.parent / target).exists()] == []


def test_the_index_names_every_document() -> None:
    index = ROOT / "docs" / "index.md"
    linked = {(index.parent / link).resolve() for link in LINK.findall(index.read_text())}
    assert set((ROOT / "docs").glob("*.md")) - linked == {index}


@pytest.mark.parametrize("example", EXAMPLES)
def test_the_examples_of_the_readme_run(example: str, tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", example], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_readme_has_examples() -> None:
    assert len(EXAMPLES) == 2


def test_the_table_of_settings_has_every_setting() -> None:
    rows = [cells(line) for line in README.splitlines() if "`FIREBRICK_" in line and "|" in line]
    expected = [
        [name, f"FIREBRICK_{name.upper()}", repr(default)]
        for name, default in Settings._field_defaults.items()
    ]
    assert [row[:3] for row in rows] == expected
    assert all(len(row) == 4 and row[3] for row in rows)


@pytest.mark.parametrize("name", ["demo", "test"])
def test_the_commands_run_environments_of_tox(name: str) -> None:
    tox = configparser.ConfigParser(interpolation=None)
    tox.read(ROOT / "tox.ini")
    known = {section.removeprefix("testenv:") for section in tox.sections()} | {"tests"}
    envs = re.search(r"tox run(?: -e (\S+))?$", COMMANDS[name])
    assert envs
    chosen = envs[1] or tox["tox"]["env_list"]
    assert set(re.split(r"[,\s]+", chosen)) <= known


def test_the_reference_of_the_command_line_is_what_it_says_itself() -> None:
    from support.cli_reference import DOCUMENT, written

    assert DOCUMENT.read_text() == written(DOCUMENT.read_text())


def test_ci_runs_the_test_command() -> None:
    extract = re.search(r"sed -n '[^']+'", (ROOT / ".ci" / "run").read_text())
    assert extract
    done = subprocess.run(f"{extract[0]} README.md", shell=True, cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.strip() == COMMANDS["test"]


def test_the_table_of_versions_seen_is_that_of_the_data() -> None:
    results = ROOT / "docs" / "results"
    rows = [list(map(str, row.values())) for row in json.loads((results / "seen.json").read_text())]
    names = ("torch", "python", "device", "date", "passed", "failed", "what")
    assert [tuple(row) for row in json.loads((results / "seen.json").read_text())] == [names] * len(rows)
    table = (results / "seen.md").read_text().partition("<!-- table: seen.json -->")[2]
    lines = [cells(line) for line in table.splitlines() if line.startswith("|")]
    assert lines[2:] == rows
