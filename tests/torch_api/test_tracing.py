"""Dynamo tells what a trace hangs on that no guard compares: the order of sets, and hashes."""

import pytest
import torch

from firebrick.base.patches import Patches
from firebrick.capture.traced import Traced
from firebrick.torch_api.tracing import note_tracing
from firebrick.validity.facts import HASH_SEED

pytestmark = pytest.mark.compiles
TEXTS = {"a", "b", "c"}


def popped(x):
    return x + len({*"ab", "long"}.pop())


def popped_frozen_copy(x):
    return x + len(set(frozenset(TEXTS)).pop())


def written(x):
    return x + len(repr(set(TEXTS)).partition("'a'")[0])


def iterated(x):
    return x + len(next(iter(set(TEXTS))))


def hashed(x):
    return x + hash("a text") % 2


def hashed_by_method(x):
    return x + "a text".__hash__() % 2


def filled_anew(x):
    found = {"x"}
    found.__init__(frozenset(TEXTS))
    for text in found:
        x = x + len(text)
    return x


def updated(x):
    found = {"x"}
    found.update(TEXTS)
    for text in found:
        x = x + len(text)
    return x


def updated_by_a_difference(x):
    found = {"x"}
    found.symmetric_difference_update(TEXTS)
    for text in found:
        x = x + len(text)
    return x


def joined(x):
    return x + len(next(iter({"x"}.union(TEXTS))))


def counted(x):
    return x + len(set(TEXTS)) + hash(5)


def written_out(x):
    found = {"a", "b"}
    for text in found:
        x = x + len(text)
    return x


def sorted_first(x):
    return x + len(sorted(set(TEXTS))[0])


def traced(function):
    """Trace a function; return what was told."""
    patches, found = Patches(), Traced(function.__code__)
    torch._dynamo.reset()
    note_tracing(patches, lambda: found)
    try:
        torch.compile(function, backend=lambda module, _: module.forward)(torch.ones(2))
    finally:
        patches.undo()
    return [HASH_SEED, [], str(hash("firebrick"))] in found.facts or bool(found.refused)


@pytest.mark.parametrize(
    "function",
    [
        popped,
        popped_frozen_copy,
        written,
        iterated,
        hashed,
        hashed_by_method,
        filled_anew,
        updated,
        updated_by_a_difference,
        joined,
    ],
)
def test_a_trace_that_hangs_on_hashes_is_told(function):
    assert traced(function)


@pytest.mark.parametrize("function", [counted, sorted_first, written_out])
def test_a_trace_that_does_not_is_not(function):
    assert not traced(function)
