"""What is missing, damaged or foreign is a miss with its reason, and the program runs on."""

import shutil
import textwrap
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import lmdb
import pytest

from firebrick.keys import recipe_key
from firebrick.store import Store
from firebrick.testing.programs import run_cases

SMALL = Path(__file__).parent / "programs" / "small.py"
EAGER = {"TORCH_COMPILE_DISABLE": "1"}


def keys(folder):
    with Store.open(folder, readonly=True) as store:
        return {info.key for info in store.list()}


class TestASecondSpecialisation:
    """float32 is stored; the second start needs float64 too; the third has both."""

    @pytest.fixture(scope="class")
    def starts(self, tmp_path_factory):
        root = tmp_path_factory.mktemp("specialisation")
        store, grown = root / "store", []
        starts = []
        for names, compilers in ((["single"], True), (["single", "double"], True), (["double", "single"], False)):
            starts.append(run_cases(SMALL, names, home=root / f"home-{len(starts)}", store=store, compilers=compilers))
            grown.append(keys(store))
        eager = run_cases(SMALL, ["single", "double"], home=root / "eager", env=EAGER)
        return starts, grown, eager

    def test_the_stored_one_is_a_hit_that_adds_nothing(self, starts):
        first, second, _ = starts[0]
        case = second.case("single")
        assert case["work"] == {} and case["stats"]["hits"] >= 4
        assert "stored" not in case["stats"]
        assert case["value"] == first.case("single")["value"]

    def test_the_other_one_is_compiled_after_a_guard_miss(self, starts):
        case = starts[0][1].case("double")
        assert case["work"]["traces"] >= 4 and case["stats"]["stored"] >= 4
        assert case["stats"]["misses"]
        assert not {"hits", "faults", "bypasses"} & set(case["stats"])

    @pytest.mark.parametrize("name", ["single", "double"])
    def test_the_third_start_has_both(self, starts, name):
        _, second, third = starts[0]
        assert third.case(name)["work"] == {}
        assert third.case(name)["value"] == second.case(name)["value"]

    @pytest.mark.parametrize("name", ["single", "double"])
    def test_the_values_are_right(self, starts, name):
        values, eager = starts[0][2].case(name)["value"], starts[2].case(name)["value"]
        for value, expected in zip(values, eager, strict=True):
            assert value["type"].split()[0] == expected["type"].split()[0]
            assert value["elements"] == pytest.approx(expected["elements"], rel=1e-5)

    def test_blobs_are_only_added_and_the_third_start_adds_none(self, starts):
        one, two, three = starts[1]
        assert one < two == three


class TestTwoFirstStartsAtOnce:
    def test_leave_what_one_would_have_left(self, tmp_path):
        shared, alone = tmp_path / "shared", tmp_path / "alone"
        with ThreadPoolExecutor() as pool:
            runs = [
                pool.submit(run_cases, SMALL, ["single"], home=tmp_path / f"h{i}", store=store)
                for i, store in enumerate((shared, shared, alone))
            ]
            results = [run.result().case("single") for run in runs]
        assert results[0]["value"] == results[1]["value"] == results[2]["value"]
        assert keys(shared) == keys(alone)


class TestWarmCachesOfTorch:
    def test_what_torch_found_in_its_own_caches_is_stored_whole(self, tmp_path):
        """Torch compiles without Firebrick; then with it, from its caches; then they are emptied."""
        store = tmp_path / "store"
        first = run_cases(SMALL, ["single"], home=tmp_path / "home")
        warm = run_cases(SMALL, ["single"], home=tmp_path / "home", store=store)
        assert "lowerings" not in warm.case("single")["work"]
        last = run_cases(SMALL, ["single"], home=tmp_path / "new", store=store, compilers=False)
        assert last.case("single")["work"] == {}
        assert last.case("single")["value"] == first.case("single")["value"]
