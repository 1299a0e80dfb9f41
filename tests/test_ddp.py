"""DistributedDataParallel: torch splits graphs there, and Firebrick leaves these to torch."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from firebrick.testing.programs import run_cases

PROGRAM = Path(__file__).parent / "programs" / "ddp.py"
RANKS = PROGRAM.with_name("two_ranks.py")


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    return run_cases(PROGRAM, ["trained"], home=tmp_path_factory.mktemp("ddp")).case("trained")["value"]


def test_graphs_for_buckets_are_compiled_and_counted(plain, tmp_path):
    store = tmp_path / "store"
    run_cases(PROGRAM, ["alone"], home=tmp_path / "1", store=store)
    case = run_cases(PROGRAM, ["trained"], home=tmp_path / "2", store=store).case("trained")
    assert case["value"] == plain
    assert case["work"]["lowerings"] == 2
    assert not {"hits", "stored", "faults"} & set(case["stats"])
    assert [reason for reason in case["stats"]["bypasses"] if "bucket" in reason]


def test_a_whole_graph_is_served(plain, tmp_path):
    env = {"WHOLE": "1"}
    first = run_cases(PROGRAM, ["trained"], home=tmp_path / "1", store=tmp_path / "store", env=env)
    second = run_cases(PROGRAM, ["trained"], home=tmp_path / "2", store=tmp_path / "store", env=env)
    assert second.case("trained")["value"] == first.case("trained")["value"]
    assert second.case("trained")["work"].get("lowerings", 0) == 0
    assert second.case("trained")["stats"]["hits"] == 1


def test_two_ranks_start_from_what_one_of_them_stored(tmp_path):
    def both(name):
        def start(rank, **env):
            common = {"RENDEZVOUS": str(tmp_path / name), "KIND": "cpu", "RANK": rank, "WHOLE": "1"}
            home = tmp_path / f"{name}-{rank}"
            run = run_cases(RANKS, ["trained"], home=home, store=tmp_path / "store", env=common | env)
            return run.case("trained")

        with ThreadPoolExecutor() as pool:
            first = pool.submit(start, "0")
            second = pool.submit(start, "1", FIREBRICK_RECORD="0")
            return first.result(), second.result()

    recorded = both("recorded")
    assert [case["stats"].get("stored", 0) for case in recorded] == [1, 0]
    for before, after in zip(recorded, both("served"), strict=True):
        assert after["value"] == before["value"]
        assert after["work"] == {}
        assert after["stats"]["lean"] == after["stats"]["hits"] == 1
