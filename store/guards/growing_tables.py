"""Compare lists of torch without what importing the compiler adds to them.

Optimizers ask whether the type of a parameter is in a list of torch's. Importing the compiler imports
DTensor, which enters itself there. The guards on the items of such a list become one on all others.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final

from firebrick.base.namedtuple import NamedTuple
from firebrick.guards.call_log import GuardCall
from firebrick.guards.identity_guards import path_of
from firebrick.guards.pytree_nodes import NodesOf, foreign_nodes
from firebrick.torch_api import native

_ADDED: Final = "torch.distributed.tensor:DTensor"


class TypesOf(NamedTuple):
    """Stand for a function that compares a list of types; its paths, without those of the compiler."""

    paths: tuple[str, ...]


def types_in(value: Any) -> tuple[str, ...]:
    """Return the paths of the types in a list, without what the compiler adds."""
    return tuple(path for path in map(path_of, value) if path != _ADDED)


def in_one_guard(calls: Iterable[GuardCall], root: Any) -> Iterator[GuardCall]:
    """Yield the calls of a build; those that look at items of such a list are one.

    That on the version of the table of pytree nodes becomes one of the root manager: managers of dictionaries
    take no Python functions.
    """
    tables: dict[int, Any] = {}  # managers of such lists
    dropped: set[int] = set()  # managers of their items
    for call in calls:
        place = id(call.manager)
        if call.name == "add_dict_version_guard" and call.args[0] is native.SUPPORTED_NODES:
            arguments = NodesOf(foreign_nodes(call.args[0])), ["the nodes of pytrees are the same"], None
            yield GuardCall("add_lambda_guard", root, arguments, {})
            continue
        if "example_value" in call.kwargs and (table := call.facts[2]) is not None:
            tables[id(call.result)] = table
        of_item = "example_value" in call.kwargs or call.name == "add_length_check_guard"
        if place in dropped or (place in tables and of_item):
            if "example_value" in call.kwargs:
                dropped.add(id(call.result))
            if place in tables and tables[place] is not _COMPARED:
                text = f"{call.manager.get_source()} has the same types"
                same = TypesOf(types_in(tables[place])), [text], None
                tables[place] = _COMPARED
                yield GuardCall("add_lambda_guard", call.manager, same, {})
        else:
            yield call


_COMPARED: Final = object()
