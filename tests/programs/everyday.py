"""Programs as users write them, each with something that a guard knows by its address alone."""

import collections.abc
import functools
import re
import typing

import torch
from torch import nn

compiled = functools.partial(torch.compile, options={"fallback_by_default": True})  # without a C++ compiler
Array = typing.TypeVar("Array")
NAME = re.compile("a+")
MISSING = object()
is_known = frozenset({"a", "b"}).__contains__


def ones(*shape):
    return torch.arange(1.0, 1 + torch.Size(shape).numel()).reshape(shape) / 7


def type_variable():
    """As einops does."""
    return compiled(lambda x: typing.cast(Array, x) * 2)(ones(3))


def pattern():
    return compiled(lambda x: x * 2 if NAME is not None else x)(ones(3))


def sentinel():
    return compiled(lambda x, y=MISSING: x * 2 if y is MISSING else x)(ones(3))


def method_of_a_set():
    """As ``keyword.iskeyword`` is."""
    return compiled(lambda x: x * 2 if is_known("a") else x)(ones(3))


def axes(text):
    found = set()
    for name in text.split():
        found.add(name)
    return found


def set_made_inside():
    """Goes through it in the order in which it was filled, whatever the seed of hashes."""
    return compiled(lambda x: [x * len(name) for name in axes("height width channel batch")])(ones(3))


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x):
        return self.layer(x).relu()


def net():
    torch.manual_seed(3)
    return Net()


def autocast_around():
    model = net()

    @torch.autocast("cpu", dtype=torch.bfloat16)
    def run(x):
        return model(x) + 1

    return torch.compile(run)(ones(2, 4))


def autocast_in_forward():
    """As accelerate prepares a model."""
    model = net()
    model.forward = torch.autocast("cpu", dtype=torch.bfloat16)(model.forward)
    return torch.compile(model)(ones(2, 4))


def autocast_held():
    region, model = torch.autocast("cpu", dtype=torch.bfloat16), net()

    def run(x):
        with region:
            return model(x) + 1

    return torch.compile(run)(ones(2, 4))


def dtype_beside():
    """As each ``LightningModule`` has one."""
    model = net()
    model._dtype = torch.float32
    return compiled(model)(ones(2, 4))


class Seldom:
    """Registered by a package that the compiler imports, so that a start without it lacks it."""


def registered_elsewhere():
    if "torch._dynamo" in __import__("sys").modules:
        collections.abc.Mapping.register(Seldom)
    return compiled(lambda x: x * 2 if isinstance({}, collections.abc.Mapping) else x)(ones(3))


@torch.library.custom_op("everyday::double", mutates_args=())
def double(x: torch.Tensor) -> torch.Tensor:
    return x * 2


double.register_fake(torch.empty_like)
double.register_autograd(lambda context, gradient: gradient * 2)


def operator_of_ones_own():
    x = ones(3).requires_grad_()
    y = compiled(lambda x: double(x) + 1)(x)
    y.sum().backward()
    return y, x.grad


class Tower(nn.Module):
    """A class of which one method is compiled: what that consists of differs without the compiler."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 3)

    @torch.compile(options={"fallback_by_default": True})
    def encode(self, x):
        return nn.functional.normalize(self.layer(x)) if isinstance(self, Tower) else x


def compiled_method():
    torch.manual_seed(3)
    return Tower().encode(ones(2, 3))


def distribution():
    """The first ``torch.compile`` of a process turns off what checks arguments."""
    return compiled(lambda x: torch.distributions.Normal(x, x.exp()).log_prob(x + 1))(ones(3))


def mapped_function():
    return compiled(lambda x: torch.vmap(lambda row, by: row.sum() * by, (0, None))(x, 3))(ones(3, 2))


def gradients_of_samples():
    weights = {name: value.detach() for name, value in net().named_parameters()}

    def loss(weights, x):
        return (x @ weights["layer.weight"].T).square().sum()

    return compiled(torch.func.vmap(torch.func.grad(loss), (None, 0)))(weights, ones(2, 4))


def decorator_with_arguments():
    @torch.compile(dynamic=False, options={"fallback_by_default": True})
    def run(x):
        return x * 2

    return run(ones(3))


def stepped(step, models, optimizers, number=2):
    """Take steps, and return the parameters and what the optimizers keep."""
    for _ in range(number):
        for model, optimizer in zip(models, optimizers, strict=True):
            optimizer.zero_grad()
            model(ones(2, 4)).sum().backward()
        step()
    return [[*model.parameters()] for model in models], [o.state_dict()["state"] for o in optimizers]


def optimizer_step():
    model = net()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    return stepped(torch.compile(optimizer.step), [model], [optimizer])


def optimizer_with_a_scheduler():
    """As PyTorch's tutorial has it."""
    model = net()
    optimizer = torch.optim.Adam(model.parameters(), lr=torch.tensor(0.01))
    scheduler = torch.optim.lr_scheduler.LinearLR(optimizer, total_iters=5)

    @torch.compile(fullgraph=False)
    def step():
        optimizer.step()
        scheduler.step()

    return stepped(step, [model], [optimizer])


def two_optimizers():
    """Of one kind, for models of the same sizes: one graph, with the tensors of each."""
    models = net(), net()
    with torch.no_grad():
        models[1].layer.weight.mul_(2)
    optimizers = [torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9) for model in models]
    steps = [compiled(optimizer.step) for optimizer in optimizers]
    return stepped(lambda: [step() for step in steps], models, optimizers, 3)


def optimizer_that_goes_on():
    """With the state of a check point."""
    model = net()
    before = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    stepped(before.step, [model], [before])
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    optimizer.load_state_dict(before.state_dict())
    return stepped(compiled(optimizer.step), [model], [optimizer])
