"""Compare torch's table of pytree nodes without its version, which differs in every process.

``torch.func`` transformations are guarded on the version of ``SUPPORTED_NODES``. Of its entries, those of the
program's classes are compared where the walk meets the class (`firebrick.validity.classes`), and torch's own
are fixed by the platform. What is left is compared here: nodes of torch's and Python's classes that the
program registered. Within a process any change but the compiler's own additions fails the guard, as in torch;
where other guards look at the table's first keys, its length counts as well.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from firebrick.base.namedtuple import NamedTuple
from firebrick.base.shipped import is_pinned, is_shipped, is_shipped_class
from firebrick.guards.identity_guards import path_of
from firebrick.reports.events import Change
from firebrick.reports.not_served import ObjectChanged
from firebrick.validity.reach import whole_digest

Nodes = Mapping[Any, Any]


class NodesOf(NamedTuple):
    """Stand for a function that compares the table; what `foreign_nodes` returned."""

    texts: tuple[str, ...]


def _is_shipped_kind(kind: Any) -> bool:
    """Tell whether a key of the table is torch's or Python's: a class, or the function ``namedtuple``."""
    return is_shipped_class(kind) if isinstance(kind, type) else is_pinned(kind.__module__)


def _is_of_torch(kind: Any, node: Any) -> bool:
    return _is_shipped_kind(kind) and is_shipped(node.flatten_fn) and is_shipped(node.unflatten_fn)


def foreign_nodes(nodes: Nodes) -> tuple[str, ...]:
    """Describe the nodes of torch's and Python's classes that neither of them registered.

    Raises:
        NotStorable: a function of a node cannot be described.
    """
    return tuple(
        f"{path_of(kind)} {whole_digest((node.flatten_fn, node.unflatten_fn))}"
        for kind, node in sorted(nodes.items(), key=lambda item: path_of(item[0]))
        if _is_shipped_kind(kind) and not _is_of_torch(kind, node)
    )


def unchanged(table: Callable[[], Nodes], wanted: tuple[str, ...]) -> Callable[[Any], bool]:
    """Return the guard: the table is as it is now, but for nodes of torch's own that were added.

    Args:
        table: returns the present table.
        wanted: as `foreign_nodes` returned it.

    Raises:
        ObjectChanged: the table is not as described.
    """
    known = dict(table())
    if (found := foreign_nodes(known)) != wanted:
        texts = ", ".join(wanted) or "none", ", ".join(found) or "none"
        raise ObjectChanged("nodes of pytrees", Change("nodes of pytrees that the program registers", *texts))

    def guard(_: Any) -> bool:
        nonlocal known
        value = table()
        if value == known:
            return True
        added = {kind: node for kind, node in value.items() if kind not in known}
        if value != known | added or not all(_is_of_torch(*item) for item in added.items()):
            return False
        known = dict(value)
        return True

    return guard
