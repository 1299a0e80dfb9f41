"""What torch ships for its own tests is recorded in one process and restored in another: some of each list.

All of it is run by ``python tests/programs/corpora/run.py``.
"""

import collections
import sys

import pytest
import torch

from support.places import PROGRAMS

sys.path.insert(0, str(PROGRAMS))

pytest.importorskip("expecttest", reason="torch's own tests want it")

from corpora.run import SERVED, choose, judge, run
from corpora.subject import described, form, spread

pytestmark = pytest.mark.compiles

PART = {"op_db": 6, "module_db": 2, "autograd_function_db": 1}
CHOSEN = [
    subject for database, number in PART.items() for subject in choose([database], ["float32"], number=number)
]
CHOSEN += choose(["hop_db"], ["float32"], only=["cond_simple"])
CHOSEN += choose(["custom_op_db"], ["float32"], only=["NumpyCubeCustomOp"])
CHOSEN += choose(["optim_db"], ["float32"], only=["SGD"])
SAMPLES = 2
SOME = 12  # samples that must be served in each lane, so that nothing passes because nothing ran


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    return list(run(CHOSEN, SERVED, ["fallback"], root=tmp_path_factory.mktemp("corpora"), samples=SAMPLES))


@pytest.mark.parametrize("lane", SERVED)
class TestAPartOfTheCorpora:
    def of(self, outcomes, lane, *hows):
        return [o for o in outcomes if o.lane == lane and o.how in hows]

    def test_computes_what_torch_computes(self, outcomes, lane):
        assert self.of(outcomes, lane, "WRONG") == []

    def test_is_served_in_its_lane(self, outcomes, lane):
        assert len(self.of(outcomes, lane, lane)) >= SOME
        databases = {o.database for o in self.of(outcomes, lane, lane)}
        assert databases >= {"op_db", "module_db", "autograd_function_db", "hop_db"}

    def test_compiles_nothing_again_of_what_is_stored(self, outcomes, lane):
        again = self.of(outcomes, lane, "recompiled", "silent")
        assert {o.database for o in again} <= ({"optim_db"} if lane == "full" else set())
        assert all("only the lane without the compiler" in o.detail for o in again)

    def test_gives_a_reason_for_what_is_not_stored(self, outcomes, lane):
        refused = self.of(outcomes, lane, "bypass")
        assert {o.database for o in refused} == {"optim_db"}  # operators that Inductor registers
        assert all("not storable" in o.detail for o in refused)


class TestTheChoice:
    def test_is_the_same_each_time(self):
        assert choose(["op_db"], ["float32"], number=5) == choose(["op_db"], ["float32"], number=5)

    def test_is_of_whole_databases_otherwise(self):
        whole = collections.Counter(database for database, _, _ in choose(list(PART), ["float32"]))
        assert whole["op_db"] > 600 and whole["module_db"] > 90 and whole["autograd_function_db"] > 10

    def test_spreads_samples(self):
        assert spread(10, 3) == [0, 3, 6]
        assert spread(2, 3) == [0, 1]
        assert spread(3, 0) == [0, 1, 2]


class TestTheVerdict:
    """What the instrument says of reports that are made up."""

    WHERE = "op_db", "sin", "float32", 0, "lean", "fallback"

    def how(self, plain, record, served, subject="sin"):
        value = {"value": [{"type": "t", "bits": "1"}]}
        where = (self.WHERE[0], subject, *self.WHERE[2:])
        return judge(where, plain=value | plain, record=value | record, served=value | served).how

    def test_of_a_hit(self):
        assert self.how({}, {}, {"hits": 2, "lean": 2}) == "lean"
        assert self.how({}, {}, {"hits": 2, "lean": 1}) == "full"

    def test_of_another_value_is_wrong(self):
        other = {"value": [{"type": "t", "bits": "2"}]}
        assert self.how({}, {}, other | {"hits": 1}) == "WRONG"
        assert self.how({}, other, {"hits": 1}) == "WRONG"
        assert self.how({"random": True}, {}, other | {"hits": 1, "lean": 1}) == "lean"
        assert self.how({}, {}, other | {"hits": 1, "lean": 1}, "new_empty") == "lean"

    def test_of_another_type_is_wrong_even_for_random_values(self):
        assert self.how({"random": True}, {}, {"value": [{"type": "u", "bits": "1"}], "hits": 1}) == "WRONG"

    def test_of_an_error_is_wrong_but_where_torch_alone_has_one(self):
        assert self.how({}, {}, {"error": "no"}) == "WRONG"
        assert self.how({"error": "no"}, {}, {}) == "refused"
        assert self.how({"eager": "no"}, {}, {"hits": 1}) == "refused"

    def test_of_a_compilation_asks_what_the_first_start_did(self):
        compiled = {"compiled": 1, "traces": 1}
        assert self.how({}, {"stored": 1}, compiled | {"misses": {"no": 1}}) == "recompiled"
        assert self.how({}, {"bypasses": {"no": 1}}, compiled | {"misses": {"no": 1}}) == "bypass"
        assert self.how({}, compiled, compiled) == "silent"

    def test_of_what_torch_traces_and_leaves_alone(self):
        assert self.how({}, {}, {"traces": 1, "events": {"left left-alone": 1}}) == "left"
        assert self.how({}, {}, {}) == "reused"
        tried = {"compiled": 1, "traces": 2, "misses": {"no": 1}, "events": {"left left-alone": 1}}
        assert self.how({}, tried, tried) == "left"
        assert self.how({}, tried | {"stored": 1}, tried) == "recompiled"

    def test_of_memory_that_is_not_initialised_does_not_ask_eager_mode(self):
        assert self.how({"eager": "no"}, {}, {"hits": 1, "lean": 1}, "empty_strided") == "lean"


class TestADescription:
    def test_tells_bits_strides_and_types_apart(self):
        x = torch.tensor([[0.0, 1.0], [2.0, 3.0]])
        variants = [
            x,
            -x,
            x.t(),
            x.double(),
            x.clone().requires_grad_(),
            torch.nn.Parameter(x),
            x.to_sparse(),
        ]
        texts = {str(described(value)) for value in variants}
        assert len(texts) == len(variants)
        assert described(torch.tensor(0.0)) != described(torch.tensor(-0.0))

    def test_is_equal_for_any_nan(self):
        nans = torch.tensor([0x7FC00000, -1], dtype=torch.int32).view(torch.float32)
        assert described(nans) == described(torch.tensor([float("nan")] * 2))

    def test_has_a_form_without_numbers(self):
        assert form(described([torch.zeros(2)])) == form(described([torch.ones(2)]))
        assert form(described([torch.zeros(2)])) != form(described([torch.zeros(3)]))
