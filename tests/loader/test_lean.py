"""The lane without the compiler: nothing of it is imported, and what surrounds a served frame is torch's."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from support.places import PROGRAMS
from support.programs import run_cases, start

pytestmark = pytest.mark.compiles

PROGRAM = PROGRAMS / "lean.py"
QUIET = (
    "function", "module", "attributes", "in_place", "decorated", "copied", "pickled", "saved", "threads",
    "graph_breaks", "generators", "grad_modes", "retained", "mutation", "two_shapes", "fullgraph",
    "mode", "option", "recursion", "tensor_type",
    "disabled",
)  # fmt: skip
# Each group has a process of its own; its first case loads the compiler, the others meet it.
LOADING = (
    ("is_optimized_module", "exceptions", "recompile_after", "other_backend"),
    ("new_type", "any_size", "stance", "nested"),
    ("reset", "traced", "warned"),
)
NEW = {"new_type", "any_size"}  # what the second process has to compile


@pytest.fixture(scope="module")
def starts(tmp_path_factory):
    """Two processes record; others are served, those that need no compiler with none on their path."""
    root = tmp_path_factory.mktemp("lean")

    def both(store, groups, compilers):
        every = [name for group in groups for name in group]
        first = run_cases(
            PROGRAM, every, home=root / f"{store}-1", store=root / store, env={"DTYPE": "float64"}
        )
        found = {}
        for group in groups:
            home, env = root / f"{store}-{group[0]}", {"DTYPE": "float16"}
            second = run_cases(PROGRAM, group, home=home, store=root / store, env=env, compilers=compilers)
            found |= dict.fromkeys(group, (first, second))
        return found

    with ThreadPoolExecutor() as pool:
        quiet = pool.submit(both, "quiet", (QUIET,), False)
        loading = pool.submit(both, "loading", LOADING, True)
        return quiet.result() | loading.result()


@pytest.mark.parametrize("name", QUIET)
def test_is_served_without_the_compiler(starts, name):
    first, second = (start.case(name) for start in starts[name])
    assert second["modules"] == []
    assert second["work"] == {}
    assert second["value"] == first["value"]
    stats = second["stats"]
    assert stats.get("lean") == stats.get("hits")  # none where an earlier case had it served already
    assert not {"misses", "bypasses", "faults"} & set(stats)


@pytest.mark.parametrize("name", sorted({name for group in LOADING for name in group} - NEW))
def test_the_compiler_takes_over(starts, name):
    first, second = (start.case(name) for start in starts[name])
    assert second["value"] == first["value"]
    assert "faults" not in second["stats"]


@pytest.mark.parametrize("name", sorted(NEW))
def test_what_was_not_there_is_compiled_once_and_added(starts, name):
    first, second = (start.case(name) for start in starts[name])
    assert second["value"][0] == first["value"][0]
    assert second["work"]["traces"] == 1
    assert second["stats"]["lean"] == 1
    assert second["stats"]["stored"] == 1


def test_what_one_module_makes_a_shared_frame_do_does_not_hold_for_others(tmp_path):
    store = tmp_path / "store"
    first = run_cases(PROGRAM, ["recurrent"], home=tmp_path / "1", store=store)
    assert "lowerings" not in first.case("recurrent")["work"]
    second = run_cases(PROGRAM, ["linear"], home=tmp_path / "2", store=store)
    assert second.case("linear")["work"]["lowerings"] == 1


def test_a_function_on_a_machine_with_an_accelerator(tmp_path):
    program, store = PROGRAM.with_name("accelerator.py"), tmp_path / "store"
    first, second = (run_cases(program, ["function"], home=tmp_path / n, store=store) for n in ("1", "2"))
    assert second.case("function")["modules"] == []
    assert second.case("function")["stats"]["lean"] == 1
    assert second.case("function")["value"] == first.case("function")["value"]


def test_a_recompilation_is_logged_with_torchs_reasons(tmp_path):
    program = tmp_path / "program.py"
    program.write_text(
        "import os, sys, torch\n"
        "def add(x):\n    return x * 2 + 1\n"
        "compiled = torch.compile(add)\n"
        "compiled(torch.ones(3))\n"
        "print('torch._dynamo' in sys.modules)\n"
        "if 'MORE' in os.environ:\n    compiled(torch.ones(3).double())\n    compiled(torch.ones(2, 3))\n"
    )

    def run(name, **env):
        env |= {"TORCH_LOGS": "recompiles", "FIREBRICK_RECORD": "1" if name == "first" else "0"}
        done = start([program], home=tmp_path / name, store=env.pop("store", None), env=env)
        assert done.returncode == 0, done.stderr
        reasons = [line.partition("__recompiles] ")[2] for line in done.stderr.splitlines()]
        return done.stdout.split(), [reason for reason in reasons if "- 0/" in reason]

    store = tmp_path / "store"
    assert run("first", store=store) == (["True"], [])
    loaded, reasons = run("second", store=store, MORE="1")
    assert loaded == ["False"]
    assert reasons == run("alone", MORE="1")[1]
    assert len(reasons) == 3, "the second call misses one specialisation, the third two"
