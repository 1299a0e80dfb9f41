"""Make guard programs of every shape that their codec accepts."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

from hypothesis import strategies as st

from firebrick.codecs.guard_program import BASES, FUNCTIONS, OPERATIONS, STORED, GuardProgram, Operand, Term
from firebrick.storage.msgpack import pack, unpack


def guard_programs(max_size: int = 40) -> st.SearchStrategy[GuardProgram]:
    """Make guard programs whose positions are within their tables."""
    return st.builds(lambda random: _program(random, max_size), st.randoms(use_true_random=False))


def _program(random: Random, size: int) -> GuardProgram:
    count = random.randint(1, 4)

    def some(*values: Any) -> Any:
        return random.choice(values)

    def number(limit: int) -> int:
        return random.randrange(limit)

    texts = [some("x", "L['x']", "\0", "é\ud800", "") + str(i) for i in range(count)]
    identities = [[some("class", "function"), f"m:{i}", some("", "ab"), number(2)] for i in range(count)]
    terms = [_term(random, count, 3) for _ in range(count)]
    functions: list[list[Any]] = []
    for name, types in sorted(FUNCTIONS.items()):
        operands: list[Any] = [number(count) if kind is int else some("a", "") for kind in types]
        functions.append([name, *([some(*sorted(BASES)), operands[1]] if name == "base_value" else operands)])
    steps: list[list[Any]] = []
    managers = 1
    draw: dict[str, Callable[[], Any]] = {
        Operand.NUMBER: lambda: some(-(1 << 63), -1, 0, 7, (1 << 64) - 1),
        Operand.DICT: lambda: number(2),
        Operand.KEY_SET: lambda: some(0, (1 << 64) - 1),
        Operand.FUNCTION: lambda: number(len(functions)),
        Operand.MANAGER: lambda: number(managers),
        Operand.MANAGERS: lambda: [number(managers) for _ in range(number(4))],
    }
    for _ in range(random.randint(0, size)):
        kind = number(len(OPERATIONS))
        owner = -1 if OPERATIONS[kind].function else number(managers)
        steps.append([kind, owner, *(draw.get(sort, lambda: number(count))() for sort in STORED[kind])])
        managers += OPERATIONS[kind].makes
    fields = [
        some(True, False),
        number(1000),
        some("", "__builtins_dict___firebrick"),
        [["__import_math", "math"]][: number(2)],
        some(None, [Term.DEVICE, "cuda", 0]),
        texts,
        [[some(*texts) for _ in range(number(3))] for _ in range(count)],
        terms,
        identities,
        [[random.randint(-1, count - 1), number(2), random.randint(-1, 9)] for _ in range(count)],
        [["float32", "cpu", some(None, 1), some(True, False), number(1 << 64)] for _ in range(count)],
        functions,
        steps,
    ]
    return GuardProgram(*unpack(pack(fields, maps=False)))  # numbers for names, nothing shared


def _term(random: Random, identities: int, depth: int) -> Any:
    many = Term.TUPLE, Term.LIST, Term.SET, Term.FROZENSET, Term.SIZE, Term.KEYS
    if depth and random.random() < 0.4:
        items = [_term(random, identities, depth - 1) for _ in range(random.randrange(4))]
        if random.random() < 0.5:
            return [random.choice(many), *items]
        if random.random() < 0.5:
            return [Term.DICT, *items, *items]
        return [random.choice((Term.SLICE, Term.RANGE)), 1, None, random.choice((1, -2))]
    return random.choice(
        (
            *(None, True, 0, -(1 << 63), 0.0, 1.5, float("inf"), "text\ud800", b"\0"),
            [Term.BIGINT, b"\1\0\0\0\0\0\0\0\0"],
            [Term.COMPLEX, 1.0, -2.5],
            [Term.TORCH, "float32"],
            [Term.DEVICE, "cpu", None],
            [Term.ENUM, random.randrange(identities), "RED"],
            [Term.IDENTITY, random.randrange(identities)],
            [Term.ELLIPSIS],
            [Term.NOT_IMPLEMENTED],
            [Term.NUMPY, "<f4", b"\0\0\0\0"],
        )
    )
