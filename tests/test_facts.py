"""Every function that Dynamo calls while it traces is pure, guarded, or asked again."""

import sys

import pytest
from torch._dynamo.variables import torch as torch_variables

from firebrick.bundle.platform import PROCESS_FUNCTIONS
from firebrick.validity.facts import ABSENT, FOLDS, HASH_SEED, PURE, ask, path_of


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
