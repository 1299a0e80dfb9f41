"""Functions whose guards are recorded, and the calls that record them. Every call makes fresh values."""

import collections
import copyreg
import dataclasses
import enum
import functools
import itertools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

COUNT = 3
RATE = 0.5
NAME = "double"
TABLE = {"scale": 2.0, "shift": 1}
ORDER = ["a", "b"]
FLAGS = frozenset({"x", "y"})
WEIGHT = torch.ones(3)
NESTED = {"inner": {"list": [1, 2.0, "three"]}}
NOTHING = None


class Colour(enum.Enum):
    RED = 1
    BLUE = 2


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Pair(NamedTuple):
    first: Any
    second: Any


@dataclasses.dataclass
class Config:
    width: int = 4
    rate: float = 0.1
    name: str = "plain"


@dataclasses.dataclass(frozen=True)
class Frozen:
    width: int = 4


class Plain:
    factor = 2.0

    def __init__(self) -> None:
        self.value = 3
        self.tensor = torch.ones(3)

    def scaled(self, x: Any) -> Any:
        return x * self.value * self.factor

    @property
    def twice(self) -> int:
        return self.value * 2

    @staticmethod
    def halve(x: Any) -> Any:
        return x / 2

    @classmethod
    def by_factor(cls, x: Any) -> Any:
        return x * cls.factor


class Slotted:
    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 5


class Metres(int):
    pass


class Tagged(str):
    __slots__ = ()


class MyDict(dict):  # type: ignore[type-arg]
    pass


SETTINGS = Config()
HELPER = Plain()


def helper(x: Any, by: int = 2) -> Any:
    return x * by


def other_helper(x: Any, by: int = 2) -> Any:
    return x + by


def add(x: Any, y: Any) -> Any:
    return x + y


def defaults(x: Any, y: int = 2, *, scale: float = 1.5, flag: bool = True) -> Any:
    return x * y * scale if flag else x + y


def many(x: Any, *rest: Any, **named: Any) -> Any:
    for item in rest:
        x = x + item
    return x + named["bias"]


def none(x: Any, y: Any = None) -> Any:
    return x.sin() if y is None else x + y


def text(x: Any, mode: str) -> Any:
    return x.sin() if mode == "sin" else x.cos()


def sequence(x: Any, items: Any) -> Any:
    return x + items[0] + items[1] * len(items)


def nested(x: Any, tree: Any) -> Any:
    return x + tree["a"][0] * tree["b"]["c"]


def iterate(x: Any, table: Any) -> Any:
    for key, value in table.items():
        x = x + value * len(key)
    return x


def contains(x: Any, table: Any) -> Any:
    return x + 1 if "key" in table else x - 1


def members(x: Any, names: Any) -> Any:
    return x * 2 if "x" in names else x + 1


def pair(x: Any, p: Any) -> Any:
    return x + p.first * p.second


def configured(x: Any, config: Any) -> Any:
    return x * config.width + config.rate if config.name == "plain" else x


def width(x: Any, config: Any) -> Any:
    return x * config.width


def attributes(x: Any, thing: Any) -> Any:
    return thing.scaled(x) + thing.twice + thing.tensor


def methods(x: Any, thing: Any) -> Any:
    return thing.halve(x) + thing.by_factor(x)


def slotted(x: Any, thing: Any) -> Any:
    return x + thing.value


def has(x: Any, thing: Any) -> Any:
    return x + (1 if hasattr(thing, "extra") else 2) + getattr(thing, "missing", 5)


def kinds(x: Any, thing: Any) -> Any:
    if isinstance(thing, list):
        return x + len(thing)
    return x * 2 if type(thing) is Plain else x * 3


def global_values(x: Any) -> Any:
    y = x * COUNT + RATE
    return y.sin() if NAME == "double" and NOTHING is None else y


def global_containers(x: Any) -> Any:
    for name in ORDER:
        x = x + len(name)
    x = x * TABLE["scale"] + TABLE["shift"]
    return x + NESTED["inner"]["list"][0] + ("x" in FLAGS)  # type: ignore[index]


def global_objects(x: Any) -> Any:
    return HELPER.scaled(x) * SETTINGS.width + WEIGHT


def global_functions(x: Any) -> Any:
    return helper(x) + other_helper(x, by=3) + math.pi * Plain.factor


def builtins(x: Any) -> Any:
    items = sorted(range(3)) + list(map(abs, [-1]))
    return x * len(items) + sum(items) + max(1, 2) + int(any(items)) + functools.reduce(min, items)


def unrolled(x: Any) -> Any:
    for a, b in itertools.product([1, 2], [3]):
        x = x + a * b
    for i, v in enumerate(zip([1, 2], (3, 4), strict=True)):
        x = x + i * v[0]
    return x


def branch_on_shape(x: Any, y: Any) -> Any:
    if x.shape[0] % 2 == 0 and x.shape[0] >= y.shape[0]:
        return x.sum() + y.sum()
    return x.sum() - y.sum()


def matmul(x: Any, y: Any) -> Any:
    return (x @ y).relu()


def sliced(x: Any, n: int) -> Any:
    return x[:n] * n


def integer(x: Any, n: int) -> Any:
    return x * n if n > 2 else x + n


def shifted(x: Any, n: int) -> Any:
    return x * (n >> 68)


def floating(x: Any, v: float) -> Any:
    return x * v


def shape_of(x: Any, size: Any) -> Any:
    return x.reshape(size)


def typed(x: Any, dtype: Any) -> Any:
    return x.to(dtype)


def placed(x: Any, device: Any) -> Any:
    return x + torch.ones(3, device=device)


def coloured(x: Any, colour: Any) -> Any:
    return x * 2 if colour is Colour.RED else x


def levelled(x: Any, level: Any) -> Any:
    return x * level


def requires(x: Any) -> Any:
    return x * 2 if x.requires_grad else x


def gradient(x: Any) -> Any:
    return x + (x.grad if x.grad is not None else 1)


def inplace(x: Any, y: Any) -> Any:
    x.add_(1)
    return x + y


def strided(x: Any) -> Any:
    return x.contiguous() if not x.is_contiguous() else x + 1


def modes(x: Any) -> Any:
    if torch.is_grad_enabled():
        x = x * 2
    with torch.no_grad():
        return x + 1


def cast(x: Any) -> Any:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        return x @ x


def applied(x: Any, f: Any) -> Any:
    return f(x)


def iterator(x: Any, it: Any) -> Any:
    return x + next(it)


def ranged(x: Any, r: Any) -> Any:
    for i in r:
        x = x + i
    return x


def cut(x: Any, s: Any) -> Any:
    return x[s]


def array(x: Any, a: Any) -> Any:
    return x + torch.from_numpy(a)


def scalar(x: Any, a: Any) -> Any:
    return x + float(a)


def mapped(x: Any) -> Any:
    return torch.func.vmap(lambda row: row.sin())(x)


def frozen_type(x: Any, thing: Any) -> Any:
    return x + len(vars(type(thing))["__slots__"])


def ordered(x: Any, table: Any) -> Any:
    for value in list(table.values()):
        x = x * value
    return x


def printed_dtype(x: Any) -> Any:
    return x + 1 if x.dtype == torch.get_default_dtype() else x


def make_closure() -> Callable[..., Any]:
    scale, bias, inner = 2, torch.ones(3), helper

    def closure(x: Any) -> Any:
        return inner(x) * scale + bias

    return closure


def make_functions() -> Callable[..., Any]:
    def local(x: Any) -> Any:
        return x * 3

    def closure(x: Any) -> Any:
        return local(x)

    return closure


class Net(nn.Module):
    scale = 2.0

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(3, 3)
        self.norm = nn.LayerNorm(3)
        self.drop = nn.Dropout(0.1)
        self.register_buffer("steps", torch.zeros(3))
        self.depth = 2
        self.table = {"a": 1.0}
        self.items = [1, 2]

    def forward(self, x: Any, mask: Any = None) -> Any:
        for _ in range(self.depth):
            x = self.drop(self.norm(self.first(x))) * self.scale + self.steps
        if mask is not None:
            x = x * mask
        return x * self.table["a"] + self.items[0]


class Blocks(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([nn.Linear(3, 3), nn.ReLU()])
        self.named = nn.ModuleDict({"out": nn.Linear(3, 3)})
        self.stack = nn.Sequential(nn.Linear(3, 3), nn.GELU(), nn.BatchNorm1d(3))
        self.scales = nn.ParameterList([nn.Parameter(torch.ones(3))])

    def forward(self, x: Any) -> Any:
        for block in self.blocks:
            x = block(x)
        for _, module in self.named.items():
            x = module(x)
        for parameter in self.scales:
            x = x * parameter
        return self.stack(x) + sum(p.sum() for _, p in self.named.named_parameters())


class Child(Net):
    def forward(self, x: Any, mask: Any = None) -> Any:
        return super().forward(x, mask) + 1


class Hooked(Net):
    def __init__(self) -> None:
        super().__init__()
        self.first.register_forward_hook(_hook)

    def forward(self, x: Any, mask: Any = None) -> Any:
        return super().forward(x, mask) + 2


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True)
        self.layer = nn.TransformerEncoderLayer(4, 2, 8, dropout=0.0, batch_first=True)

    def forward(self, x: Any) -> Any:
        return self.layer(self.attention(x, x, x, need_weights=False)[0])


@dataclasses.dataclass
class Case:
    """One call that is compiled.

    Attributes:
        function: makes the function or module.
        args: makes the arguments.
        dynamic: as for torch.compile.
        needs_dynamo: its arguments are made with Dynamo's help.
        refused: part of the reason why it has no program, if so.
    """

    function: Callable[[], Any]
    args: Callable[[], tuple[Any, ...]] = lambda: (torch.ones(3),)
    kwargs: Callable[[], dict[str, Any]] = dict
    dynamic: bool | None = None
    needs_dynamo: bool = False
    refused: str = ""


def _plain(function: Any) -> Callable[[], Any]:
    return lambda: function


def _on(function: Any, *rest: Callable[[], Any], **options: Any) -> Case:
    return Case(_plain(function), lambda: (torch.ones(3), *(make() for make in rest)), **options)


def _overlapping() -> tuple[Any, Any]:
    base = torch.zeros(8)
    return base[:4], base[2:6]


def _marked() -> tuple[Any, ...]:
    x, y = torch.ones(4, 3), torch.ones(4, 3)
    torch._dynamo.mark_dynamic(x, 0)
    torch._dynamo.maybe_mark_dynamic(y, 0)
    return x, y


def _with_grad() -> tuple[Any, ...]:
    x = torch.ones(3, requires_grad=True)
    x.grad = torch.ones(3)
    return (x,)


def _hook(module: Any, args: Any, output: Any) -> Any:
    return output * 2


def _local_class() -> Any:
    class Local:
        value = 4

    return Local()


CASES: dict[str, Case] = {
    "add": _on(add, lambda: torch.ones(3)),
    "add_same": Case(_plain(add), lambda: (torch.ones(3),) * 2),
    "add_matrix": Case(_plain(add), lambda: (torch.ones(2, 3), torch.ones(3, 2).t())),
    "add_integers": Case(_plain(add), lambda: (torch.ones(3, dtype=torch.int64), torch.ones(3).half())),
    "add_complex": Case(_plain(add), lambda: (torch.ones(3, dtype=torch.complex64), torch.ones(3))),
    "add_conjugate": Case(_plain(add), lambda: (torch.ones(3, dtype=torch.complex64).conj(), torch.ones(3))),
    "add_parameter": Case(_plain(add), lambda: (nn.Parameter(torch.ones(3)), torch.ones(3))),
    "add_meta": Case(_plain(add), lambda: (torch.ones(3, device="meta"), torch.ones(3, device="meta"))),
    "add_number": _on(add, lambda: 2),
    "add_complex_number": _on(add, lambda: 1 + 2j),
    "add_dynamic": Case(_plain(add), lambda: (torch.ones(4, 3), torch.ones(4, 3)), dynamic=True),
    "add_marked": Case(_plain(add), _marked, needs_dynamo=True),
    "defaults": _on(defaults),
    "defaults_given": _on(defaults, lambda: 5, kwargs=lambda: {"scale": 2.5, "flag": False}),
    "many": _on(many, lambda: torch.ones(3), lambda: 2, kwargs=lambda: {"bias": torch.ones(3)}),
    "none": _on(none),
    "text": _on(text, lambda: "sin"),
    "list": _on(sequence, lambda: [torch.ones(3), 2, "x"]),
    "tuple": _on(sequence, lambda: (torch.ones(3), 2.5)),
    "deque": _on(sequence, lambda: collections.deque([1, 2])),
    "nested": _on(nested, lambda: {"a": [torch.ones(3)], "b": {"c": 2}}),
    "iterate": _on(iterate, lambda: {"a": 1, "bb": torch.ones(3)}),
    "iterate_ordered": _on(iterate, lambda: collections.OrderedDict(a=1, bb=2)),
    "iterate_default": _on(iterate, lambda: collections.defaultdict(int, a=1, bb=2)),
    "iterate_subclass": _on(iterate, lambda: MyDict(a=1, bb=2)),
    "contains": _on(contains, lambda: {"key": 1}),
    "contains_not": _on(contains, lambda: {"other": 1}),
    "members": _on(members, lambda: {"x", "z"}),
    "members_frozen": _on(members, lambda: frozenset({"q"})),
    "pair": _on(pair, lambda: Pair(2, torch.ones(3))),
    "configured": _on(configured, Config),
    "width_frozen": _on(width, Frozen),
    "attributes": _on(attributes, Plain),
    "methods": _on(methods, Plain),
    "slotted": _on(slotted, Slotted),
    "has": _on(has, Plain),
    "kinds": _on(kinds, Plain),
    "kinds_of_list": _on(kinds, lambda: [1]),
    "global_values": _on(global_values),
    "global_containers": _on(global_containers),
    "global_objects": _on(global_objects),
    "global_functions": _on(global_functions),
    "builtins": _on(builtins),
    "unrolled": _on(unrolled),
    "branch_on_shape": Case(_plain(branch_on_shape), lambda: (torch.ones(6), torch.ones(4)), dynamic=True),
    "matmul_dynamic": Case(_plain(matmul), lambda: (torch.ones(4, 5), torch.ones(5, 6)), dynamic=True),
    "sliced_dynamic": Case(_plain(sliced), lambda: (torch.ones(9), 4), dynamic=True),
    "integer": _on(integer, lambda: 4),
    "integer_dynamic": _on(integer, lambda: 4, dynamic=True),
    "integer_subclass": _on(integer, lambda: Metres(4)),
    "integer_big": _on(shifted, lambda: 1 << 70),
    "floating": _on(floating, lambda: 1.25),
    "floating_nan": _on(floating, lambda: math.nan),
    "text_subclass": _on(text, lambda: Tagged("sin")),
    "shape_of": _on(shape_of, lambda: torch.Size([3, 1])),
    "typed": _on(typed, lambda: torch.float64),
    "placed": _on(placed, lambda: torch.device("cpu")),
    "coloured": _on(coloured, lambda: Colour.RED),
    "levelled": _on(levelled, lambda: Level.HIGH),
    "requires": Case(_plain(requires), lambda: (torch.ones(3, requires_grad=True),)),
    "gradient": Case(_plain(gradient), _with_grad),
    "inplace": Case(_plain(inplace), lambda: (torch.ones(3), torch.ones(3))),
    "inplace_overlapping": Case(_plain(inplace), _overlapping),
    "strided": Case(_plain(strided), lambda: (torch.ones(4, 4)[:, ::2],)),
    "modes": _on(modes),
    "cast": Case(_plain(cast), lambda: (torch.ones(4, 4),)),
    "applied": _on(applied, lambda: helper),
    "applied_lambda": _on(applied, lambda: lambda x: x * 5),
    "applied_partial": _on(applied, lambda: functools.partial(helper, by=4)),
    "applied_builtin": _on(applied, lambda: torch.sin),
    "applied_method": _on(applied, lambda: Plain().scaled),
    "applied_class": _on(applied, lambda: nn.functional.relu),
    "applied_module": _on(applied, lambda: nn.Linear(3, 3)),
    "iterator_of_tuple": _on(iterator, lambda: iter((1, 2, 3))),
    "iterator_count": _on(iterator, lambda: itertools.count(3)),
    "range": _on(ranged, lambda: range(1, 7, 3)),
    "range_iterator": _on(ranged, lambda: iter(range(3))),
    "slice": Case(_plain(cut), lambda: (torch.ones(9), slice(1, 5, 2))),
    "array": _on(array, lambda: np.ones(3, dtype=np.float32)),
    "array_scalar": _on(scalar, lambda: np.float64(2.5)),
    "mapped": Case(_plain(mapped), lambda: (torch.ones(3, 3),)),
    "frozen_type": _on(frozen_type, Slotted),
    "ordered": _on(ordered, lambda: {"b": 2, "a": 3}),
    "default_dtype": _on(printed_dtype),
    "closure": Case(make_closure),
    "closure_of_functions": Case(make_functions),
    "local_class": _on(slotted, _local_class),
    "net": Case(Net),
    "net_eval": Case(lambda: Net().eval()),
    "net_masked": Case(Net, lambda: (torch.ones(2, 3), torch.ones(3))),
    "net_dynamic": Case(Net, lambda: (torch.ones(5, 3),), dynamic=True),
    "net_hooked": Case(Hooked),
    "child": Case(Child),
    "blocks": Case(Blocks, lambda: (torch.ones(2, 3),)),
    "attention": Case(Attention, lambda: (torch.ones(2, 3, 4),)),
}

for _cls in (Slotted, Tagged, Plain, Config):
    copyreg._slotnames(_cls)  # type: ignore[attr-defined]  # copying would add to the class's dictionary
