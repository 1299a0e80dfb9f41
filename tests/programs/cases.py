"""What a second start must find: each function compiles something of its own and runs it."""

import dataclasses
import functools
import os

import torch
import twin_a
import twin_b
from torch import nn

compiled = torch.compile
DEVICE = torch.device(os.environ.get("TEST_DEVICE", "cpu"))


def ramp(*shape, dtype=torch.float32, grad=False):
    """Return values between -1 and 1 that are the same in every process."""
    size = torch.Size(shape).numel()
    return torch.linspace(-1, 1, size, dtype=dtype).to(DEVICE).reshape(shape).requires_grad_(grad)


def gradients(module):
    return {name: parameter.grad for name, parameter in module.named_parameters()}


def waves(x):
    return x.sin() + x.cos()


def function():
    return compiled(waves)(ramp(8))


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Linear(6, 5)
        self.norm = nn.BatchNorm1d(5)
        self.second = nn.Linear(5, 3)

    def forward(self, x):
        return self.second(torch.relu(self.norm(self.first(x))))


def training():
    net, x = Net().to(DEVICE), ramp(4, 6, grad=True)
    model = compiled(net)
    y = model(x)
    y.square().mean().backward()
    trained = [y, x.grad, gradients(net), dict(net.named_buffers())]
    net.eval()
    with torch.no_grad():
        return [*trained, model(x)]


def broken(x, log):
    y = x.sin() * 2
    torch._dynamo.graph_break()
    log.append("middle")
    y = y + x
    torch._dynamo.graph_break()
    return y.cos(), len(log)


def graph_breaks():
    x, log = ramp(8, grad=True), []
    y, length = compiled(broken)(x, log)
    y.sum().backward()
    return y, length, log, x.grad


def broken_too(x, log):
    y = x.exp() - 3
    torch._dynamo.graph_break()
    log.append("other")
    return y / 2


def more_graph_breaks():
    log = []
    return compiled(broken_too)(ramp(8), log), log


def branching(x):
    y = x * 3
    if y.sum() > 0:
        return y.sin()
    return y.tanh() - 1


def data_dependent_branch():
    branch = compiled(branching)
    return branch(ramp(8) + 1), branch(ramp(8) - 1)


def make_broken(scale):
    def inside(x):
        y = x * scale
        torch._dynamo.graph_break()
        return y.sin() + scale

    return inside


def graph_break_in_closure():
    inside = compiled(make_broken(ramp(4)))
    return inside(ramp(4) + 2)


def static_shapes(x):
    return x.exp().sum(0)


def static():
    f = compiled(static_shapes, dynamic=False)
    return f(ramp(4, 3)), f(ramp(6, 3))


def dynamic_shapes(x):
    return x.tanh().sum(1)


def dynamic():
    f = compiled(dynamic_shapes, dynamic=True)
    return f(ramp(4, 3)), f(ramp(7, 3))


def automatic_shapes(x):
    return (x * x.shape[0]).sigmoid()


def specialisations():
    f = compiled(automatic_shapes)
    return [f(ramp(n, dtype=t)) for t in (torch.float32, torch.float64) for n in (4, 6, 9)]


def modes(x):
    return (x * 2).cos() * x


def grad_modes():
    f, x = compiled(modes), ramp(8, grad=True)
    with torch.no_grad():
        without = f(x)
    y = f(x)
    y.sum().backward()
    with torch.inference_mode():
        inference = f(ramp(8))
    return without, y, x.grad, inference.clone()


class Block(nn.Module):
    def __init__(self, size):
        super().__init__()
        self.norm = nn.LayerNorm(size)
        self.linear = nn.Linear(size, size)

    def forward(self, x):
        return x + torch.relu(self.linear(self.norm(x)))


def twelve_blocks():
    model, x = nn.Sequential(*(Block(5) for _ in range(12))).to(DEVICE), ramp(3, 5, grad=True)
    for block in model:
        block.compile()
    y = model(x)
    y.sum().backward()
    return y, x.grad, gradients(model)


def twins():
    models, x = [twin_a.Twin().to(DEVICE), twin_b.Twin().to(DEVICE)], ramp(4)
    outputs = [compiled(model)(x) for model in models]
    sum(y.sum() for y in outputs).backward()
    return outputs, [model.weight.grad for model in models]


def dropped(x):
    return torch.dropout(x, 0.5, True) + 1


def options():
    results = []
    for arguments in ({"options": {"fallback_random": True}}, {"mode": "reduce-overhead"}):
        torch.manual_seed(5)
        results.append(compiled(dropped, **arguments)(torch.ones(64, device=DEVICE)))
    return results


def logged(function):
    @functools.wraps(function)
    def wrapper(*args):
        return function(*args), len(args)

    return wrapper


@compiled
def decorated_function(x, y):
    return x.sin() * y


@compiled
@logged
def twice_decorated(x):
    return x.cos() - 1


def decorated():
    return decorated_function(ramp(4), ramp(4)), twice_decorated(ramp(4))


def compiled_inside():
    @compiled
    def inner(x):
        return x.erf() + 2

    def outer(x):
        return inner(x) * 3

    return compiled(outer)(ramp(4)), inner(ramp(4))


class Shift:
    def __init__(self, by):
        self.by = by

    def add(self, x):
        return x.sqrt() + self.by

    def __call__(self, x):
        return x.abs() - self.by


def method():
    return [compiled(Shift(by).add)(ramp(4) + 2) for by in (2, 3)]


def callable_object():
    return compiled(Shift(4))(ramp(4))


def make_closure(factor, offset):
    def inside(x):
        return x.exp() * factor + offset

    return inside


def closure():
    pairs = ((2.0, ramp(4)), (3.0, ramp(4) + 1))
    return [compiled(make_closure(*pair))(ramp(4)) for pair in pairs]


def scaled(x, *, scale, bias=0.5):
    return x.log1p() * scale + bias


def partial():
    return [compiled(functools.partial(scaled, scale=s))(ramp(4) + 1) for s in (3.0, 5.0)]


def mutating(x, state):
    x.mul_(2)
    state["count"].add_(1)
    return x.view(2, 4), x.sin()


def mutation():
    x, state = ramp(8), {"count": torch.zeros((), device=DEVICE)}
    view, wave = compiled(mutating)(x, state)
    view.add_(1)
    return x, view, wave, state


@dataclasses.dataclass
class Batch:
    left: torch.Tensor
    right: torch.Tensor
    name: str


def contained(batch, extra):
    total = batch.left @ batch.right + extra["bias"][0]
    return {"total": total, "name": batch.name, "none": None, "pair": (total.sum(), 3)}


def containers():
    batch = Batch(ramp(3, 4), ramp(4, 2), "first")
    return compiled(contained)(batch, {"bias": [ramp(2)]})


TABLE = torch.arange(4.0, device=DEVICE)
FACTOR = 3


def uses_globals(x):
    return x.asin() * FACTOR + TABLE


def global_values():
    return compiled(uses_globals)(ramp(4))


def seen(x, flag, *rest, alpha=2, **names):
    y = x.acos() * alpha if flag else x.asin() / alpha
    for other in rest:
        y = y + other
    return y - names["beta"]


def arguments():
    f = compiled(seen)
    x = ramp(4)
    return f(x, True, beta=1), f(x, False, x, x, beta=x), f(x, True, alpha=3, beta=1)


def by_type(x):
    y = x * 2
    return y + 1 if type(y) is torch.Tensor and type(x).__module__ == "torch" else y


def tensor_type():
    return compiled(by_type)(ramp(4))
