"""What does not matter to a program may change between two starts: all is served, without the compiler."""

import json
import sys
import venv

import pytest

from support.places import PROGRAMS

sys.path.insert(0, str(PROGRAMS))

from invariance.changes import CHANGES, Program, reasons, verdict

from support.programs import start

pytestmark = pytest.mark.compiles

MAIN = """\
import json
import sys

import torch

import firebrick
from support.programs import describe


def scale(x):
    return x * 1.5


def step(x):
    return scale(x).sin() + 1


def main():
    value = describe(torch.compile(step)(torch.ones(4)))
    stats = firebrick.stats()
    firebrick.flush()
    compiler = [name for name in ("torch._dynamo", "torch._inductor") if name in sys.modules]
    print(json.dumps({"value": value, "stats": stats.as_dict(), "compiler": compiler}))


if __name__ == "__main__":
    main()
"""


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    return Program(tmp_path_factory.mktemp("invariance"))


@pytest.fixture(scope="module")
def reports(program):
    return program.again(CHANGES)


def test_the_first_start_stores_all_for_the_lane_without_the_compiler(program):
    stats = program.first["stats"]
    assert stats["stored"] >= 2
    assert not stats["bypasses"]
    assert not stats["not_lean"]


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.name)
def test_is_served_although_this_changed(program, reports, change):
    report = reports[change.name]
    assert verdict(report, program.first) == change.lane, reasons(report)


def test_there_are_many_changes_and_each_has_a_name_of_its_own():
    assert len({change.name for change in CHANGES}) == len(CHANGES) >= 30


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    folder = tmp_path_factory.mktemp("main")
    (folder / "tool.py").write_text(MAIN)
    first = start([folder / "tool.py"], home=folder / "home", store=folder / "store")
    assert first.report["stats"]["stored"], first.stderr
    return folder, first.report


class TestAProgramThatIsTheMainModule:
    """Its functions are those of ``__main__``, however Python was told to run it."""

    def again(self, recorded, tmp_path, *arguments, cwd):
        store = tmp_path / "store"
        store.mkdir(mode=0o700)
        for path in (recorded[0] / "store").iterdir():
            (store / path.name).write_bytes(path.read_bytes())
        return start(arguments, home=tmp_path / "home", store=store, cwd=cwd).report

    def test_is_served_under_the_option_m(self, recorded, tmp_path):
        report = self.again(recorded, tmp_path, "-m", "tool", cwd=recorded[0])
        assert verdict(report, recorded[1]) == "lean", reasons(report)

    def test_is_served_from_a_package_that_is_run(self, recorded, tmp_path):
        package = tmp_path / "tools"
        package.mkdir()
        (package / "__main__.py").write_text(MAIN)
        report = self.again(recorded, tmp_path, "-m", "tools", cwd=tmp_path)
        assert verdict(report, recorded[1]) == "lean", reasons(report)

    def test_is_served_from_a_file_of_another_name(self, recorded, tmp_path):
        (tmp_path / "renamed.py").write_text(MAIN)
        report = self.again(recorded, tmp_path, "renamed.py", cwd=tmp_path)
        assert verdict(report, recorded[1]) == "lean", reasons(report)

    def test_is_served_from_another_virtual_environment(self, recorded, tmp_path, monkeypatch):
        venv.create(tmp_path / "other environment", symlinks=True, with_pip=False)
        packages = next((tmp_path / "other environment" / "lib").glob("python*")) / "site-packages"
        lines = [f"import site; site.addsitedir({path!r})" for path in sys.path if path.endswith("-packages")]
        (packages / "those-of-the-first.pth").write_text("\n".join(lines) + "\n")
        monkeypatch.setattr(sys, "executable", str(tmp_path / "other environment" / "bin" / "python"))
        report = self.again(recorded, tmp_path, recorded[0] / "tool.py", cwd=tmp_path)
        assert verdict(report, recorded[1]) == "lean", json.dumps(report)
