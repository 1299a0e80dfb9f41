"""Shared libraries that travel with a compiled graph.

torch's artifacts name their C++ kernels by source text only. While an artifact is recorded, and after it is
read from a store, each of its graphs carries the libraries as an attribute.
"""

from __future__ import annotations

from typing import Any, Final

from firebrick.codecs.library import Library

LIBRARIES: Final = "_firebrick_libraries"  # attribute of a compiled graph


class LibrarySet(dict[str, Library]):
    """Shared libraries by the digest (hex) of the request that loads them; treat it as immutable.

    Copies share it, and it pickles as an empty dictionary, so that torch's own caches never hold a class of
    ours.
    """

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        return dict, ()

    def __deepcopy__(self, memo: dict[int, Any]) -> LibrarySet:
        return self


def library_set(libraries: dict[str, Library]) -> LibrarySet:
    """Make a set from decoded libraries."""
    return LibrarySet(libraries)
