"""What torch folds into a graph without a guard on it is the same where the graph is used, or a miss."""

import contextlib

import pytest
import torch
from torch._dynamo.variables.torch import TorchInGraphFunctionVariable

from firebrick.base.patches import Patches
from firebrick.bundle.platform import process_fact
from firebrick.torch_api.process_functions import note_process_functions
from support.places import PROGRAMS
from support.programs import run_cases

pytestmark = pytest.mark.compiles

PROGRAM = PROGRAMS / "ranked.py"
CASES = ("rank", "alias", "size", "group", "joined")
GROUPS = "torch.distributed"
RANKS = "torch.distributed.distributed_c10d.get_process_group_ranks"


@pytest.fixture(scope="module")
def starts(tmp_path_factory):
    root = tmp_path_factory.mktemp("ranked")

    def start(name, cases, **env):
        return run_cases(PROGRAM, cases, home=root / name, store=root / "store", env=env)

    return {
        "first": start("first", [*CASES, "mesh"], RANK="0", FIREBRICK_LOAD="0"),
        "same": start("same", CASES, RANK="0", FIREBRICK_RECORD="0"),
        "other": start("other", [*CASES, "mesh"], RANK="3", FIREBRICK_RECORD="0"),
        "other, full lane": start(
            "full", [*CASES, "mesh"], RANK="3", FIREBRICK_RECORD="0", FIREBRICK_LEAN="0"
        ),
        "larger": start("larger", ["group"], RANK="0", SIZE="5", FIREBRICK_RECORD="0"),
        "alone": start("alone", ["joined"], FIREBRICK_RECORD="0"),
    }


@pytest.mark.parametrize("name", CASES)
def test_the_same_place_is_a_hit(starts, name):
    case = starts["same"].case(name)
    assert case["value"] == starts["first"].case(name)["value"]
    assert case["stats"]["lean"] == 1


@pytest.mark.parametrize("start", ["other", "other, full lane"])
@pytest.mark.parametrize("name", ["rank", "alias"])
def test_another_rank_is_a_miss_however_it_is_asked_for(starts, start, name):
    case = starts[start].case(name)
    assert case["value"]["elements"] == [0.0, 5.0, 10.0]
    assert case["stats"]["misses"] == {f"{GROUPS}.get_rank: stored 0, here 3": 1}


@pytest.mark.parametrize("start", ["other", "other, full lane"])
@pytest.mark.parametrize("name", ["size", "group", "joined"])
def test_another_rank_is_a_hit_where_only_the_number_of_processes_counts(starts, start, name):
    case = starts[start].case(name)
    assert case["value"] == starts["first"].case(name)["value"]
    assert case["stats"]["hits"] == 1


@pytest.mark.parametrize("start", ["other", "other, full lane"])
def test_the_place_in_a_mesh_is_that_of_the_process(starts, start):
    assert starts[start].case("mesh")["value"]["elements"] == [0.0, 5.0, 10.0]


def test_a_group_of_another_size_is_a_miss(starts):
    case = starts["larger"].case("group")
    assert case["value"]["elements"] == [0.0, 10.0, 20.0]
    (reason,) = case["stats"]["misses"]
    assert reason.endswith((": stored 4, here 5", "here [0, 1, 2, 3, 4]"))


def test_a_process_without_a_group_is_a_miss(starts):
    case = starts["alone"].case("joined")
    assert case["value"]["elements"] == [0.0, 3.0, 6.0]
    assert case["stats"]["misses"] == {f"{GROUPS}.is_initialized: stored True, here False": 1}


def by_gpu(x, there=torch.cuda.is_available):
    return x * (2 if there() else 3) + torch.distributed.is_initialized()


def by_table(x, table):
    return x * len(table["ranks"](group=None))


@pytest.mark.parametrize(
    ("function", "arguments", "told"),
    [
        (by_gpu, (), [["torch.cuda.is_available"], ["torch.distributed.is_initialized"]]),
        (by_table, ({"ranks": torch.distributed.get_process_group_ranks},), [[RANKS, None]]),
    ],
)
def test_functions_are_known_however_they_are_reached(monkeypatch, function, arguments, told):
    monkeypatch.setattr(torch.distributed.distributed_c10d, "_get_default_group", lambda: "a group")
    found, patches, faults = [], Patches(), []
    note_process_functions(patches, lambda name, args: found.append([name, *args]), faults.append)
    try:
        torch._dynamo.reset()
        with contextlib.suppress(torch._dynamo.exc.TorchDynamoException, KeyError):  # there is no group
            torch.compile(function, backend="eager", fullgraph=True)(torch.ones(2), *arguments)
    finally:
        patches.undo()
    assert sorted(found) == told
    assert faults == []


def test_what_is_no_plain_argument_is_refused():
    class Group:
        value = object()

        def as_python_constant(self):
            return self.value

    patches, faults, told = Patches(), [], []
    called = TorchInGraphFunctionVariable(torch.distributed.get_rank)
    patches.set(TorchInGraphFunctionVariable, "call_function", lambda *_: "called")
    note_process_functions(patches, lambda name, args: told.append(args), faults.append)
    try:
        assert called.call_function(None, [Group()], {}) == "called"
    finally:
        patches.undo()
    assert told == []
    assert [fault.reason for fault in faults] == ["torch.distributed.get_rank of what cannot be kept"]


def test_only_listed_functions_are_called_for_a_fact():
    with pytest.raises(KeyError):
        process_fact("torch.save", ["x", "y"])
    assert process_fact("torch.distributed.get_rank", [7]).startswith("none (")
    assert process_fact("torch.distributed.is_initialized") == "False"
