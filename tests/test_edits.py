"""An edit between two starts is never served stale: one program of each kind, in both lanes.

All programs, with C++ kernels too, are run by ``python tests/programs/edits/run.py --kernels fallback cpp``.
"""

import collections
import sys

import pytest

from support.places import PROGRAMS

sys.path.insert(0, str(PROGRAMS))

from edits.case import Case, cases
from edits.run import LANES, Trial, corpus, explained, judge, run, sample
from edits.said import named, words

pytestmark = pytest.mark.compiles

NEEDS_KERNELS = {"instructions of the CPU"}  # nothing to see where ATen computes
CORPUS = corpus()
ALWAYS = {  # each was served stale once, beside others of its kind that were not
    "absent until now: __getattr__ of a module",
    "callback, a global: max",
    "enum's class: _missing_",
    "enum, run by Python: a property",
    "inside of a module: _call_impl of a module",
    "table: an ordered dict's order",
}
SAMPLE = [
    *sample([case for case in CORPUS if case.kind not in NEEDS_KERNELS and case.id not in ALWAYS], 1),
    *(case for case in CORPUS if case.id in ALWAYS),
]


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    root = tmp_path_factory.mktemp("edits")
    found = run(SAMPLE, LANES, ["fallback"], root=root, checks=False, workers=2)
    return {(outcome.lane, outcome.case.id): outcome for outcome in found}


@pytest.mark.parametrize("name", [case.id for case in SAMPLE])
@pytest.mark.parametrize("lane", LANES)
def test_what_is_served_after_an_edit_is_what_torch_makes_now(outcomes, lane, name):
    outcome = outcomes[lane, name]
    assert outcome.verdict == "right", f"{outcome.how}: {outcome.detail}"


def test_explanations_of_misses_name_what_was_edited_first(outcomes):
    told = explained(outcomes.values())
    others = [f"{o.lane} {o.case.id}: {o.changes[:1]}" for o, named in told.items() if not named]
    assert len(told) > len(SAMPLE)
    assert len(others) <= 0.05 * len(told), others


class TestTheCorpus:
    def test_has_the_cases_that_were_served_stale_once(self):
        assert {case.id for case in CORPUS} >= ALWAYS

    def test_has_hundreds_of_edits_of_many_kinds(self):
        assert len(CORPUS) >= 400
        assert len({case.kind for case in CORPUS}) >= 40

    def test_names_each_edit_once(self):
        names = collections.Counter(case.id for case in CORPUS)
        assert [name for name, count in names.items() if count > 1] == []

    @pytest.mark.parametrize("version", [1, 2])
    def test_is_made_of_programs_that_are_python(self, version):
        for case in CORPUS:
            for text in (case.text(version), *case.modules(version).values()):
                compile(text, case.id, "exec")

    def test_holds_no_program_twice(self):
        texts = collections.defaultdict(list)
        for case in CORPUS:
            texts[case.text(1), case.text(2), repr(case.env), repr(case.modules(2))].append(case.id)
        assert [ids for ids in texts.values() if len(ids) > 1] == []


def value(number):
    return {"value": [{"tensor": str(number), "type": "", "elements": [number]}], "stats": {}}


class TestTheVerdict:
    """What the instrument says of reports that are made up."""

    CASE = Case("kind", "name", "f = lambda x: x * V")

    def verdict(self, record, plain, served, case=CASE, **more):
        return judge(case, "lean", "cpp", served, record=record, plain=plain, **more).verdict

    def test_of_an_old_value_is_wrong(self):
        assert self.verdict(value(1), value(2), value(1)) == "WRONG"

    def test_of_the_new_value_is_right(self):
        assert self.verdict(value(1), value(2), value(2)) == "right"

    def test_of_an_edit_that_changes_nothing_is_an_error(self):
        assert self.verdict(value(1), value(1), value(1)) == "error"

    def test_of_an_edit_that_need_not_change_anything_is_right(self):
        assert self.verdict(value(1), value(1), value(1), Case("kind", "name", "", same=True)) == "right"

    def test_of_a_program_that_fails_in_torch_alone_is_an_error(self):
        assert self.verdict(value(1), {"error": "no", "stats": {}}, value(1)) == "error"

    def test_of_a_program_that_fails_with_the_store_is_wrong(self):
        assert self.verdict(value(1), value(2), {"error": "no", "stats": {}}) == "WRONG"

    def test_of_a_first_start_that_computes_something_else_is_wrong(self):
        assert self.verdict(value(3), value(2), value(2), before=value(1)) == "WRONG"


class TestWhatAnExplanationMustName:
    CASE = Case(
        "kind", "name", "K = [2, 3][V - 1]\nclass C:\n    def m(self): return 1 if V == 1 else 2\nf = len\n"
    )

    def test_is_read_off_the_program(self):
        assert {"K", "C", "m", "V"} <= words(self.CASE)

    def test_is_what_the_case_says(self):
        assert words(Case("kind", "name", "K = V", says="one|two")) == {"one", "two"}

    @pytest.mark.parametrize(
        ("what", "is_named"),
        [("global `K`", True), ("`model.py:C.m`", True), ("guards", False), ("Kind", False)],
    )
    def test_is_looked_for_as_a_word(self, what, is_named):
        assert named(self.CASE, [(what, "2", "4")]) == is_named

    def test_is_not_named_by_the_second_change(self):
        assert not named(self.CASE, [("guards", None, None), ("global `K`", "2", "3")])


class TestATrial:
    def test_reads_variables_and_files_of_a_case(self):
        (case,) = cases("kind", "## name\n#: env A=1|\n#: file other\nK = V\n#: end\nf = len\n")
        assert case.env == ({"A": "1"}, {})
        assert case.source == "f = len\n"
        assert case.modules(2)["other"].endswith("V = 2\nK = V\n")

    def test_tells_a_crash_of_one_case_and_runs_the_others(self, tmp_path):
        crash = Case("kind", "crash", "import signal\nos.kill(os.getpid(), signal.SIGKILL)")
        fine = Case("kind", "fine", "f = lambda x: x * V")
        trial = Trial([crash, fine], tmp_path / "trial", "fallback", [])
        crashed, ran = trial.start(1, "plain", eager=True, TORCH_COMPILE_DISABLE="1").values()
        assert "ended with" in crashed["error"]
        assert ran["value"][0]["elements"] == [1.0, 2.0]
