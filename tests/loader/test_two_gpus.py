"""One bundle serves all GPUs of a kind: recorded on one, started on another without the compiler."""

import pytest
import torch

from support.places import PROGRAMS
from support.programs import run_cases, run_ranks

RANKS = PROGRAMS / "two_ranks.py"
MOVED = ("mlp_dropout", "convolutions", "positions", "replayed", "both")

pytestmark = [pytest.mark.gpu, pytest.mark.compiles]


@pytest.fixture(scope="module", autouse=True)
def two_gpus():
    if torch.cuda.device_count() < 2:
        pytest.skip("needs two CUDA GPUs")


@pytest.fixture(scope="module")
def starts(tmp_path_factory):
    root = tmp_path_factory.mktemp("two-gpus")

    def start(gpu):
        return run_cases(
            PROGRAMS / "two_gpus.py", [*MOVED, "named"], home=root / gpu, store=root / "store",
            env={"GPU": gpu}, timeout=900.0,
        )  # fmt: skip

    return start("0"), start("1")


@pytest.mark.parametrize("name", MOVED)
def test_what_one_gpu_stored_starts_on_the_other(starts, name):
    first, later = (start.case(name) for start in starts)
    assert later["value"] == first["value"]
    assert later["work"] == {}
    assert later["stats"]["lean"] == later["stats"]["hits"] >= 1
    assert not {"misses", "stored", "bypasses", "faults"} & set(later["stats"])


def test_a_program_that_names_its_gpu_is_compiled_for_each(starts):
    first, later = (start.case("named") for start in starts)
    assert later["value"] == first["value"]
    assert later["work"]["lowerings"] >= 1
    assert "hits" not in later["stats"]


@pytest.mark.parametrize("whole", ["1", "0"])
def test_a_second_rank_starts_from_what_the_first_one_stored(tmp_path, whole):
    env = {"KIND": "cuda", "WHOLE": whole, "CUBLAS_WORKSPACE_CONFIG": ":4096:8"}
    options = {"store": tmp_path / "store", "env": env, "timeout": 900.0}
    recorded = run_ranks(RANKS, "trained", home=tmp_path / "recorded", **options)
    assert [case["stats"].get("stored", 0) for case in recorded] == [1, 0]
    served = run_ranks(RANKS, "trained", home=tmp_path / "served", **options)
    for before, after in zip(recorded, served, strict=True):
        assert after["value"] == before["value"]
        assert after["work"] == {}
        assert after["stats"]["lean"] == after["stats"]["hits"] == 1
