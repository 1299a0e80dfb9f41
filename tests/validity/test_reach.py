"""What a walk from a frame finds: all that the traced code reaches by name, less what guards compare."""

import abc
import copy
import dataclasses
import enum
import functools
import types

import pytest
import torch
from torch import nn

from firebrick.base import shipped
from firebrick.errors import NotStorable
from firebrick.validity.code_facts import code_facts, names_in
from firebrick.validity.exact import exact, peculiarity
from firebrick.validity.reach import Scope, reach, whole_digest, whole_reach
from firebrick.validity.stored import changes, entries_text, scope_of, scope_text


def walk(function, values=None, **scope):
    """Walk from a function as if Dynamo had traced it and nothing else."""
    code = function.__code__
    names = names_in(code) | {"__init__"}  # as where a class is called
    seen = Scope(frozenset(names), frozenset({code_facts(code).digest}), ())
    return reach(code, {"__name__": "program", **scope}, values or {}, seen)


def between(first, second):
    """Return in what two walks differ."""
    return [(what.strip("`"), *values) for what, *values in changes(entries_text(first.entries), second)]


def differs(function, before, after):
    """Say what differs between a walk with one global scope and with another."""
    return [change[0] for change in between(walk(function, **before), walk(function, **after))]


def uses_helper(x):
    return helper(x)  # noqa: F821


def made(k, default=1):
    def helper(x, k2=default):
        return x * k * k2

    return helper


class TestFunctions:
    def test_what_a_closure_holds_counts(self):
        assert differs(uses_helper, {"helper": made(2)}, {"helper": made(3)}) == ["program.helper closure k"]

    def test_a_default_counts(self):
        assert differs(uses_helper, {"helper": made(2)}, {"helper": made(2, 5)}) == [
            "program.helper.__defaults__[0]"
        ]

    def test_whether_disabling_reaches_the_functions_it_calls_counts(self):
        before, after = (torch.compiler.disable(made(2), recursive=deep) for deep in (True, False))
        assert between(walk(uses_helper, helper=before), walk(uses_helper, helper=after)) == [
            ("program.helper", "disabled", "disabled, not recursively")
        ]

    def test_equal_functions_made_twice_are_alike(self):
        assert walk(uses_helper, helper=made(2)).digest == walk(uses_helper, helper=made(2)).digest

    def test_numbers_in_globals_are_left_to_guards(self):
        assert differs(uses_helper, {"helper": 2}, {"helper": 3}) == []

    def test_what_hides_a_builtin_counts(self):
        def f(x):
            return max(x, 1)

        assert differs(f, {}, {"max": min}) == ["program.max"]

    def test_globals_of_functions_that_were_not_traced_are_not_followed(self):
        inner = types.FunctionType(uses_helper.__code__, {"__name__": "other", "helper": made(2)})
        other = types.FunctionType(uses_helper.__code__, {"__name__": "other", "helper": made(3)})

        def f(x):
            return untraced(x)  # noqa: F821

        assert differs(f, {"untraced": inner}, {"untraced": other}) == []

    def test_what_a_decorator_of_torch_holds_counts(self):
        first, second = torch.no_grad()(made(2)), torch.no_grad()(made(3))
        assert differs(uses_helper, {"helper": first}, {"helper": second}) == [
            "program.helper closure func closure k"
        ]

    def test_a_partial_is_what_it_was_given(self):
        first, second = functools.partial(made(1), k2=1), functools.partial(made(1), k2=2)
        assert differs(uses_helper, {"helper": first}, {"helper": second}) == ["program.helper.args[0]['k2']"]


class Base:
    def m(self, x):
        return x


class TestClasses:
    def f(x):
        return o.m(x)  # noqa: F821

    def test_an_override_counts(self):
        class First(Base): ...

        class Second(Base):
            def m(self, x):
                return -x

        Second.__qualname__ = First.__qualname__
        found = differs(TestClasses.f, {"o": First()}, {"o": Second()})
        assert any(place.endswith("First.m") for place in found)

    def test_methods_that_no_traced_name_finds_do_not_count(self):
        def make(other):
            return type("C", (Base,), {"save": other})

        assert differs(TestClasses.f, {"o": make(made(1))()}, {"o": make(uses_helper)()}) == []

    def test_what_copying_notes_in_a_class_does_not_count(self):
        class Slotted(Base):
            __slots__ = ("a",)

        before = walk(TestClasses.f, o=Slotted())
        copy.copy(Slotted())
        assert "__slotnames__" in vars(Slotted)
        assert walk(TestClasses.f, o=Slotted()).digest == before.digest

    def test_members_of_enumerations_count_by_value(self):
        def make(value):
            return enum.IntEnum("E", {"A": value})

        def f(x):
            return x * E.A  # noqa: F821

        assert differs(f, {"E": make(1)}, {"E": make(2)}) == ["test_reach.py:E.A"]

    def test_registered_subclasses_count(self):
        class Abstract(abc.ABC):  # noqa: B024
            ...

        class Other: ...

        def f(x):
            return isinstance(x, Abstract_)  # noqa: F821

        before = walk(f, {"o": Other()}, Abstract_=Abstract)
        Abstract.register(Other)
        assert walk(f, {"o": Other()}, Abstract_=Abstract).digest != before.digest

    def test_classes_that_are_registered_and_met_nowhere_do_not_count(self):
        class Abstract(abc.ABC):  # noqa: B024
            ...

        def f(x):
            return isinstance(x, Abstract_)  # noqa: F821

        before = walk(f, Abstract_=Abstract)
        Abstract.register(type("Other", (), {}))
        assert walk(f, Abstract_=Abstract).digest == before.digest

    def test_a_factory_of_a_dataclass_counts(self):
        def make(factory):
            return dataclasses.make_dataclass("D", [("a", list, dataclasses.field(default_factory=factory))])

        def f(x):
            return D().a  # noqa: F821

        assert differs(f, {"D": make(lambda: [1])}, {"D": make(lambda: [2])})


class TestModules:
    def f(x):
        return net(x)  # noqa: F821

    def test_where_hooks_are(self):
        net = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
        before = walk(TestModules.f, net=net)
        net[1].register_forward_hook(lambda module, args, result: result)
        found = [c[0] for c in between(before, walk(TestModules.f, net=net))]
        assert "program.net.1._forward_hooks" in found

    def test_a_forward_of_the_instance_counts(self):
        net = nn.ReLU()
        before = walk(TestModules.f, net=net).digest
        net.forward = made(1)
        assert walk(TestModules.f, net=net).digest != before

    def test_tied_weights_count(self):
        net = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
        before = walk(TestModules.f, net=net)
        net[1].weight = net[0].weight
        found = between(before, walk(TestModules.f, net=net))
        assert found == [("program.net.1.weight", None, "is program.net.0.weight")]

    def test_values_of_weights_do_not_count(self):
        assert (
            walk(TestModules.f, net=nn.Linear(2, 2)).digest == walk(TestModules.f, net=nn.Linear(2, 2)).digest
        )


class TestTorch:
    def f(x):
        return functional.relu(x)  # noqa: F821

    def test_what_is_shipped_is_not_looked_into(self):
        found = walk(TestTorch.f, functional=nn.functional)
        assert not any("functional.relu" in place for place in found.entries)

    def test_a_patched_function_is(self, monkeypatch):
        before = walk(TestTorch.f, functional=nn.functional)
        monkeypatch.setattr(nn.functional, "relu", made(2))
        found = between(before, walk(TestTorch.f, functional=nn.functional))
        assert found[0][0] == "torch.nn.functional.relu"

    def test_one_method_of_torch_in_the_place_of_another_is(self, monkeypatch):
        def f(x):
            return net.forward(x)  # noqa: F821

        before = walk(f, net=nn.Softsign()).digest
        monkeypatch.setattr(nn.Softsign, "forward", nn.Tanh.forward)
        assert walk(f, net=nn.Softsign()).digest != before

    def test_a_patched_method_of_tensors_is(self, monkeypatch):
        def f(x):
            return x.relu()

        before = walk(f).digest
        monkeypatch.setattr(torch.Tensor, "relu", made(2), raising=False)
        assert walk(f).digest != before


class TestSameness:
    def f(x):
        return a is b  # noqa: F821

    def test_one_object_under_two_names_is_told_from_two(self):
        one, two = object(), object()
        assert differs(TestSameness.f, {"a": one, "b": two}, {"a": one, "b": one}) == ["program.b"]

    def test_equal_tuples_are_not_compared_by_identity(self):
        one, two = tuple("ab"), tuple("ab")
        assert differs(TestSameness.f, {"a": one, "b": two}, {"a": one, "b": one}) == []


class TestExactValues:
    @pytest.mark.parametrize(
        ("one", "other"), [(0.0, -0.0), ((1,), (1.0,)), ((1,), (True,)), (frozenset({1}), frozenset({1.0}))]
    )
    def test_what_equality_does_not_see_is_told(self, one, other):
        assert one == other
        assert peculiarity(one) != peculiarity(other)
        assert exact(one) != exact(other)

    def test_numbers_that_only_differ_in_value_are_left_to_guards(self):
        assert peculiarity(1.5) == peculiarity(2.5)

    def test_what_is_in_a_tuple_is_looked_at(self):
        def f(x):
            return table[0](x)  # noqa: F821

        assert differs(f, {"table": (made(1), 1)}, {"table": (made(2), 1)}) == ["program.table[0] closure k"]

    def test_containers_of_objects_have_no_text(self):
        assert exact((1, object())) is None


class TestLimits:
    def test_too_large_a_container_is_refused_by_name(self):
        with pytest.raises(NotStorable, match=r"program\.a holds 20001 items"):
            walk(TestSameness.f, a=[0] * 20001, b=1)

    def test_the_program_is_not_run(self):
        class Trap:
            def __getattribute__(self, name):
                raise AssertionError(name)

            def __eq__(self, other):
                raise AssertionError

            __hash__ = None

        walk(TestSameness.f, a=Trap(), b=[Trap()])


class TestTexts:
    def test_a_scope_comes_back(self):
        seen = Scope(frozenset({"b", "a"}), frozenset({"c"}), (("torch:x", "y"),))
        assert scope_of(scope_text(seen)) == seen

    @pytest.mark.parametrize("text", ["", "[1]", "[[1],[],[]]", "{}"])
    def test_what_is_no_scope_is_refused(self, text):
        from firebrick.errors import DecodeError

        with pytest.raises(DecodeError, match="scope"):
            scope_of(text)

    def test_both_values_are_named(self):
        stored, here = walk(uses_helper, helper=made(2)), walk(uses_helper, helper=made(3))
        assert between(stored, here) == [("program.helper closure k", "2", "3")]

    def test_other_code_is_said_without_digests(self):
        stored, here = walk(uses_helper, helper=made(2)), walk(uses_helper, helper=made(2, 3))
        scope = {"helper": types.FunctionType(uses_helper.__code__, {}, "helper")}
        changed = between(walk(uses_helper, **scope), here)
        assert not any("code " in str(part) for change in changed for part in change)
        assert between(stored, stored) == []


class TestWhole:
    def test_globals_of_all_code_count_by_value(self):
        scope = {"__name__": "passes", "helper": made(1)}
        one = types.FunctionType(uses_helper.__code__, dict(scope))
        two = types.FunctionType(uses_helper.__code__, {**scope, "helper": made(2)})
        assert whole_digest(one) != whole_digest(two)

    def test_attributes_that_code_further_down_names_are_found(self):
        settings = types.SimpleNamespace(rate=1)

        def inner():
            return settings.rate

        def outer():
            return inner()

        before = whole_reach(outer)
        settings.rate = 2
        assert [c[0].rpartition(".")[2] for c in between(before, whole_reach(outer))] == ["rate"]


def test_shipped_files_are_those_of_torch_and_python():
    assert shipped.shipped_file(nn.functional.relu.__code__.co_filename) == "torch/nn/functional.py"
    assert shipped.shipped_file(dataclasses.dataclass.__code__.co_filename) == "dataclasses.py"
    assert shipped.shipped_file(__file__) == ""
    assert shipped.shipped_file(pytest.raises.__code__.co_filename) == ""
