"""The registry of precompiled functions: torch's own tests of it, through both classes, and after.

Follows ``test/dynamo/test_precompile_context.py`` of PyTorch in what is checked.
"""

import pytest

from support.places import PROGRAMS
from support.programs import run_cases

pytestmark = pytest.mark.compiles

PROGRAM = PROGRAMS / "registry.py"
CASES = ("basic", "by_key", "editable")
DEVICES = ("cpu", pytest.param("cuda", marks=pytest.mark.gpu))


@pytest.fixture(scope="module", params=DEVICES)
def device(request):
    if request.param == "cuda" and not pytest.importorskip("torch").cuda.is_available():
        pytest.skip("no CUDA device here")
    return request.param


@pytest.fixture(scope="module", params=("torch", "firebrick"))
def runs(request, device, tmp_path_factory):
    """All cases through one class, attached, then what a later process finds; and alone."""
    root = tmp_path_factory.mktemp(f"registry-{request.param}")
    alone = {"REGISTRY": request.param, "DEVICE": device}
    attached = alone | {"STORES": str(root / "stores")}
    return {
        "attached": run_cases(PROGRAM, CASES, home=root / "home", env=attached),
        "later": run_cases(PROGRAM, ["reopened"], home=root / "later", env=attached),
        "again": run_cases(PROGRAM, CASES, home=root / "home", env=attached),
        "alone": run_cases(PROGRAM, CASES, home=root / "home", env=alone),
    }


def steps(runs, run, name):
    """Return step -> what both classes showed after it; they must have shown the same."""
    found = {}
    for step, shown in runs[run].case(name)["value"]:
        assert step == "refused" or shown["torch"] == shown["firebrick"], step
        found[step] = shown if step == "refused" else shown["torch"]
    return found


RUNS = ("attached", "again", "alone")


@pytest.mark.parametrize("run", RUNS)
def test_basic_one_compiled_function_is_one_entry_and_one_artifact(runs, run):
    found = steps(runs, run, "basic")
    assert found["clear"]["entries"] == found["clear"]["backends"] == []
    assert len(found["compile"]["entries"]) == len(found["compile"]["backends"]) == 1
    assert found["compile"]["whole"] == found["compile"]["entries"]


@pytest.mark.parametrize("run", RUNS)
def test_serialize_by_key_gives_the_artifact_of_that_key(runs, run):
    found = steps(runs, run, "by_key")
    assert found["read"] == found["compile"]
    assert found["read"]["types"] == ["BundledAOTAutogradCacheArtifact"]
    assert found["read"]["keys"] == "True"
    assert len(found["read"]["whole"]) == 1


@pytest.mark.parametrize("run", RUNS)
def test_editable_an_edit_is_seen_in_the_cache_entries(runs, run):
    found = steps(runs, run, "editable")
    assert found["compile"]["private"] == ["None"]
    assert found["edit"] == {**found["compile"], "private": ["42"]}
    assert found["refused"] in {"AssertionError", "UsageError"}


@pytest.mark.parametrize("name", CASES)
def test_a_later_process_finds_what_was_recorded(runs, name):
    last = runs["attached"].case(name)["value"]
    recorded = [shown["torch"] for step, shown in last if step not in ("detached", "refused")][-1]
    later = runs["later"].case("reopened")
    assert later["value"][name] == recorded
    assert recorded["private"] == (["42"] if name == "editable" else ["None"])
    assert "traces" not in later["work"]
    assert "compile_fx" not in later["work"]


@pytest.mark.parametrize("name", CASES)
def test_torchs_class_keeps_its_contents_when_firebrick_leaves(runs, name):
    found = steps(runs, "attached", name)
    assert found["detached"] == [v for k, v in found.items() if k not in ("detached", "refused")][-1]


def test_an_unknown_key_is_refused_alike_with_and_without_a_store(runs):
    assert len({steps(runs, run, "editable")["refused"] for run in RUNS}) == 1
