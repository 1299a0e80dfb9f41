"""What is new is restored by another process before the lane without the compiler may use it."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from firebrick.loader.bundles import PENDING, SELF_TEST
from firebrick.storage.store import Store
from support.places import PROGRAMS
from support.programs import builders, run_cases

pytestmark = pytest.mark.compiles

PROGRAM = PROGRAMS / "lean.py"
TESTED = {"FIREBRICK_SELF_TEST": "1"}
# What the testing process does first; the recording process is not touched.
SABOTAGE = """
import sys
if "firebrick.loader.self_test" in sys.orig_argv:
    import importlib, os
    from firebrick.loader.lean_backends import LeanBackends
    {}
"""


def run(home, store, **env):
    return run_cases(PROGRAM, ["function"], home=home, store=store, env={**TESTED, **env})


def bundle_of(store):
    recipes = (r for r in store.recipes() if store.components(r)["function.name"] == "add_function")
    (bundle,) = (key for recipe in recipes for key in store.bundles(recipe))
    return bundle


def verdict_of(folder):
    with Store.open(folder, readonly=True) as store:
        return store.facts(bundle_of(store)).get(SELF_TEST)


def note(folder, verdict):
    with Store.open(folder) as store:
        bundle = bundle_of(store)
        store.note(bundle, {**store.facts(bundle), SELF_TEST: verdict})


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    root = tmp_path_factory.mktemp("tested")
    return root / "store", run(root / "home", root / "store")


@pytest.fixture
def store(recorded, tmp_path):
    return Path(shutil.copytree(recorded[0], tmp_path / "store"))


def test_a_bundle_that_passed_is_served(recorded, tmp_path):
    assert verdict_of(recorded[0]) is None
    assert any("self_test" in process for process in recorded[1].report["processes"])
    case = run(tmp_path, recorded[0])
    assert case.case("function")["stats"]["lean"] == 1
    assert builders(case.report["processes"]) == []


def test_one_that_waits_is_served_by_the_full_lane_and_tested(store, tmp_path):
    note(store, PENDING)
    assert run(tmp_path / "1", store, FIREBRICK_SELF_TEST="0").case("function")["stats"]["lean"] == 1
    case = run(tmp_path / "2", store).case("function")
    assert case["stats"]["hits"] == 1
    assert "lean" not in case["stats"]
    assert "lowerings" not in case["work"]
    assert verdict_of(store) is None
    assert run(tmp_path / "3", store).case("function")["stats"]["lean"] == 1


@pytest.mark.parametrize("tested", ["0", "1"])
def test_one_that_failed_is_served_by_the_full_lane(store, tmp_path, tested):
    note(store, "OSError: no such symbol")
    case = run(tmp_path, store, FIREBRICK_SELF_TEST=tested).case("function")
    assert case["stats"]["hits"] == 1
    assert "lean" not in case["stats"]
    assert verdict_of(store) == "OSError: no such symbol"


@pytest.mark.parametrize(
    ("sabotage", "verdict"),
    [
        ("LeanBackends.load = lambda *a, **k: os.abort()", "the process that restored it ended (-6)"),
        ("LeanBackends.load = lambda *a, **k: importlib.import_module('sympy')", "imports sympy"),
        ("LeanBackends.load = lambda *a, **k: 1 / 0", "ZeroDivisionError: division by zero"),
        ("raise SystemExit(3)", None),
    ],
    ids=["dies", "imports", "raises", "does not start"],
)
def test_what_goes_wrong_is_noted(tmp_path, sabotage, verdict):
    (tmp_path / "sitecustomize.py").write_text(SABOTAGE.format(sabotage))
    ran = run(tmp_path / "home", tmp_path / "store", PYTHONPATH=str(tmp_path))
    assert verdict_of(tmp_path / "store") == verdict
    assert ran.case("function")["stats"]["stored"] == 1
    assert not ran.report["stats"]["faults"]


def test_a_part_that_is_gone_is_found(store):
    with Store.open(store) as opened:
        bundle = bundle_of(opened)
        with opened.snapshot() as snapshot:
            parts = snapshot.parts(bundle)
    assert answers(store, bundle) == ['""']
    with Store.open(store) as opened:
        for part in parts:
            opened.delete(part, force=True)
    assert answers(store, bundle) != ['""']


def answers(store, key):
    done = subprocess.run(
        [sys.executable, "-P", "-m", "firebrick.loader.self_test", store],
        input=f"{key.hex()}\n", capture_output=True, text=True, check=True,
    )  # fmt: skip
    ready, *found = done.stdout.splitlines()
    assert ready == "ready"
    return found
