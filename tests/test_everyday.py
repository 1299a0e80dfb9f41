"""Programs as users write them start without the compiler, whatever guards know by its address alone."""

import pytest

from support.places import PROGRAMS
from support.programs import run_cases

pytestmark = pytest.mark.compiles

PROGRAM = PROGRAMS / "everyday.py"
CASES = (
    "type_variable", "pattern", "sentinel", "method_of_a_set", "set_made_inside", "autocast_around",
    "autocast_in_forward", "autocast_held", "dtype_beside", "registered_elsewhere",
    "decorator_with_arguments", "operator_of_ones_own", "compiled_method", "distribution",
)  # fmt: skip
# torch leaves the tensors of an optimizer, and its table of pytree nodes, to the lane without the compiler.
LEAN = (
    "optimizer_step", "optimizer_with_a_scheduler", "two_optimizers", "optimizer_that_goes_on",
    "mapped_function", "gradients_of_samples",
)  # fmt: skip


@pytest.fixture(scope="module")
def starts(tmp_path_factory):
    """A process that records, one that is served without the compiler, and one with it."""
    root, store = tmp_path_factory.mktemp("everyday"), tmp_path_factory.mktemp("store")
    first = run_cases(PROGRAM, (*CASES, *LEAN), home=root / "1", store=store, env={"PYTHONHASHSEED": "1"})
    later = {
        lane: run_cases(
            PROGRAM, names, home=root / lane, store=store, compilers=False, env={"PYTHONHASHSEED": "2", **env}
        )
        for lane, names, env in (
            ("lean", (*CASES, *LEAN), {}),
            ("full", CASES, {"FIREBRICK_LEAN": "0"}),
        )
    }
    return first, later


@pytest.mark.parametrize(
    ("lane", "name"),
    [
        *(("lean", name) for name in (*CASES, *LEAN)),
        *(("full", name) for name in CASES),
    ],
)
def test_is_served(starts, lane, name):
    first, later = starts[0].case(name), starts[1][lane].case(name)
    assert later["value"] == first["value"]
    assert later["stats"].get("hits"), later["stats"]
    assert not {"misses", "bypasses", "faults"} & set(later["stats"])
    assert lane == "full" or later["modules"] == []
