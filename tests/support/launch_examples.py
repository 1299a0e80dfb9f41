"""Hypothesis strategies for launches of Triton kernels, and for kernels with several configurations."""

from __future__ import annotations

from random import Random
from typing import Any

from hypothesis import strategies as st

from firebrick.codecs.launch import LETTERS, MAX_SCRATCH, OPERATIONS, Autotuned, Expression, Launch
from firebrick.codecs.triton import TritonKernel


def launches(kernels: st.SearchStrategy[TritonKernel]) -> st.SearchStrategy[Launch]:
    """Make launches whose indices are within their limits."""
    return st.builds(_launch, st.randoms(use_true_random=False), kernels)


def autotuned(kernels: st.SearchStrategy[TritonKernel]) -> st.SearchStrategy[dict[str, Autotuned]]:
    """Make kernels by name, each with one or two configurations."""

    def build(digest: str, device: int, descends: bool, found: list[Launch]) -> Autotuned:
        return Autotuned(digest, device, descends, tuple(found))

    several = st.lists(launches(kernels), min_size=1, max_size=2, unique_by=lambda one: one.configuration)
    kernel = st.builds(build, st.text("abc", max_size=4), st.integers(0, 7), st.booleans(), several)
    return st.dictionaries(st.text("klm_", min_size=1, max_size=4), kernel, max_size=2).map(
        lambda found: dict(sorted(found.items()))
    )


def _launch(random: Random, kernel: TritonKernel) -> Launch:
    arguments, scratch = random.randint(0, 6), random.randint(0, MAX_SCRATCH)
    passed = tuple(sorted(random.sample(range(arguments), random.randint(0, arguments))))
    temporaries = tuple(_expression(random, arguments, index, 2) for index in range(random.randint(0, 2)))
    x, y, z = (_expression(random, arguments, len(temporaries), 3) for _ in "xyz")
    return Launch(
        random.choice(("kernel", "triton_poi_fused_add_0", "_$.9")),
        f"(('XBLOCK', {random.randint(1, 1024)}), {random.choice((1, 4))})",
        random.choice((75, 80, 90, 120)),
        arguments,
        passed,
        "".join(random.choice(sorted(LETTERS)) for _ in passed),
        scratch,
        temporaries,
        (x, y, z),
        random.randint(1, 32),
        random.randint(0, 1 << 18),
        kernel,
    )


def _expression(random: Random, arguments: int, temporaries: int, depth: int) -> Expression:
    names: list[Any] = [name for name in OPERATIONS if name not in ("argument", "temporary")]
    leaves: list[Expression] = [random.randint(-(1 << 40), 1 << 40)]
    leaves += [("argument", random.randrange(arguments))] if arguments else []
    leaves += [("temporary", random.randrange(temporaries))] if temporaries else []
    if depth == 0 or random.random() < 0.3:
        return random.choice(leaves)
    name = random.choice(names)
    least, most = OPERATIONS[name]
    count = random.randint(least, min(most, 3))
    return name, *(_expression(random, arguments, temporaries, depth - 1) for _ in range(count))
