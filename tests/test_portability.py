"""What may differ between two starts and still be a hit, and what must not give an old result.

Every change is made to a copy of one small program: the first start runs all copies as they are,
the second one runs them changed, from another folder, as another user. Values are compared with a
run of the changed programs that compiles nothing.
"""

import pytest

from support.programs import run_cases

pytestmark = pytest.mark.compiles

PROGRAM = """\
import contextlib
import dataclasses
import functools
import torch
from torch import nn
import NAME_helper as helpers

FACTOR = 3
LIMITS = [1, 2]
TABLE = {"a": 2.0, "b": 5.0}
WEIGHT = torch.arange(4.0)
DTYPE = torch.float32
activation = nn.functional.relu
swish = lambda x: x * x.sigmoid()


@dataclasses.dataclass
class Config:
    scale: float = 1.5


def helper(x, scale=2):
    return x.sin() * scale


def tagged(x, *, by=3):
    return x * tagged.extra - by


tagged.extra = 1.5
partially = functools.partial(helper, scale=7)


@dataclasses.dataclass
class Options:
    rate: float = 2.5


OPTIONS = Options()


class Scale:
    factor = 2.0
    sizes = [1, 2, 3]
    divisor = 4

    @staticmethod
    def apply(x):
        return x * 1.75

    @classmethod
    def shrink(cls, x):
        return x / cls.divisor


def reads(x):
    y = x * Scale.factor + len(Scale.sizes) + Scale.apply(x) + Scale.shrink(x)
    return y + tagged(x) + partially(x) + OPTIONS.rate + helpers.SIZE


def make(value):
    def inside(x):
        return x * value

    return inside


closure = make(4)


class Base(nn.Module):
    bias = 0.125

    def tail(self, x):
        return x - 0.25 + self.bias


class Net(Base):
    eps = 0.5

    def __init__(self):
        super().__init__()
        self.slope = 2.0
        self.linear = nn.Linear(4, 4)
        self.register_buffer("shift", torch.ones(4))

    @property
    def gain(self):
        return self.slope + 1

    def bend(self, x):
        return x.tanh() * self.gain

    def forward(self, x):
        y = self.bend(self.linear(x)) + self.eps + self.shift
        return self.tail(y) + (x.sum() if self.training else 0)


def prepare(net):
    return net


def main(net, x, config, power=2, mode="fast"):
    y = helper(x) * FACTOR + len(LIMITS) + TABLE["a"] + WEIGHT
    y = y + closure(x) + helpers.other(x) + net(x) + activation(x) * config.scale + swish(x)
    if mode == "slow":
        y = y - 9
    return (y + reads(x)) * power, torch.ones(2) / 3


compiled = torch.compile(main, options={})
context = contextlib.nullcontext()


def run():
    torch.manual_seed(3)
    net = prepare(Net().eval().to(DTYPE))
    x = torch.linspace(0.1, 0.9, 8, dtype=DTYPE).view(2, 4)
    with context:
        y, third = compiled(net, x, Config())
    if y.requires_grad:
        y.sum().backward()
    return y, third, *(p.grad for p in net.parameters() if p.grad is not None)
"""
HELPER = """\
OFFSET = 1
SIZE = 5


def other(x):
    return x.cos() + OFFSET


def another(x):
    return x.cos() + 3
"""

# name, text, its replacement. Hits: what must not matter.
SAME = (
    ("nothing", "", ""),
    ("comment_above", "import contextlib", "# a comment\n# and another\n\nimport contextlib"),
    ("comment_inside", '    if mode == "slow":', '    # slow\n\n    if mode == "slow":'),
    ("unused_function", "closure = make(4)", "def unused():\n    return 1\n\n\nclosure = make(4)"),
    ("other_numbers", "torch.linspace(0.1, 0.9", "torch.linspace(0.2, 0.8"),
    ("other_parameters", "torch.manual_seed(3)", "torch.manual_seed(4)"),
    ("other_buffer", "torch.ones(4))", "torch.full((4,), 2.0))"),
    ("other_table", "WEIGHT = torch.arange(4.0)", "WEIGHT = torch.arange(4.0) + 1"),
    ("equal_list", "LIMITS = [1, 2]", "LIMITS = list(range(1, 3))"),
)
# Misses: what the compiled code holds as a constant, or was chosen by.
OTHER = (
    ("body", "y - 9", "y - 8"),
    ("constant_in_body", "/ 3", "/ 4"),
    ("helper_body", "x.sin() * scale", "x.cos() * scale"),
    ("helper_default", "def helper(x, scale=2)", "def helper(x, scale=3)"),
    ("helper_keyword_default", "by=3", "by=4"),
    ("function_attribute", "tagged.extra = 1.5", "tagged.extra = 2.5"),
    ("partial_argument", "scale=7", "scale=8"),
    ("object_attribute", "OPTIONS = Options()", "OPTIONS = Options(3.5)"),
    ("object_default", "rate: float = 2.5", "rate: float = 4.5"),
    ("class_constant", "factor = 2.0", "factor = 2.25"),
    ("class_list", "sizes = [1, 2, 3]", "sizes = [1, 2]"),
    ("class_constant_in_method", "divisor = 4", "divisor = 5"),
    ("class_method", "x / cls.divisor", "x - cls.divisor"),
    ("static_method", "x * 1.75", "x / 1.75"),
    ("base_class_attribute", "bias = 0.125", "bias = 0.375"),
    ("closure_value", "make(4)", "make(5)"),
    ("closure_code", "return x * value", "return x / value"),
    ("lambda_body", "x * x.sigmoid()", "x + x.sigmoid()"),
    ("global_constant", "FACTOR = 3", "FACTOR = 4"),
    ("global_list", "LIMITS = [1, 2]", "LIMITS = [1, 2, 3]"),
    ("global_dict", '{"a": 2.0', '{"a": 3.0'),
    ("global_function", "functional.relu", "functional.silu"),
    ("global_dtype", "WEIGHT = torch.arange(4.0)", "WEIGHT = torch.arange(4.0).double()"),
    ("default_argument", "power=2", "power=3"),
    ("text_argument", 'mode="fast"', 'mode="slow"'),
    ("dataclass_default", "scale: float = 1.5", "scale: float = 2.5"),
    ("class_attribute", "eps = 0.5", "eps = 0.75"),
    ("instance_attribute", "self.slope = 2.0", "self.slope = 3.0"),
    ("method_body", "x.tanh() * self.gain", "x.sigmoid() * self.gain"),
    ("property_body", "self.slope + 1", "self.slope + 2"),
    ("base_class_method", "x - 0.25", "x - 0.5"),
    ("module_forward", "self.eps + self.shift", "self.eps - self.shift"),
    ("instance_method", "    return net\n", "    net.tail = lambda x: x + 1\n    return net\n"),
    ("training", "Net().eval()", "Net().train()"),
    ("frozen", "    return net\n", "    return net.requires_grad_(False)\n"),
    ("forward_hook", "    return net\n",
     "    net.register_forward_hook(lambda m, a, y: y * 2)\n    return net\n"),
    ("forward_pre_hook", "    return net\n",
     "    net.register_forward_pre_hook(lambda m, a: (a[0] * 2,))\n    return net\n"),
    ("hook_on_all_modules", "contextlib.nullcontext()",
     "nn.modules.module.register_module_forward_hook(lambda m, a, y: y * 2)"),
    ("submodule", "    return net\n", "    net.linear = nn.Identity()\n    return net\n"),
    ("parametrization", "    return net\n",
     "    nn.utils.parametrize.register_parametrization(net.linear, 'weight', nn.Tanh())\n"
     "    return net\n"),
    ("dtype", "DTYPE = torch.float32", "DTYPE = torch.float64"),
    ("shape", "0.9, 8, dtype=DTYPE).view(2, 4)", "0.9, 12, dtype=DTYPE).view(3, 4)"),
    ("strides", ".view(2, 4)", ".view(4, 2).t()"),
    ("input_grad", ".view(2, 4)", ".view(2, 4).requires_grad_()"),
    ("no_grad", "contextlib.nullcontext()", "torch.no_grad()"),
    ("inference_mode", "contextlib.nullcontext()", "torch.inference_mode()"),
    ("autocast", "contextlib.nullcontext()", 'torch.autocast("cpu", torch.bfloat16)'),
    ("default_dtype", "    with context",
     "    torch.set_default_dtype(torch.float64)\n    with context"),
    ("deterministic", "    with context",
     "    torch.use_deterministic_algorithms(True)\n    with context"),
    # torch guards the number of threads, so this is a miss in one process too
    ("threads", "    with context", "    torch.set_num_threads(1)\n    with context"),
    ("options", "options={}", 'options={"epilogue_fusion": False}'),
    ("dynamic", "options={}", "dynamic=True"),
    ("fullgraph", "options={}", "fullgraph=True"),
    ("patched_helper", "as helpers", "as helpers\nhelpers.other = helpers.another"),
)  # fmt: skip
IN_HELPER = (
    ("imported_body", "x.cos() + OFFSET", "x.cos() - OFFSET"),
    ("imported_function_constant", "OFFSET = 1", "OFFSET = 2"),
    ("imported_constant", "SIZE = 5", "SIZE = 6"),
)
CASE = """
def NAME():
    torch.set_default_dtype(torch.float32)
    torch.use_deterministic_algorithms(False)
    torch.set_num_threads(2)
    import m_NAME
    return m_NAME.run()
"""


def write(folder, *, changed=False, compiled=True):
    """Write a module per change, and the program that runs them all; return its path."""
    folder.mkdir(parents=True)
    cases = ["import torch"]
    for name, old, new in (*SAME, *OTHER, *IN_HELPER):
        texts = [PROGRAM, HELPER]
        which = texts.index(HELPER) if old in HELPER and old else 0
        assert old in texts[which], name
        if changed:
            texts[which] = texts[which].replace(old, new, 1)
        if not compiled:
            texts[0] = texts[0].replace("torch.compile(main, ", "(lambda f, **options: f)(main, ")
        for suffix, text in zip(("", "_helper"), texts, strict=True):
            (folder / f"m_{name}{suffix}.py").write_text(text.replace("NAME", f"m_{name}"))
        cases.append(CASE.replace("NAME", name))
    (folder / "every.py").write_text("\n".join(cases))
    return folder / "every.py"


NAMES = [name for name, _, _ in (*SAME, *OTHER, *IN_HELPER)]


@pytest.fixture(scope="module")
def starts(tmp_path_factory):
    root = tmp_path_factory.mktemp("portability")
    store, first_user, other_user = (
        root / "store",
        {"USER": "a", "RANK": "0"},
        {"USER": "b", "RANK": "3"},
    )
    return (
        run_cases(
            write(root / "before"),
            NAMES,
            home=root / "home",
            store=store,
            env=first_user | {"PYTHONHASHSEED": "1", "MASTER_PORT": "1001"},
        ),
        run_cases(
            write(root / "some" / "where", changed=True),
            NAMES[::-1],
            home=root / "other",
            cwd=root,
            store=store,
            env=other_user | {"PYTHONHASHSEED": "2", "MASTER_PORT": "1002"},
        ),
        run_cases(write(root / "eager", changed=True, compiled=False), NAMES, home=root / "home"),
    )


def agree(name, value, expected):
    rough = 5e-2 if name == "autocast" else 1e-5
    for one, other in zip(value, expected, strict=True):
        assert one["type"].split(" (")[0] == other["type"].split(" (")[0]
        assert one["elements"] == pytest.approx(other["elements"], rel=rough)


@pytest.mark.parametrize("name", [name for name, _, _ in SAME])
def test_is_a_hit_although_this_changed(starts, name):
    first, second, eager = starts
    case = second.case(name)
    assert first.case(name)["stats"]["stored"] >= 1
    agree(name, case["value"], eager.case(name)["value"])
    assert case["work"] == {}, case["stats"]
    assert case["stats"]["hits"] == 1, case["stats"]


@pytest.mark.parametrize("name", [name for name, _, _ in (*OTHER, *IN_HELPER)])
def test_is_a_miss_and_right_because_this_changed(starts, name):
    first, second, eager = starts
    case = second.case(name)
    assert first.case(name)["stats"]["stored"] >= 1
    agree(name, case["value"], eager.case(name)["value"])
    assert "hits" not in case["stats"]
    assert case["work"]["traces"] >= 1
    assert case["stats"]["misses"]
    assert "faults" not in case["stats"]
