"""Digest an object with everything that it can run: for what the compiler calls and does not trace.

Custom passes of Inductor, fakes and other kernels of operators in Python, functions among the options of
torch.compile: their code runs while a graph is compiled, so that all of it counts, and the values of its
globals with it.
"""

from __future__ import annotations

from typing import Any

from firebrick.errors import NotStorable
from firebrick.validity.code_facts import names_in
from firebrick.validity.reach import Reach, Scope, Walk

_ROUNDS = 6


def whole_reach(value: Any) -> Reach:
    """Walk from an object: all code is followed, and plain values count wherever they are.

    Raises:
        NotStorable: there is no end to it.
        EncodeError: code has no digest.
    """
    names: frozenset[str] = frozenset({"__call__"})
    for _ in range(_ROUNDS):
        walk = Walk(Scope(names, frozenset(), ()), whole=True)
        walk.add("it", value, whole=True)
        found = walk.finish()
        more = names.union(*map(names_in, walk.met))
        if more == names:
            return found
        names = more
    raise NotStorable(f"what {getattr(value, '__qualname__', type(value).__qualname__)} can run has no end")


def whole_digest(value: Any) -> str:
    """Return the digest of an object with everything that it can run, hexadecimal; see `whole_reach`."""
    return whole_reach(value).digest.hex()[:32]
