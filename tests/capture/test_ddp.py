"""DistributedDataParallel: torch splits graphs there, and what one rank stored starts all ranks."""

import pytest

from support.places import PROGRAMS
from support.programs import run_cases, run_ranks

pytestmark = pytest.mark.compiles

PROGRAM = PROGRAMS / "ddp.py"
RANKS = PROGRAM.with_name("two_ranks.py")


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    return run_cases(PROGRAM, ["trained"], home=tmp_path_factory.mktemp("ddp")).case("trained")["value"]


def test_what_was_compiled_for_other_buckets_is_not_served(plain, tmp_path):
    store = tmp_path / "store"
    run_cases(PROGRAM, ["alone"], home=tmp_path / "1", store=store)
    case, again = (
        run_cases(PROGRAM, ["trained"], home=tmp_path / home, store=store).case("trained") for home in "23"
    )
    assert case["value"] == again["value"] == plain
    assert case["stats"]["misses"] == {"buckets of gradients: stored none, here 26214400": 1}
    assert case["stats"]["stored"] == again["stats"]["lean"] == again["stats"]["hits"] == 1
    assert "lowerings" not in again["work"]


def test_a_whole_graph_is_served(plain, tmp_path):
    env = {"WHOLE": "1"}
    first = run_cases(PROGRAM, ["trained"], home=tmp_path / "1", store=tmp_path / "store", env=env)
    second = run_cases(PROGRAM, ["trained"], home=tmp_path / "2", store=tmp_path / "store", env=env)
    assert second.case("trained")["value"] == first.case("trained")["value"]
    assert second.case("trained")["work"].get("lowerings", 0) == 0
    assert second.case("trained")["stats"]["hits"] == 1


@pytest.mark.parametrize(("whole", "graphs"), [("1", 2), ("0", 6)])
def test_two_ranks_start_from_what_one_of_them_stored(tmp_path, whole, graphs):
    options = {"store": tmp_path / "store", "env": {"KIND": "cpu", "WHOLE": whole}}
    recorded = run_ranks(RANKS, "trained", home=tmp_path / "recorded", **options)
    assert [case["stats"].get("stored", 0) for case in recorded] == [1, 0]
    assert recorded[0]["work"]["lowerings"] == graphs
    served = run_ranks(RANKS, "trained", home=tmp_path / "served", **options)
    for before, after in zip(recorded, served, strict=True):
        assert after["value"] == before["value"]
        assert after["work"] == {}
        assert after["stats"]["lean"] == after["stats"]["hits"] == 1
        assert "faults" not in after["stats"]
