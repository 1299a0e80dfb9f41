"""What a program changes in torch's compiler is found, and nothing where it changes nothing."""

from __future__ import annotations

import functools
import warnings

import pytest
import torch

from firebrick.validity.registrations import note_tables, registrations

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # torch's about itself
    from torch._inductor import compile_fx, decomposition, graph, lowering, pattern_matcher
    from torch._inductor.fx_passes import post_grad

aten = torch.ops.aten


def own(*arguments):
    """Stand for a function of the compiler."""


@pytest.fixture(autouse=True)
def noted():
    note_tables()
    assert registrations() == ""
    yield
    assert registrations() == ""  # and is forgotten when it is undone


@pytest.mark.parametrize(
    ("table", "operator", "function", "named"),
    [
        (lowering.lowerings, aten.sin.default, own, "test_registrations.own"),
        (lowering.lowerings, aten.sin.default, lowering.lowerings[aten.cos.default], "lowering.py"),
        (lowering.lowerings, aten._foreach_add.List, lowering.lowerings[aten._foreach_mul.List], ""),
        (decomposition.decompositions, aten.mish_backward.default, torch._refs.cos, "torch/_refs"),
        (decomposition.decompositions, aten.sin.default, torch._refs.cos, "torch/_refs"),
    ],
)
def test_a_function_in_another_place_is_found(monkeypatch, table, operator, function, named):
    monkeypatch.setitem(table, operator, function)
    if named:
        assert f"{operator}: " in registrations()
        assert named in registrations()


@pytest.mark.parametrize("table", [lowering.lowerings, decomposition.decompositions])
def test_what_is_taken_away_is_found(monkeypatch, table):
    operator = next(iter(table))
    monkeypatch.delitem(table, operator)
    assert f"{operator}: taken away" in registrations()


@functools.wraps(compile_fx.post_grad_passes)
def wrapping(*arguments):
    """Stand for what looks like torch's."""


def kind(value):
    """Name a parameter by its type."""
    return f"{type(value).__name__} {getattr(value, '__name__', '')}"


class Called:
    def __call__(self): ...


@pytest.mark.parametrize(
    "patch", [own, wrapping, Called(), functools.partial(own), functools.cache(own)], ids=kind
)
def test_a_patch_of_a_function_is_found_whatever_it_is(monkeypatch, patch):
    monkeypatch.setattr(compile_fx, "post_grad_passes", patch)
    assert "torch._inductor.compile_fx.post_grad_passes: " in registrations()


@pytest.mark.parametrize("patch", [own, staticmethod(own), property(own)], ids=kind)
def test_a_patch_of_a_method_is_found_whatever_it_is(monkeypatch, patch):
    monkeypatch.setattr(graph.GraphLowering, "run_node", patch)
    assert "torch._inductor.graph.GraphLowering.run_node: " in registrations()


def test_a_patch_that_only_watches_is_looked_through(monkeypatch):
    @functools.wraps(compile_fx.post_grad_passes)
    def watching(*arguments): ...

    monkeypatch.setattr(watching, "firebrick_transparent", watching.__code__, raising=False)
    monkeypatch.setattr(compile_fx, "post_grad_passes", watching)
    assert registrations() == ""
    monkeypatch.setattr(compile_fx, "post_grad_passes", functools.wraps(watching)(lambda *arguments: None))
    assert registrations() != ""


def test_another_class_is_found(monkeypatch):
    monkeypatch.setattr(compile_fx, "GraphLowering", Called)
    assert "torch._inductor.compile_fx.GraphLowering: " in registrations()


def test_a_pattern_is_found_with_its_functions(monkeypatch):
    patterns = post_grad.pass_patterns[1].patterns
    key = ("call_function", aten.mul.Tensor)
    monkeypatch.setitem(patterns, key, [*patterns[key]])
    pattern = pattern_matcher.CallFunction(aten.mul.Tensor, pattern_matcher.Arg(), 2.0)
    pattern_matcher.register_graph_pattern(pattern, pass_dict=post_grad.pass_patterns[1])(own)
    assert "CallFunction(aten.mul.Tensor, Arg(), 2.0)" in registrations()
    assert "test_registrations.own" in registrations()
