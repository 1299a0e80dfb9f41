"""Frames with hooks of modules are served where the same modules have the same hooks, and nowhere else."""

import functools

import pytest

from support.places import PROGRAMS
from support.programs import run_cases

pytestmark = pytest.mark.compiles

PROGRAM = PROGRAMS / "hooked.py"


def run(home, store=None, hooks="", **env):
    return run_cases(PROGRAM, ["hooked"], home=home, store=store, env={"HOOKS": hooks, **env}).case("hooked")


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    root = tmp_path_factory.mktemp("hooks")
    for number, hooks in enumerate(("", "first:doubled second:shifted")):
        assert run(root / f"home-{number}", root / "store", hooks)["stats"]["stored"] == 1
    return root / "store"


@pytest.fixture(scope="module")
def eager(tmp_path_factory):
    home = tmp_path_factory.mktemp("eager")

    @functools.cache
    def elements(hooks):
        return pytest.approx(run(home, hooks=hooks, TORCH_COMPILE_DISABLE="1")["value"]["elements"])

    return elements


@pytest.mark.parametrize("lean", ["0", "1"])
@pytest.mark.parametrize("hooks", ["", "first:doubled second:shifted"])
def test_the_same_hooks_are_served(store, eager, tmp_path, hooks, lean):
    case = run(tmp_path / "new", store, hooks, FIREBRICK_LEAN=lean)
    assert case["work"] == {}
    assert case["stats"]["hits"] == 1
    assert case["value"]["elements"] == eager(hooks)


@pytest.mark.parametrize("lean", ["0", "1"])
@pytest.mark.parametrize(
    "hooks",
    ["first:doubled", "first:tripled second:shifted", "second:shifted :doubled first:doubled"],
    ids=["fewer", "another", "more"],
)
def test_other_hooks_are_not(store, eager, tmp_path, hooks, lean):
    env = {"FIREBRICK_LEAN": lean, "FIREBRICK_RECORD": "0"}
    case = run(tmp_path / "new", store, hooks, **env)
    assert case["work"]["lowerings"] >= 1
    assert "hits" not in case["stats"]
    assert case["value"]["elements"] == eager(hooks)
