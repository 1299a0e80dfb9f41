"""The lane without the compiler: nothing of it is imported, and what surrounds a served frame is torch's."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from firebrick.testing.programs import run_cases

PROGRAM = Path(__file__).parent / "programs" / "lean.py"
QUIET = (
    "function", "module", "attributes", "in_place", "decorated", "copied", "pickled", "threads",
    "graph_breaks", "grad_modes", "retained", "mutation", "two_shapes", "fullgraph", "mode", "option",
)  # fmt: skip
LOADING = (
    "is_optimized_module", "exceptions", "recursion", "nested", "generators", "new_type", "stance", "reset",
    "recompile_after", "other_backend", "traced", "warned",
)  # fmt: skip


@pytest.fixture(scope="module")
def starts(tmp_path_factory):
    """One process records each list of cases, and another is served: with no compiler on its path."""
    root = tmp_path_factory.mktemp("lean")

    def twice(names):
        store, env = root / names[0], {"DTYPE": "float64"}
        first = run_cases(PROGRAM, names, home=root / f"home-{names[0]}", store=store, env=env)
        seconds = [
            run_cases(PROGRAM, part, home=root / f"{part[0]}-2", store=store, env={"DTYPE": "float16"}, compilers=end)
            for part, end in (((names, False),) if names is QUIET else [((n,), True) for n in names])
        ]
        return first, dict(zip(names, seconds * len(names) if names is QUIET else seconds, strict=True))

    with ThreadPoolExecutor() as pool:
        quiet, loading = pool.map(twice, (QUIET, LOADING))
    return {name: (first, seconds[name]) for first, seconds in (quiet, loading) for name in seconds}


@pytest.mark.parametrize("name", QUIET)
def test_is_served_without_the_compiler(starts, name):
    first, second = (start.case(name) for start in starts[name])
    assert second["modules"] == []
    assert second["work"] == {}
    assert second["value"] == first["value"]
    stats = second["stats"]
    assert stats.get("lean") == stats.get("hits")  # none where an earlier case had it served already
    assert not {"misses", "bypasses", "faults"} & set(stats)


@pytest.mark.parametrize("name", [n for n in LOADING if n != "new_type"])
def test_the_compiler_takes_over(starts, name):
    first, second = (start.case(name) for start in starts[name])
    assert second["value"] == first["value"]
    assert "faults" not in second["stats"]


def test_what_was_not_there_is_compiled_and_added(starts, tmp_path):
    first, second = (start.case("new_type") for start in starts["new_type"])
    assert second["value"][0] == first["value"][0]
    assert second["work"]["traces"] == 1
    assert second["stats"]["lean"] == 1
    assert second["stats"]["stored"] == 1
