"""Modules of our own: parameters, buffers, modes, hooks, parametrizations, and ways to compile them."""

import copy
import io
import pickle
import types

import torch
import torch.nn.functional as F
from made import mixed, ramp, whole
from torch import nn
from torch.nn.utils import parametrizations, parametrize

from support.differential import Call, Program, call, program, scenario


class Perceptron(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Linear(6, 5)
        self.second = nn.Linear(5, 3)


def forward(self, x):
    return self.second(torch.relu(self.first(x)))


def Net(case):
    """Return a small module of a class, and with a forward, that no other case has.

    What one case stores must not serve another.
    """
    name = f"Net_{case}"
    if name not in globals():
        code = forward.__code__.replace(co_name=name, co_qualname=f"{name}.forward")
        own = types.FunctionType(code, globals(), name)
        globals()[name] = type(name, (Perceptron,), {"forward": own, "__module__": __name__})
    return globals()[name]()


def trained(module, *inputs, **fields):
    """Return a program that trains a module on one input, twice."""
    inputs = inputs or (mixed(4, 6, grad=True),)
    return Program(target=module, calls=[call(*inputs), call(*inputs)], train=True, **fields)


@program
def perceptron():
    return trained(Net("perceptron"), misses=[call(mixed(5, 6, grad=True)), call(mixed(2, 4, 6))])


@program
def compiled_in_place():
    return trained(Net("compiled_in_place"), how="in_place")


@program
def inference_only():
    net = Net("inference_only").eval()
    return Program(target=net, calls=[Call((mixed(4, 6),), inside=torch.no_grad)] * 2)


@program
def frozen_layers():
    net = Net("frozen_layers")
    net.first.requires_grad_(False)
    return trained(net)


class WithBuffers(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm1d(6)
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))
        self.register_buffer("mean", torch.zeros(6), persistent=False)

    def forward(self, x):
        self.count += 1
        self.mean = self.mean * 0.9 + x.detach().mean(0) * 0.1
        return self.norm(x) - self.mean


@program
def buffers_written():
    return trained(WithBuffers())


@program
def training_then_evaluation():
    net, x = WithBuffers(), mixed(4, 6, grad=True)
    return Program(
        target=net,
        calls=[
            Call((x,), backward=1),
            Call((x,), before=net.eval, inside=torch.no_grad),
            Call((x,), before=net.train),
        ],
    )


class Shared(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(6, 6)
        self.same = self.inner
        self.out = nn.Linear(6, 6)
        self.out.weight = self.inner.weight

    def forward(self, x):
        return self.out(self.same(self.inner(x)).sin())


@program
def shared_parameters():
    return trained(Shared())


class Containers(nn.Module):
    def __init__(self):
        super().__init__()
        self.items = nn.ModuleList(nn.Linear(6, 6) for _ in range(2))
        self.named = nn.ModuleDict({"a": nn.Tanh(), "b": nn.Linear(6, 2)})
        self.scales = nn.ParameterList([torch.ones(6), torch.full((6,), 2.0)])
        self.extra = nn.ParameterDict({"bias": torch.zeros(6)})

    def forward(self, x):
        for layer, scale in zip(self.items, self.scales, strict=True):
            x = layer(x) * scale + self.extra["bias"]
        for name in ("a", "b"):
            x = self.named[name](x)
        return x


@program
def containers_of_modules():
    return trained(Containers())


class Stateful(nn.Module):
    scale = 2

    def __init__(self):
        super().__init__()
        self.calls = 0
        self.last = None
        self.history = []

    @property
    def factor(self):
        return self.scale * 3

    def forward(self, x):
        self.calls += 1
        self.last = x * self.factor
        self.history.append(x.sum())
        return self.last + 1


@program
def attributes_written():
    net = Stateful()
    return Program(target=net, calls=[call(ramp(4))] * 2, state=lambda: [net.calls, net.last, net.history])


class Weighted(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(mixed(4))

    def forward(self, x, *, mode="sum", mask=None):
        y = x * self.weight
        y = y if mask is None else y * mask
        return {"out": getattr(y, mode)(), "raw": y}


@program
def arguments_by_name():
    calls = [
        Call((ramp(4),), {}),
        Call((ramp(4),), {"mode": "mean"}),
        Call((ramp(4),), {"mask": whole(4, below=2)}),
    ]
    return Program(target=Weighted(), calls=calls, train=True)


@program
def method_of_a_module():
    net = Net("method_of_a_module")
    return Program(target=net.forward, calls=[call(mixed(4, 6))], train=True, state=lambda: net)


@program
def module_in_a_function():
    net = Net("module_in_a_function")
    return Program(target=lambda x: net(x) * 2, calls=[call(mixed(4, 6))], train=True, state=lambda: net)


def step(net, x, y):
    return F.mse_loss(net(x), y)


@program
def module_as_argument():
    return Program(target=step, calls=[call(Net("module_as_argument"), mixed(4, 6), mixed(4, 3))], train=True)


@program
def functional_call():
    net = Net("functional_call")
    weights = {name: (p.detach() * 2).requires_grad_() for name, p in net.named_parameters()}

    def run(weights, x):
        return torch.func.functional_call(net, weights, (x,))

    return Program(target=run, calls=[call(weights, mixed(4, 6))], train=True)


@program
def sequential():
    return trained(nn.Sequential(nn.Linear(6, 4), nn.GELU(), nn.LayerNorm(4), nn.Linear(4, 2)))


class Block(nn.Module):
    def __init__(self, size):
        super().__init__()
        self.norm, self.linear = nn.LayerNorm(size), nn.Linear(size, size)

    def forward(self, x):
        return x + torch.relu(self.linear(self.norm(x)))


@program
def twelve_blocks():
    return trained(nn.Sequential(*(Block(6) for _ in range(12))))


@program
def blocks_compiled_one_by_one():
    net = nn.Sequential(*(Block(6) for _ in range(3)))
    for block in net:
        block.compile()
    return Program(
        target=net.forward, how="already", calls=[call(mixed(4, 6))], train=True, state=lambda: net
    )


class Broken(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second, self.log = nn.Linear(6, 6), nn.Linear(6, 2), []

    def forward(self, x):
        y = self.first(x)
        print(end="")
        self.log.append(len(self.log))
        return self.second(y.tanh())


@program
def graph_break_in_a_module():
    net = Broken()
    return trained(net, state=lambda: net.log)


@program
def weight_norm():
    return trained(parametrizations.weight_norm(nn.Linear(6, 3)))


class Symmetric(nn.Module):
    def forward(self, weight):
        return weight.triu() + weight.triu(1).t()


@program
def parametrization():
    layer = nn.Linear(6, 6)
    parametrize.register_parametrization(layer, "weight", Symmetric())
    return trained(layer)


@program
def spectral_norm():
    return trained(parametrizations.spectral_norm(nn.Linear(6, 3)))


@program
def forward_hook():
    net, seen = Net("forward_hook"), []
    net.first.register_forward_hook(lambda module, inputs, output: output * 2)
    net.second.register_forward_pre_hook(lambda module, inputs: seen.append(len(inputs)))
    return trained(net, state=lambda: seen)


@program
def hook_on_the_outer_module():
    net, seen = Net("hook_on_the_outer_module"), []
    net.register_forward_hook(lambda module, inputs, output: seen.append(tuple(output.shape)))
    return trained(net, state=lambda: seen)


@program
def backward_hook():
    net, seen = Net("backward_hook"), []
    net.first.register_full_backward_hook(lambda *_: seen.append("back"))
    return trained(net, state=lambda: seen)


@program
def hook_on_a_parameter():
    net, seen = Net("hook_on_a_parameter"), []
    net.first.weight.register_post_accumulate_grad_hook(lambda p: seen.append(tuple(p.grad.shape)))
    return trained(net, state=lambda: seen)


@program
def half_precision_module():
    return trained(
        Net("half_precision_module").to(torch.bfloat16), mixed(4, 6, dtype=torch.bfloat16, grad=True)
    )


@program
def weights_that_change_between_calls():
    net, x = Net("weights_that_change_between_calls"), mixed(4, 6)

    def descend():
        with torch.no_grad():
            for p in net.parameters():
                p.sub_(p.grad * 0.1)
                p.grad = None

    return Program(
        target=net, calls=[call(x), Call((x,), before=descend), Call((x,), before=descend)], train=True
    )


@program
def parameter_that_is_replaced():
    net = Weighted()
    replace = lambda: setattr(net, "weight", nn.Parameter(ramp(4)))  # noqa: E731
    return Program(target=net, calls=[call(ramp(4)), Call((ramp(4),), before=replace)], train=True)


@program
def submodule_that_is_replaced():
    net = Net("submodule_that_is_replaced")
    replace = lambda: setattr(net, "first", nn.Linear(6, 5, bias=False))  # noqa: E731
    return Program(target=net, calls=[call(mixed(4, 6))], misses=[Call((mixed(4, 6),), before=replace)])


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(7, 4)
        self.head = nn.Linear(4, 7, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, tokens, labels):
        return F.cross_entropy(self.head(self.embed(tokens)), labels)


@program
def tied_embedding():
    return Program(target=Tied(), calls=[call(whole(5, below=7), whole(5, below=6))], train=True)


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.qkv, self.out = nn.Linear(8, 24), nn.Linear(8, 8)
        self.register_buffer("mask", torch.ones(5, 5, dtype=torch.bool).tril())

    def forward(self, x):
        b, n, d = x.shape
        q, k, v = self.qkv(x).view(b, n, 3, 2, d // 2).permute(2, 0, 3, 1, 4)
        weights = (q @ k.transpose(-2, -1)) / (d // 2) ** 0.5
        weights = weights.masked_fill(~self.mask[:n, :n], float("-inf")).softmax(-1)
        return self.out((weights @ v).transpose(1, 2).reshape(b, n, d))


@program
def self_attention():
    return trained(Attention(), mixed(2, 5, 8, grad=True))


class Residual(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(channels)

    def forward(self, x):
        return F.relu(x + self.norm(self.conv(x)))


@program
def convolutional_network():
    net = nn.Sequential(nn.Conv2d(3, 4, 3), Residual(4), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(36, 2))
    return trained(net, mixed(2, 3, 8, 8, grad=True))


class Heads(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(6, 2), nn.Linear(6, 3)

    def forward(self, x):
        return {"a": self.a(x), "list": [self.b(x), x], "none": None}


@program
def several_outputs():
    return trained(Heads())


@program
def class_made_in_a_function():
    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(6, 2)

        def forward(self, x):
            return self.linear(x) * 3

    return trained(Scaled())


@scenario
def copies_of_a_compiled_module():
    torch.manual_seed(0)
    model = torch.compile(Net("copies_of_a_compiled_module"))
    x = mixed(4, 6)
    first = model(x)
    twin = copy.deepcopy(model)
    with torch.no_grad():
        twin.first.weight.zero_()
    return first, twin(x), model(x), list(model.state_dict()), type(twin).__name__


@scenario
def state_dict_goes_through():
    model = torch.compile(Net("state_dict_goes_through"))
    buffer = io.BytesIO()
    torch.save(model.state_dict(), buffer)
    other = torch.compile(Net("state_dict_goes_through"))
    other.load_state_dict(torch.load(io.BytesIO(buffer.getvalue())))
    x = mixed(4, 6)
    return torch.equal(model(x), other(x)), list(other.state_dict())


@scenario
def pickled_module():
    net = Net("pickled_module")
    net.compile()
    first = net(mixed(4, 6))
    again = pickle.loads(pickle.dumps(net))
    return first, again(mixed(4, 6))


@scenario
def two_modules_of_a_class():
    torch.manual_seed(3)
    models = [torch.compile(Net("two_modules_of_a_class")) for _ in range(2)]
    return [model(mixed(4, 6)) for model in models]


@scenario
def training_loop_with_an_optimiser():
    torch.manual_seed(2)
    net = Net("training_loop_with_an_optimiser")
    optimiser = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    model, losses = torch.compile(net), []
    for _ in range(3):
        loss = F.mse_loss(model(mixed(4, 6)), mixed(4, 3))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.detach())
    return losses, dict(net.named_parameters())
