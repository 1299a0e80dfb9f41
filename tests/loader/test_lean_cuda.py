"""On a GPU too, compiled functions start without the compiler: no Triton, no Dynamo, no Inductor."""

import pytest

from support.places import PROGRAMS
from support.programs import run_cases

PROGRAM = PROGRAMS / "lean_cuda.py"
LEAN = (
    "forward_only", "function", "mlp_dropout", "convolutions", "attention", "layer_norm", "loss", "dynamic",
    "specialisations", "autocast", "streams", "mutation", "tuned", "descended", "scaled", "long_name",
    "template", "mixed_precision", "encoder", "half_precision", "inferred",
)  # fmt: skip
FLEX = ("flex_imported", "flex")
OWN = ("user_kernel",)  # the program imports Triton itself

pytestmark = [pytest.mark.gpu, pytest.mark.compiles]


@pytest.fixture(scope="module")
def starts(tmp_path_factory):
    """One process records; three others, with empty caches and no compilers on their path, are served."""
    root = tmp_path_factory.mktemp("lean-cuda")
    options = {"store": root / "store", "timeout": 900.0}
    first = run_cases(PROGRAM, [*LEAN, *FLEX, *OWN], home=root / "first", **options)
    found = {}
    for names in (LEAN, FLEX, OWN):
        later = run_cases(PROGRAM, names, home=root / f"later-{names[0]}", compilers=False, **options)
        found |= dict.fromkeys(names, (first, later))
    return found


@pytest.mark.parametrize("name", [*LEAN, "flex"])
def test_is_served_without_the_compiler_and_with_the_same_bits(starts, name):
    first, later = (start.case(name) for start in starts[name])
    imported = starts[name][1].case("flex_imported")["modules"] if name in FLEX else []
    assert later["modules"] == imported  # by the program itself
    assert later["work"] == {}
    assert later["value"] == first["value"]
    assert later["stats"]["lean"] == later["stats"]["hits"] >= 1
    assert not {"misses", "bypasses", "faults"} & set(later["stats"])


@pytest.mark.parametrize("name", OWN)
def test_a_kernel_of_the_program_is_launched_without_a_compilation(starts, name):
    first, later = (start.case(name) for start in starts[name])
    assert not [module for module in later["modules"] if module.startswith("torch._inductor")]
    assert "processes" not in later["work"]
    assert "triton_compiles" not in later["work"]
    assert later["value"] == first["value"]
    assert later["stats"]["lean"] >= 1
