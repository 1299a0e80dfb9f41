"""Identity guards travel: objects are known again by name and code, and anything else is refused."""

import collections
import copy
import dataclasses
import enum
import functools
import importlib.util
import re
import sys
import types
from collections.abc import Callable
from typing import TypeVar

import pytest
import torch

from firebrick.errors import NotStorable
from firebrick.guards.identity import Identity, IdentityChanged, _recognise, describe, find
from firebrick.guards.identity_guards import Describer
from firebrick.loader.compiler_shims import defer_disable
from firebrick.torch_api import compiler_free


class Glaze(enum.Enum):
    CLEAR = 1


class Pot:
    def fire(self) -> int:
        return 1


def helper(x: int) -> int:
    return x + 1


def scaled(by: int) -> Callable[[int], int]:
    return lambda x: x * by


@pytest.mark.parametrize(
    "value",
    [
        None, True, Ellipsis, torch, torch.nn.functional, helper, helper.__code__, Pot, Pot.fire, len,
        torch.sin, torch.nn.functional.relu, torch.nn.functional.linear, torch.Tensor, dict.get,
        collections.OrderedDict, torch.ops.aten.add, torch.ops.aten.add.Tensor, Glaze.CLEAR, torch.float32,
        torch.Tensor.add_, torch._C._nn.gelu,
    ],
)  # fmt: skip
def test_an_object_is_described_the_same_twice_and_without_addresses(value: object) -> None:
    identity = describe(value)
    assert identity == describe(value)
    assert "0x" not in repr(identity)


def test_two_functions_of_one_name_are_told_apart_by_their_code() -> None:
    changed = types.FunctionType((lambda x: x + 2).__code__, globals(), "helper")
    changed.__qualname__, changed.__module__ = helper.__qualname__, helper.__module__
    assert describe(changed)[:2] == describe(helper)[:2]
    assert describe(changed) != describe(helper)


@pytest.mark.parametrize("known", [describe, Describer().describe], ids=["full", "lean"])
@pytest.mark.parametrize("recursive", [True, False])
def test_a_disabled_function_is_the_same_by_torch_and_by_firebrick(known, recursive, monkeypatch) -> None:
    theirs = torch.compiler.disable(helper, recursive)
    monkeypatch.setattr(compiler_free, "dynamo", lambda: None)
    ours = defer_disable(torch.compiler.disable)(helper, recursive)
    assert vars(ours).keys() >= {name for name in vars(theirs) if name.startswith("_torchdynamo")}
    assert known(ours) == known(theirs)
    assert known(ours)[:2] == known(helper)[:2]
    assert known(ours) != known(helper)
    assert ours(1) == 2


def test_a_class_is_told_apart_by_the_code_of_its_methods() -> None:
    other = type("Pot", (), {"fire": lambda self: 2, "__module__": Pot.__module__})
    other.__qualname__ = Pot.__qualname__
    assert describe(other)[:2] == describe(Pot)[:2]
    assert describe(other) != describe(Pot)


class Counted(list): ...


@dataclasses.dataclass(slots=True)
class Slotted:
    item: object


class Watched:
    def __init__(self) -> None:
        self.item = 1

    def __getattribute__(self, name: str) -> object:
        return object.__getattribute__(self, name) or 2


HOLDING = [[1], Counted([1]), torch.nn.Linear(1, 1), torch.ones(1), torch.Generator(), iter([1]), Watched()]


@pytest.mark.parametrize("value", [*HOLDING, Slotted(torch.ones(1)), Slotted(Counted())])
def test_what_holds_more_than_can_be_told_is_not_storable(value: object) -> None:
    with pytest.raises(NotStorable, match=r"(identity of a|what holds a) .* object"):
        describe(value)


def test_an_object_that_holds_itself_is_not_storable() -> None:
    ring = Slotted(None)
    ring.item = [ring]
    with pytest.raises(NotStorable):
        describe(ring)


AUTOCAST = functools.partial(torch.autocast, "cpu")
OTHERS = {
    "dtype of autocast": (AUTOCAST(dtype=torch.bfloat16), AUTOCAST(dtype=torch.float16)),
    "whether autocast is on": (AUTOCAST(), AUTOCAST(enabled=False)),
    "bound of a variable": (TypeVar("T"), TypeVar("T", bound=int)),
    "constraints": (TypeVar("T", int, str), TypeVar("T", int, float)),
    "arguments of a type": (list[int], list[str]),
    "a pattern": (re.compile("a"), re.compile("b")),
    "flags of a pattern": (re.compile("a"), re.compile("a", re.IGNORECASE)),
    "what a method is of": (frozenset("a").__contains__, frozenset("b").__contains__),
    "a slot": (Slotted(1), Slotted(2)),
    "a type in a slot": (Slotted(1), Slotted(True)),
    "an object inside": (Slotted(Slotted(1)), Slotted(Slotted(2))),
    "a function inside": (Slotted([scaled(2)]), Slotted([scaled(3)])),
    "a class": (Pot(), object()),
}


@pytest.mark.parametrize("known", [describe, Describer().describe], ids=["full", "lean"])
@pytest.mark.parametrize("what", OTHERS)
def test_objects_without_a_name_are_told_apart_by_what_they_hold(known, what) -> None:
    one, other = OTHERS[what]
    assert known(one) == known(copy.copy(one))
    assert known(one) != known(other)


def test_a_region_of_autocast_is_the_same_before_and_inside() -> None:
    region = AUTOCAST(dtype=torch.bfloat16)
    before = describe(region)
    with region:
        assert describe(region) == before


def test_an_object_is_found_by_its_name() -> None:
    assert find(describe(torch.nn.functional.relu)) is torch.nn.functional.relu
    assert find(describe(torch.nn.functional)) is torch.nn.functional


def test_a_name_that_stands_for_something_else_is_a_change() -> None:
    with pytest.raises(IdentityChanged, match="other code"):
        find(describe(torch.nn.functional.relu)._replace(digest="00"))
    with pytest.raises(IdentityChanged, match="stored function"):
        find(Identity("function", "torch.nn.functional:no_such_function", "00"))


def test_a_nameless_function_is_recognised_by_its_code() -> None:
    check = _recognise(describe(scaled(2)))
    assert check(scaled(3)) and check(scaled(2))
    assert not check(helper) and not check(None)


KERNELS = """
import triton
import triton.language as tl

STEP = tl.constexpr({step})

@triton.jit
def inner(x):
    return x * {factor}

@triton.jit
def outer(x_ptr, n, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(x_ptr + at, inner(tl.load(x_ptr + at, mask=at < n)) + STEP, mask=at < n)
"""


@pytest.fixture
def kernel(tmp_path, monkeypatch):
    """Gives a Triton kernel of a module that is written anew each time."""
    pytest.importorskip("triton")

    def build(**values):
        path = tmp_path / f"kernels_{len(list(tmp_path.iterdir()))}.py"
        path.write_text(KERNELS.format(**{"step": 1, "factor": 2} | values))
        spec = importlib.util.spec_from_file_location("kernels", path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        monkeypatch.setitem(sys.modules, "kernels", module)
        return module.outer

    return build


@pytest.mark.parametrize("known", [describe, Describer().describe], ids=["full", "lean"])
def test_a_triton_kernel_is_its_source_and_what_it_uses(kernel, known) -> None:
    first = known(kernel())
    assert first[:2] == ("kernel", "kernels:outer")
    assert known(kernel()) == first
    assert known(kernel(factor=3)) != first  # of the kernel that it calls
    assert known(kernel(step=2)) != first  # a global


def test_a_triton_kernel_without_a_digest_is_refused(kernel, monkeypatch) -> None:
    broken = kernel()
    monkeypatch.setattr(type(broken), "cache_key", property(lambda self: 1 / 0))
    with pytest.raises(NotStorable, match="digest of the Triton kernel kernels:outer: division by zero"):
        describe(broken)


def test_a_class_is_known_again_where_dynamo_has_replaced_methods_of_its_base(monkeypatch):
    class Own(torch.nn.Linear):
        def forward(self, x):
            return x

    before = describe(torch.nn.CrossEntropyLoss), describe(Own)
    monkeypatch.setattr(torch.nn.Module, "__init__", lambda self: None)
    assert (describe(torch.nn.CrossEntropyLoss), describe(Own)) == before
    Own.forward = lambda self, x: x + 1
    assert describe(Own) != before[1]
