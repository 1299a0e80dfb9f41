"""Find entries of an LMDB file that look-ups miss or writes destroy, though each page is sound by itself.

The verifier of py-lmdb looks at keys page by page, which leaves two kinds of damage: a branch whose keys do
not divide what lies below it, so that look-ups go astray; and values that reach into their neighbours, which
LMDB moves by a wrong length when it next writes to the page.

Source: LMDB 0.9 `mdb.c` (MDB_page, MDB_node, MDB_db, mdb_node_search, mdb_node_del).
"""

from __future__ import annotations

import os
import struct
import sys
from collections.abc import Iterator
from itertools import pairwise
from typing import Final

_HEAD: Final = 16  # bytes of the head of a page
_BRANCH, _ROW = 1, 0x20  # flags of pages; a row has keys of one length, and no nodes
_BIG, _TREE = 1, 2  # flags of nodes: the value lies in other pages, or is a tree
_KIND: Final = struct.Struct("=HH")  # in the head of a page: flags, the end of its pointers
_NODE: Final = struct.Struct("=HHHH")  # length of its value, lower and upper half; flags, length of its key
_DB: Final = struct.Struct("=I36xQ")  # page size, or length of the keys of a row; number of the root
_TREES, _NUMBER, _META_END = 24, 128, 136  # in a meta page: two trees, the number of its transaction
_NO_ROOT: Final = (1 << 64) - 1

Bound = bytes | None  # of the keys of a page; None: any


def disorder(file: str) -> str:
    """Return the first such fault of a file that py-lmdb's verifier finds sound; "" if there is none."""
    fd = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
    try:
        size = _DB.unpack(os.pread(fd, _DB.size, _HEAD + _TREES))[0]
        metas = [os.pread(fd, _META_END, page + _HEAD) for page in (0, size)]
        last = max(metas, key=lambda meta: int.from_bytes(meta[_NUMBER:], sys.byteorder))
        free, main = (_DB.unpack_from(last, _TREES + at)[1] for at in (0, _DB.size))
        walk = _Walk(fd, size)
        return next(walk.page(free, None, None, ordered=False), "") or next(walk.page(main, None, None), "")
    finally:
        os.close(fd)


class _Walk:
    """A walk through the trees of one file."""

    def __init__(self, fd: int, size: int) -> None:
        self._fd = fd
        self._size = size

    def page(self, number: int, low: Bound, high: Bound, *, ordered: bool = True) -> Iterator[str]:
        """Yield the faults of a page and of those below, whose keys are from `low` on and before `high`."""
        if number == _NO_ROOT:
            return
        page = os.pread(self._fd, self._size, number * self._size)
        flags, lower = _KIND.unpack_from(page, 10)
        if flags & _ROW:
            return
        places = struct.unpack_from(f"={(lower - _HEAD) // 2}H", page, _HEAD)
        nodes = [_NODE.unpack_from(page, place) for place in places]
        keys = [page[at + 8 : at + 8 + node[3]] for at, node in zip(places, nodes, strict=True)]
        if flags & _BRANCH:
            yield from self._branch(number, nodes, keys, low, high, ordered=ordered)
            sizes = [8 + node[3] for node in nodes]
        else:
            sizes = [8 + node[3] + (8 if node[2] & _BIG else node[0] | node[1] << 16) for node in nodes]
            if (
                ordered
                and keys
                and ((low is not None and keys[0] < low) or (high is not None and keys[-1] >= high))
            ):
                yield f"keys of page {number} are not those that the pages above it lead to"
            for at, node in zip(places, nodes, strict=True):
                if node[2] & _TREE:
                    yield from self.page(_DB.unpack_from(page, at + 8 + node[3])[1], None, None)
        spans = sorted(zip(places, sizes, strict=True))
        if any(at + size > behind for (at, size), (behind, _) in pairwise(spans)):
            yield f"nodes of page {number} overlap"

    def _branch(
        self,
        number: int,
        nodes: list[tuple[int, ...]],
        keys: list[bytes],
        low: Bound,
        high: Bound,
        *,
        ordered: bool,
    ) -> Iterator[str]:
        bounds: list[Bound] = [low, *keys[1:], high]
        known = [bound for bound in bounds if bound is not None]
        if ordered and known != sorted(known):
            yield f"keys of page {number} are out of order, or not those that the pages above it lead to"
        for (lower, upper, top, _), first, last in zip(nodes, bounds, bounds[1:], strict=False):
            yield from self.page(lower | upper << 16 | top << 32, first, last, ordered=ordered)
