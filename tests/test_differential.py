"""Restored functions do what the saved ones did: a fixed part of the differential suite, or all of it.

`pytest --differential-all` runs every case. The table docs/eligibility.md says which lane is expected: a case
may move to a better lane, never to a worse one.
"""

import copy
import re
from concurrent.futures import ThreadPoolExecutor

import pytest

from support.differential import LANES, classify, differences, list_cases, run
from support.places import ROOT

pytestmark = pytest.mark.compiles

FOLDER = ROOT / "tests" / "programs" / "differential"
TABLE = path.read_text() if (path := ROOT / "docs" / "eligibility.md").exists() else ""
EXPECTED = {
    name: (lane, reason) for name, lane, reason in re.findall(r"\| `(\S+)` \| (\w+) \| (.*) \|", TABLE)
}
PART = (
    "on_arguments.closure", "on_arguments.compiled_calls_compiled", "on_arguments.constants_of_classes",
    "on_arguments.defaults", "on_arguments.global_that_changes", "on_arguments.method_that_writes",
    "on_containers.attributes_written", "on_containers.data_class", "on_containers.dict_in_and_out",
    "on_containers.enums", "on_containers.named_tuple", "on_containers.no_result",
    "on_control_flow.autocast_inside", "on_control_flow.branch_on_data",
    "on_control_flow.conditional_operator", "on_control_flow.exception_after_a_graph_break",
    "on_control_flow.gradient_inside", "on_control_flow.graph_breaks_with_state",
    "on_control_flow.modes_around_the_call", "on_control_flow.own_autograd_function",
    "on_layers.batch_norm1d", "on_layers.cross_entropy", "on_layers.linear", "on_layers.lstm_cell",
    "on_models.gpt2", "on_modules.attributes_written", "on_modules.backward_hook",
    "on_modules.buffers_written", "on_modules.compiled_in_place", "on_modules.perceptron",
    "on_modules.weight_norm", "on_mutation.arguments_that_overlap", "on_mutation.form_changed",
    "on_mutation.returned_argument", "on_mutation.views_of_a_new_tensor_in_training",
    "on_mutation.written_argument", "on_operators.convolution_2d", "on_operators.embedding",
    "on_operators.fourier", "on_operators.sorting", "on_random.dropout", "on_random.uniform",
    "on_shapes.automatic", "on_shapes.dynamic_from_the_start", "on_shapes.dynamic_in_training",
    "on_values.complex_numbers", "on_values.other_shapes_and_types", "on_values.pointwise_gradient",
    "on_values.strides_follow_the_input",
)  # fmt: skip
BATCH = 20


@pytest.fixture(scope="module")
def verdicts(request, tmp_path_factory):
    """Two pairs of processes at a time, one for each core of a small machine."""
    names = list(EXPECTED if request.config.getoption("--differential-all") else PART)
    size = min(BATCH, -(-len(names) // 2))
    batches = [names[i : i + size] for i in range(0, len(names), size)]

    def pair(batch):
        return run(FOLDER, batch, root=tmp_path_factory.mktemp("differential"))

    with ThreadPoolExecutor(2) as pool:
        return {name: v for found in pool.map(pair, batches) for name, v in found.items()}


def pytest_generate_tests(metafunc):
    if "name" in metafunc.fixturenames:
        everything = metafunc.config.getoption("--differential-all")
        metafunc.parametrize("name", EXPECTED if everything else PART)


def test_a_case_does_the_same_after_a_restart(name, verdicts):
    verdict = verdicts[name]
    if verdict.lane == "skipped":
        pytest.skip(verdict.reason)
    assert verdict.lane not in ("differs", "broken"), "\n".join([verdict.reason, *verdict.differences])
    lane, reason = EXPECTED.get(name, ("", ""))
    if lane in LANES[:3]:
        assert LANES.index(verdict.lane) <= LANES.index(lane), f"{verdict.reason}; the table has {reason!r}"


@pytest.mark.skipif(
    not TABLE, reason="docs/eligibility.md is not made yet: benchmarks/differential.py --write"
)
def test_the_table_has_every_case(tmp_path):
    assert sorted(EXPECTED) == sorted(list_cases(FOLDER, home=tmp_path))
    assert set(PART) <= set(EXPECTED)


def test_the_table_counts_what_it_lists():
    counts = dict(re.findall(r"^\| (\w+) \| (\d+) \|", TABLE, re.M))
    lanes = [lane for lane, _ in EXPECTED.values()]
    assert {lane: str(lanes.count(lane)) for lane in set(lanes)} == counts


def test_every_case_that_is_not_lean_has_its_reason():
    assert not [name for name, (lane, reason) in EXPECTED.items() if lane != "lean" and not reason.strip()]


LIARS = """
import os
import torch
from support.differential import Program, call, program

# the report of the first process is written after its modules are imported
SECOND = os.path.exists(os.path.dirname(os.environ.get("FIREBRICK_CACHE_DIR", "")) + "/first")


@program
def honest():
    def f(x):
        return x.sin() * 2

    return Program(target=f, calls=[call(torch.ones(3))])


def wrong(name, changed, right=lambda x, y: y, **fields):
    def build():
        def f(x):
            return (changed if SECOND else right)(x, x * 2)

        x = torch.ones(2, 2, requires_grad="train" in fields)
        calls = [call(x)] if "misses" not in fields else []
        return Program(target=f, calls=calls, how="already", graphs=False, **fields)

    build.__name__ = name
    program(build)


def flip(y):
    y.view(torch.int32)[0, 0] ^= 1
    return y


def fail(text):
    raise ValueError(text)


wrong("last_bit", lambda x, y: flip(y), lambda x, y: flip(flip(y)))
wrong("strides", lambda x, y: y.t().contiguous().t(), lambda x, y: y.t().contiguous())
wrong("shared", lambda x, y: (y, y[0]), lambda x, y: (y, y.clone()[0]))
wrong("same_object", lambda x, y: (y, y), lambda x, y: (y, y.detach()))
wrong("written", lambda x, y: (x.add_(1), y)[1])
wrong("version", lambda x, y: y.add_(0))
wrong("view", lambda x, y: y.view(2, 2))
wrong("kind", lambda x, y: torch.nn.Parameter(y, requires_grad=False))
wrong("needs_gradient", lambda x, y: y.requires_grad_())
wrong("container", lambda x, y: [y], lambda x, y: (y,))
wrong("order", lambda x, y: {"a": 1, "b": 2}, lambda x, y: {"b": 2, "a": 1})
wrong("number", lambda x, y: 1.0, lambda x, y: 1)
wrong("random", lambda x, y: (torch.rand(1), y)[1])
wrong("mode", lambda x, y: (torch.set_grad_enabled(False), y)[1])
wrong("gradient", lambda x, y: y, lambda x, y: x + x.detach(), train=True)
wrong("text", lambda x, y: fail("second"), lambda x, y: fail("first"), raises="ValueError")
wrong("no_exception", lambda x, y: y, lambda x, y: fail("first"), raises="ValueError")
wrong("after_a_miss", lambda x, y: y, lambda x, y: y + 1, misses=[call(torch.ones(2))])
wrong("unexpected", lambda x, y: y, lambda x, y: fail("first"))
"""


@pytest.fixture(scope="module")
def liars(tmp_path_factory):
    root = tmp_path_factory.mktemp("liars")
    programs = root / "programs"
    programs.mkdir()
    (programs / "liars.py").write_text(LIARS)
    names = list_cases(programs, home=root / "home-list")
    return run(programs, names, root=root)


def test_the_suite_sees_every_kind_of_difference(liars):
    equal = {"honest", "unexpected"}
    lanes = {name.removeprefix("liars."): verdict.lane for name, verdict in liars.items()}
    assert {name for name, lane in lanes.items() if lane != "differs"} == equal, lanes
    assert lanes["honest"] in ("lean", "full")
    assert lanes["unexpected"] == "broken"


@pytest.fixture
def reports():
    steps = [{"result": {"bits": "a", "strides": "(1,)"}}]
    first = {"steps": steps, "misses": [], "stats": {"stored": 1}, "work": {"compile_fx": 1}, "graphs": True}
    second = {"steps": copy.deepcopy(steps), "misses": [], "stats": {"hits": 1}, "work": {}, "modules": []}
    return first, second


class TestVerdicts:
    def test_equal_without_the_compiler_is_lean(self, reports):
        assert classify("c", *reports).lane == "lean"

    def test_a_module_of_the_compiler_makes_it_full(self, reports):
        first, second = reports
        verdict = classify("c", first, second | {"modules": ["torch._dynamo"], "importer": "by somebody"})
        assert (verdict.lane, verdict.reason) == ("full", "by somebody")

    def test_work_makes_it_recompiled_with_the_reason_of_the_first_process(self, reports):
        first, second = reports
        first["stats"]["bypasses"] = {"a reason": 1}
        verdict = classify("c", first, second | {"work": {"traces": 1}})
        assert (verdict.lane, verdict.reason) == ("recompiled", "not stored: a reason")

    def test_no_hit_is_recompiled(self, reports):
        first, second = reports
        assert classify("c", first, second | {"stats": {}}).lane == "recompiled"

    @pytest.mark.parametrize("graphs", [True, False])
    def test_a_case_that_compiles_nothing_must_say_so(self, reports, graphs):
        verdict = classify("c", reports[0] | {"work": {}, "graphs": graphs}, reports[1] | {"stats": {}})
        assert verdict.lane == ("broken" if graphs else "lean")

    def test_an_error_is_broken(self, reports):
        assert classify("c", {"error": "Traceback\nValueError: x"}, reports[1]).reason == "ValueError: x"

    def test_a_difference_wins_over_all(self, reports):
        first, second = reports
        second["steps"][0]["result"]["bits"] = "b"
        verdict = classify("c", first, second)
        assert verdict.lane == "differs"
        assert verdict.differences == ("calls[0].result.bits: a -> b",)


@pytest.mark.parametrize(
    ("old", "new"),
    [({"a": 1}, {"a": 2}), ({"a": 1}, {}), ({}, {"a": 1}), ([1], [1, 2]), (1, True), ("a", None)],
)
def test_differences_are_found(old, new):
    assert list(differences(old, new))
    assert not list(differences(old, copy.deepcopy(old)))
