"""Pairs of programs and edits from a grammar are never served stale, and would be without Firebrick's mends.

``python tests/programs/fuzz/run.py`` runs thousands, and ``mutation.py`` beside it takes each mend out.
"""

import ast
import dataclasses
import importlib
import sys

import pytest

from support.places import PROGRAMS

sys.path.insert(0, str(PROGRAMS))

from edits.run import corpus, run
from fuzz.grammar import Pair, Program, draws, edited, pairs, smaller
from fuzz.mends import MENDS
from fuzz.mutants import changed, source_of
from fuzz.mutation import found_by, trials
from fuzz.parts import VALUE, WAY
from fuzz.run import each, outcomes_of, shown, shrunk

pytestmark = pytest.mark.compiles

SEED, NUMBER = 20261127, 24
SAMPLE = ("what was absent", "keyword defaults", "members of enumerations", "hooks of modules", "environment")


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    found = pairs(NUMBER, SEED)
    return outcomes_of(found, ["lean", "full"], tmp_path_factory.mktemp("fuzz") / "pairs", workers=2)


class TestPairs:
    def test_are_never_served_stale(self, outcomes):
        stale = [f"{o.lane}: {o.detail}\n{shown(o.case)}" for o in outcomes if o.verdict != "right"]
        assert not stale, stale[0]

    def test_without_an_edit_are_served(self, outcomes):
        unedited = [o for o in outcomes if o.case.place is None]
        assert sum(o.how in ("lean", "full") for o in unedited) >= 0.8 * len(unedited) > 0

    def test_with_an_edit_mostly_compute_something_else(self, outcomes):
        edits = [o for o in outcomes if o.case.place is not None and o.lane == "lean"]
        assert sum(o.changed for o in edits) >= 0.6 * len(edits) > 0


class TestMends:
    def test_that_are_taken_out_are_missed(self, tmp_path):
        mends = [dataclasses.replace(MENDS[name], finds=MENDS[name].finds[-1:]) for name in SAMPLE]
        cases = trials(mends)
        first = found_by(run(cases, ["lean"], ["fallback"], root=tmp_path, checks=False))
        assert set(first) == set(SAMPLE)

    @pytest.mark.parametrize("mend", MENDS.values(), ids=MENDS)
    def test_can_be_taken_out_of_the_source(self, mend):
        sources = {}
        for place, old, new in mend.changes:
            module, _, qualname = place.partition(":")
            source = sources.get(place) or source_of(importlib.import_module(f"firebrick.{module}"), qualname)
            sources[place] = changed(place, source, old, new)
            ast.parse(sources[place])

    @pytest.mark.parametrize("mend", MENDS.values(), ids=MENDS)
    def test_are_found_by_edits_that_there_are(self, mend):
        known = {
            f"{part.name}: {edit.name}" for part in (*VALUE.values(), *WAY.values()) for edit in part.edits
        }
        assert set(mend.finds) <= known | {case.id for case in corpus()}
        assert set(mend.also) <= MENDS.keys()

    def test_whose_text_is_gone_are_an_error(self):
        with pytest.raises(ValueError, match="here has no 'gone'"):
            changed("here", "there", "gone", "")


def weight(program):
    """Return how much there is to a program."""
    return (
        sum(len(chain.layers) + chain.far for chain in program.chains)
        + sum(chain.layers[0].part.name != "literal" for chain in program.chains)
        + (program.style != "function")
        + (program.calls != "forward")
    )


class TestTheGrammar:
    def test_gives_the_same_pairs_for_the_same_seed(self):
        first, second = pairs(20, 1), pairs(20, 1)
        assert [(p.program, p.place) for p in first] == [(p.program, p.place) for p in second]
        assert [p.program for p in first] != [p.program for p in pairs(20, 2)]

    @pytest.mark.parametrize("version", [1, 2])
    def test_is_of_programs_that_are_python(self, version):
        for pair in (*each(), *pairs(100, SEED)):
            for text in (pair.text(version), *pair.modules(version).values()):
                compile(text, pair.id, "exec")

    def test_has_edits_that_change_the_text_or_the_environment(self):
        for pair in (*each(), *pairs(100, SEED)):
            same = pair.text(1) == pair.text(2) and pair.modules(1) == pair.modules(2)
            assert (same and pair.env == ({}, {})) == (pair.place is None), shown(pair)

    def test_has_hundreds_of_edits(self):
        assert sum(pair.place is not None for pair in each()) >= 190

    def test_draws_a_pair_with_the_edit_that_is_asked_for(self):
        for pair in draws(edited(WAY["module"], "forward hook"), 5, SEED):
            assert pair.name == "module: forward hook"

    def test_knows_smaller_pairs_with_the_same_edit(self):
        for pair in pairs(20, SEED):
            for less in smaller(pair):
                assert less.name == pair.name
                assert weight(less.program) < weight(pair.program)


def test_a_stale_pair_is_made_small(tmp_path):
    (pair,) = draws(edited(VALUE["environment by in"], "variable set for the first time"), 1, SEED)
    small = shrunk(Pair(pair.program, pair.place, ("environment",)), "lean", tmp_path)
    assert isinstance(small.program, Program)
    (chain,) = small.program.chains
    assert [layer.part.name for layer in chain.layers] == ["environment by in"]
