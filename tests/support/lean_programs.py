"""Hypothesis strategies for what lean backends do around their graphs, and for backends of several parts."""

from __future__ import annotations

from random import Random
from typing import Any

from hypothesis import strategies as st

from firebrick.codecs.lean_backend import LeanBackend
from firebrick.codecs.lean_program import (
    DYNAMIC_MARKS,
    Mutation,
    MutationKind,
    Output,
    OutputKind,
    Program,
    Tangent,
    Training,
    View,
)
from firebrick.codecs.lean_split import NO_PART, LeanSplit, Step, Steps


def programs() -> st.SearchStrategy[Program]:
    """Make programs of lean backends whose indices are within their limits."""
    return st.builds(_program, st.randoms(use_true_random=False))


def _program(random: Random) -> Program:
    def some(*values: Any) -> Any:
        return random.choice(values)

    def numbers(count: int, least: int = 0) -> tuple[int, ...]:
        return tuple(sorted(random.sample(range(count), random.randint(least, count))))

    def output() -> Output:
        kind = some(*OutputKind) if inputs else some(OutputKind.PLAIN, OutputKind.VIEW_OF_RESULT)
        last = outputs + bases if kind is OutputKind.VIEW_OF_RESULT else inputs
        view = View(
            some("view", "slice_Tensor"), (False, "mode NeverView", numbers(4), None, "dtype int32", -7)
        )
        base = -1 if kind is OutputKind.PLAIN else random.randrange(last)
        one, two, three = (some(True, False) for _ in "123")
        return Output(kind, base, one, two, three, some(None, (), (view,)), some(None, numbers(4)))

    def mutation() -> Mutation:
        return Mutation(random.randrange(inputs), some(*MutationKind), *(some(True, False) for _ in "123"))

    def tangent() -> Tangent:
        shape = random.randrange(mutations + outputs + bases), "", numbers(9), numbers(9)
        return Tangent(*some(shape, (0, "channels_last", (), ())))

    inputs, outputs, bases, mutations = (random.randint(0, 3) for _ in "1234")
    outputs, mutations = outputs + 1, mutations if inputs else 0
    training = Training(
        numbers(inputs), mutations + outputs + bases + 1, random.randint(0, 3), random.randint(0, 1 << 40),
        some((), ((0, numbers(3)),)), tuple(tangent() for _ in range(random.randint(0, 3))),
        some(None, True, False), numbers(9), *(some(True, False) for _ in "123"),
    )  # fmt: skip
    training = training._replace(inputs=some((), numbers(9)))
    return Program(
        inputs, tuple(output() for _ in range(outputs)), tuple(mutation() for _ in range(mutations)), bases,
        numbers(inputs), some(None, True, False), some(*DYNAMIC_MARKS), some(None, training),
    )  # fmt: skip


def split(random: Random, parts: list[LeanBackend]) -> LeanSplit:
    """Make a backend of these parts whose numbers are within their limits."""
    inputs, steps = random.randint(0, 3), list[Step]()
    for made in range(inputs, inputs + random.randint(0, 4)):
        item = random.choice((None, 0, 1 << 40))
        if parts and random.random() < 0.7:
            arguments = tuple(random.randrange(made) for _ in range(random.randint(0, 3)) if made)
            steps.append(Step(random.randrange(len(parts)), arguments, item))
        elif made:
            steps.append(Step(NO_PART, (random.randrange(made),), item or 0))
        else:
            break
    values = inputs + len(steps)
    outputs = tuple(random.randrange(values) for _ in range(random.randint(0, 3)) if values)
    return LeanSplit(Steps(inputs, tuple(steps), outputs), tuple(parts))
