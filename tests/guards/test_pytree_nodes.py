"""The guard that stands for the version of torch's table of pytree nodes."""

import types

import pytest
from torch.utils import _pytree

from firebrick.guards.pytree_nodes import foreign_nodes, unchanged
from firebrick.reports.not_served import ObjectChanged

OWN = _pytree.SUPPORTED_NODES[list]


class Tree: ...


def node(kind):
    return OWN._replace(type=kind, flatten_fn=lambda tree: ([], None))


def table():
    return dict(_pytree.SUPPORTED_NODES)


def test_nothing_in_torchs_own_table_is_foreign():
    assert foreign_nodes(table()) == ()


def test_a_node_for_a_class_of_python_is_foreign_and_told_apart_by_its_functions():
    texts = {
        foreign_nodes(table() | {types.SimpleNamespace: OWN._replace(flatten_fn=flatten)})
        for flatten in (lambda tree: ([tree.a], None), lambda tree: ([tree.b], None))
    }
    assert len(texts) == 2
    assert all(text[0].startswith("types:SimpleNamespace ") for text in texts)


def test_it_is_not_built_over_another_table():
    with pytest.raises(ObjectChanged, match="nodes of pytrees"):
        unchanged(table, ("types:SimpleNamespace 00",))


@pytest.mark.parametrize(
    ("change", "passes"),
    [
        (lambda nodes: None, True),
        (lambda nodes: nodes.update({Tree: node(Tree)}), False),
        (lambda nodes: nodes.update({list: node(list)}), False),
        (lambda nodes: nodes.pop(dict), False),
        (lambda nodes: nodes.update({frozenset: OWN._replace(type=frozenset)}), True),  # as the compiler does
        (lambda nodes: nodes.update({frozenset: node(frozenset)}), False),
    ],
    ids=["none", "a class", "another node", "one less", "torch's", "the program's"],
)
def test_it_fails_after_any_change_but_nodes_of_torchs_own(change, passes):
    nodes = table()
    guard = unchanged(lambda: nodes, ())
    change(nodes)
    assert guard(None) is passes
    assert guard(None) is passes
