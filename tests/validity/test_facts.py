"""Every function that Dynamo calls while it traces is pure, guarded, or asked again."""

import sys

import pytest
import torch
from torch._dynamo.variables import torch as torch_variables

from firebrick.bundle.platform import PROCESS_FUNCTIONS
from firebrick.validity.facts import ABSENT, FOLDS, HASH_SEED, PURE, ask, path_of
from firebrick.validity.operator_kernels import meaning


def test_every_function_that_torch_folds_is_known():
    paths = {path_of(function) for function in torch_variables.constant_fold_functions}
    assert paths - FOLDS - PURE - PROCESS_FUNCTIONS == set()


def test_no_function_is_both_pure_and_asked_again():
    assert FOLDS.isdisjoint(PURE | PROCESS_FUNCTIONS)


@pytest.mark.parametrize("path", sorted(FOLDS - {"torch.get_autocast_dtype"}))
def test_a_fact_has_an_answer_that_stays(path):
    assert ask(path, []) == ask(path, [])


def test_what_is_not_there_is_a_fact(monkeypatch):
    monkeypatch.delenv("FIREBRICK_TEST_ABSENT", raising=False)
    assert ask("environment", ["FIREBRICK_TEST_ABSENT"]) == ABSENT
    monkeypatch.setenv("FIREBRICK_TEST_ABSENT", "")
    assert ask("environment", ["FIREBRICK_TEST_ABSENT"]) == "''"
    assert ask("find_spec", ["no.such.package"]) == ask("package version", ["no-such-package"]) == ABSENT


def test_the_seed_of_hashes_is_told():
    assert ask(HASH_SEED, []) == str(hash("firebrick"))
    assert ask("sys.getrecursionlimit", []) == str(sys.getrecursionlimit())


def test_an_unknown_fact_is_refused():
    with pytest.raises(KeyError, match=r"os\.system"):
        ask("os.system", ["true"])


def test_what_is_registered_with_an_operator_counts():
    @torch.library.custom_op("facts::registered", mutates_args=())
    def registered(x: torch.Tensor) -> torch.Tensor:
        return x.clone()

    meanings = [meaning("facts.registered")]
    for register in (
        lambda: registered.register_fake(torch.empty_like),
        lambda: registered.register_autocast("cpu", torch.bfloat16),
        lambda: registered.register_vmap(lambda info, dims, x: (x, dims[0])),
        lambda: registered.register_autograd(lambda ctx, grad: grad),
    ):
        register()
        meanings.append(meaning("facts.registered"))
    registered.register_kernel("cpu")(torch.clone)  # runs with the graph
    assert len(set(meanings)) == 5
    assert meaning("facts.registered") == meanings[-1]


def test_an_operator_means_the_same_before_and_after_its_fake_was_called():
    library = torch.library.Library("facts_called", "DEF")
    library.define("op(Tensor x) -> Tensor")
    library.impl("op", lambda x: x * 2, "CPU")
    torch.library.register_fake("facts_called::op", torch.empty_like, lib=library)
    before = meaning("facts_called.op")
    assert torch.ops.facts_called.op(torch.ones(2, device="meta")).shape == (2,)
    assert meaning("facts_called.op") == before
    assert "fake" in before
