"""A second start with emptied caches and no compiler finds everything that the first start made.

The first start is two processes with half of the cases each; their bundles meet in the second one.
A third process makes all of them once more, in another order, for another store.
"""

import ast
import math
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from firebrick.storage.store import Store
from support.places import PROGRAMS
from support.programs import builders, run_cases

pytestmark = pytest.mark.compiles

PROGRAM = PROGRAMS / "cases.py"
CASES = (
    "function", "training", "graph_breaks", "more_graph_breaks", "data_dependent_branch",
    "graph_break_in_closure", "static", "dynamic", "specialisations", "grad_modes", "twelve_blocks",
    "twins", "options", "decorated", "method", "callable_object", "closure", "partial", "mutation",
    "containers", "global_values", "arguments", "tensor_type", "compiled_inside",
)  # fmt: skip
DEVICES = ("cpu", pytest.param("cuda", marks=pytest.mark.gpu))
RANDOM = {"options"}  # its numbers depend on the generator that the options choose


def keys(folder):
    with Store.open(folder, readonly=True) as store:
        return {info.key for info in store.list()}


@pytest.fixture(scope="module", params=DEVICES)
def device(request):
    if request.param == "cuda" and not pytest.importorskip("torch").cuda.is_available():
        pytest.skip("no CUDA device here")
    return request.param


@pytest.fixture(scope="module")
def first(device, tmp_path_factory):
    """Two processes that fill store `a`, and one that fills store `b`, at the same time."""
    root = tmp_path_factory.mktemp("first")
    runs = [
        (CASES[0::2], "a", "1"),
        (CASES[1::2], "a", "2"),
        (CASES[::-1], "b", "3"),
    ]
    with ThreadPoolExecutor() as pool:
        started = [
            pool.submit(
                run_cases,
                PROGRAM,
                names,
                home=root / f"home-{seed}",
                store=root / store,
                env={"PYTHONHASHSEED": seed, "USER": f"user-{seed}", "TEST_DEVICE": device},
            )
            for names, store, seed in runs
        ]
        even, odd, again = (run.result() for run in started)
    return root, {name: (even, odd)[i % 2] for i, name in enumerate(CASES)}, again


@pytest.fixture(scope="module")
def second(first, device, tmp_path_factory):
    """One process on store `a`, in an order of its own, with empty caches and without compilers."""
    root = first[0]
    before = keys(root / "a")
    home = tmp_path_factory.mktemp("second")
    finished = run_cases(
        PROGRAM,
        sorted(CASES),
        home=home,
        store=root / "a",
        compilers=False,
        env={"TEST_DEVICE": device},
    )
    return finished, before


@pytest.fixture(scope="module")
def eager(device, tmp_path_factory):
    home = tmp_path_factory.mktemp("eager")
    return run_cases(PROGRAM, CASES, home=home, env={"TORCH_COMPILE_DISABLE": "1", "TEST_DEVICE": device})


def same_but_for_rounding(left, right):
    if isinstance(left, dict) and "elements" in left:
        return left["type"].split(")")[0] == right["type"].split(")")[0] and all(
            math.isclose(a, b, rel_tol=1e-4, abs_tol=1e-5)
            for a, b in zip(left["elements"], right["elements"], strict=True)
        )
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(same_but_for_rounding(left[k], right[k]) for k in left)
    if isinstance(left, list):
        return len(left) == len(right) and all(map(same_but_for_rounding, left, right))
    return left == right


def test_the_table_names_every_case_of_the_program():
    tree = ast.parse(PROGRAM.read_text())
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
    assert set(CASES) == {f.name for f in functions if not ast.unparse(f.args)}


@pytest.mark.parametrize("name", CASES)
def test_the_first_start_compiles_and_stores(name, first, eager, device):
    case = first[1][name].case(name)
    assert case["work"]["traces"]
    assert case["work"]["compile_fx"]
    assert device == "cuda" or case["work"]["cpp_builds"]  # Triton's compiler runs in workers
    assert case["stats"]["stored"] >= 1
    assert not case["stats"].get("bypasses")
    assert name in RANDOM or same_but_for_rounding(case["value"], eager.case(name)["value"])


@pytest.mark.parametrize("name", CASES)
def test_the_second_start_does_no_work_and_gives_the_same_bits(name, first, second, device):
    case = second[0].case(name)
    assert case["value"] == first[1][name].case(name)["value"]
    assert case["work"].keys() <= ({"processes"} if device == "cuda" else set())
    assert case["stats"]["hits"] >= 1
    assert not {"misses", "bypasses", "faults", "stored"} & set(case["stats"])


def test_the_second_start_starts_no_process(second, device):
    processes = second[0].report["processes"]
    with_cuda = (
        torch.version.cuda is not None
    )  # a torch that was built for it looks for libraries, GPU or not
    assert (builders(processes) if with_cuda else processes) == []


def test_the_second_start_adds_no_blob(first, second):
    finished, before = second
    assert finished.returncode == 0
    assert keys(first[0] / "a") == before


# The same program in the same order does make the same blobs: tests/test_misses.py asserts that.
@pytest.mark.xfail(reason="known gap: blobs still hang on the order in which functions compile", strict=False)
def test_another_order_makes_the_same_blobs(first):
    root, _, again = first
    assert again.returncode == 0
    assert keys(root / "a") == keys(root / "b")


@pytest.mark.parametrize("name", CASES)
def test_another_process_makes_the_same_values(name, first, device):
    one, other = first[1][name].case(name)["value"], first[2].case(name)["value"]
    if device == "cuda":  # where each process that compiles measures which kernels it takes
        assert same_but_for_rounding(one, other)
    else:
        assert one == other


def test_options_are_not_mixed_up(second):
    one, other = second[0].case("options")["value"]
    assert one["tensor"] != other["tensor"]


def test_without_the_store_the_same_start_fails(tmp_path):
    finished = run_cases(PROGRAM, ["function"], home=tmp_path, compilers=False)
    assert "InvalidCxxCompiler" in finished.report["cases"]["function"]["error"]
    assert finished.report["processes"]


def test_the_full_lane_keeps_arguments_out_that_are_compared_by_what_they_are(tmp_path):
    program, env = PROGRAM.with_name("identified.py"), {"FIREBRICK_LEAN": "0"}
    first, second = (
        run_cases(program, ["function_arguments"], home=tmp_path / home, store=tmp_path / "store", env=env)
        for home in "12"
    )
    assert first.case("function_arguments")["stats"]["stored"] == 1
    case = second.case("function_arguments")
    assert case["value"] == first.case("function_arguments")["value"]
    assert case["stats"]["hits"] == 1
    assert "lowerings" not in case["work"]
