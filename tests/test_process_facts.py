"""What torch folds into a graph without a guard on it is the same where the graph is used, or a miss."""

from pathlib import Path

import pytest

from firebrick.testing.programs import run_cases

PROGRAM = Path(__file__).parent / "programs" / "ranked.py"
CASES = ("rank", "size", "joined")


@pytest.fixture(scope="module")
def starts(tmp_path_factory):
    root = tmp_path_factory.mktemp("ranked")

    def start(name, cases, **env):
        return run_cases(PROGRAM, cases, home=root / name, store=root / "store", env=env)

    return {
        "first": start("first", CASES, RANK="0", FIREBRICK_LOAD="0"),
        "same": start("same", CASES, RANK="0", FIREBRICK_RECORD="0"),
        "other": start("other", CASES, RANK="3", FIREBRICK_RECORD="0"),
        "other, full lane": start("full", CASES, RANK="3", FIREBRICK_RECORD="0", FIREBRICK_LEAN="0"),
        "alone": start("alone", ["joined"], FIREBRICK_RECORD="0"),
    }


@pytest.mark.parametrize("name", CASES)
def test_the_same_place_is_a_hit(starts, name):
    case = starts["same"].case(name)
    assert case["value"] == starts["first"].case(name)["value"]
    assert case["stats"]["lean"] == 1


@pytest.mark.parametrize("start", ["other", "other, full lane"])
def test_another_rank_is_a_miss(starts, start):
    case = starts[start].case("rank")
    assert case["value"]["elements"] == [0.0, 5.0, 10.0]
    assert case["stats"]["misses"] == {"rank: stored 0, here 3": 1}


@pytest.mark.parametrize("start", ["other", "other, full lane"])
@pytest.mark.parametrize("name", ["size", "joined"])
def test_another_rank_is_a_hit_where_only_the_number_of_processes_counts(starts, start, name):
    case = starts[start].case(name)
    assert case["value"] == starts["first"].case(name)["value"]
    assert case["stats"]["hits"] == 1


def test_a_process_without_a_group_is_a_miss(starts):
    case = starts["alone"].case("joined")
    assert case["value"]["elements"] == [0.0, 3.0, 6.0]
    assert case["stats"]["misses"] == {"process group: stored True, here none": 1}
