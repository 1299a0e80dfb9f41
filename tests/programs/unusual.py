"""Programs that are hard to store, or have nothing to store: Firebrick must not be noticed."""

import contextlib
import enum
import os
import random
import threading
import warnings

import numpy as np
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint


def ramp(*shape, grad=False):
    size = torch.Size(shape).numel()
    return torch.linspace(-1, 1, size).reshape(shape).requires_grad_(grad)


square = lambda x: x * x  # noqa: E731


def global_lambda():
    return torch.compile(lambda x: square(x) + 1)(ramp(4))


def local_class():
    class Local:
        factor = 3

        def apply(self, x):
            return x * self.factor

    return torch.compile(lambda x, tool: tool.apply(x).sin())(ramp(4), Local())


softplus = torch.nn.functional.softplus


def builtin_function():
    return torch.compile(lambda x: softplus(x) + 1)(ramp(4))


class Mode(enum.Enum):
    FAST = 1
    SLOW = 2


def enum_argument():
    f = torch.compile(lambda x, mode: x.sin() if mode is Mode.FAST else x.cos())
    return f(ramp(4), Mode.FAST), f(ramp(4), Mode.SLOW)


class Tagged(torch.Tensor):
    pass


def tensor_subclass():
    return torch.compile(lambda x: x.exp() - 1)(ramp(4).as_subclass(Tagged)).as_subclass(torch.Tensor)


def counting_backend(graph, inputs):
    return graph.forward


def own_backend():
    return torch.compile(lambda x: x.sin() + 2, backend=counting_backend)(ramp(4))


def eager_backend():
    return torch.compile(lambda x: x.sin() + 3, backend="eager")(ramp(4))


def aot_eager_backend():
    x = ramp(4, grad=True)
    torch.compile(lambda x: x.sin() + 4, backend="aot_eager")(x).sum().backward()
    return x.grad


def autocast_inside():
    def product(x, y):
        with torch.autocast("cpu", torch.bfloat16):
            return x @ y

    return torch.compile(product)(ramp(2, 3), ramp(3, 2))


class Doubled(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * 2

    @staticmethod
    def backward(ctx, gradient):
        (x,) = ctx.saved_tensors
        return gradient * x


def autograd_function():
    x = ramp(4, grad=True)
    torch.compile(lambda x: Doubled.apply(x).sin())(x).sum().backward()
    return x.grad


def conditional():
    def choose(x):
        return torch.cond(x.sum() > 0, lambda x: x.sin(), lambda x: x.cos(), (x,))

    f = torch.compile(choose)
    return f(ramp(4) + 1), f(ramp(4) - 1)


def functional_transform():
    return torch.compile(lambda x: torch.func.grad(lambda y: y.sin().sum())(x))(ramp(4))


def vmapped():
    return torch.compile(torch.func.vmap(lambda x: x.sin().sum()))(ramp(3, 4))


def checkpointed():
    layer, x = nn.Linear(3, 3), ramp(2, 3, grad=True)
    torch.compile(lambda x: checkpoint(layer, x, use_reentrant=False).relu())(x).sum().backward()
    return x.grad, layer.weight.grad


def numpy_inside():
    return torch.from_numpy(torch.compile(lambda a: np.sin(a) * 2)(np.linspace(0, 1, 4)))


def python_random():
    random.seed(4)
    return torch.compile(lambda x: x * random.random())(ramp(4))


@torch.library.custom_op("firebrick_tests::halved", mutates_args=())
def halved(x: torch.Tensor) -> torch.Tensor:
    return x / 2


@halved.register_fake
def _(x):
    return torch.empty_like(x)


def custom_operator():
    return torch.compile(lambda x: halved(x).sin())(ramp(4))


class Box:
    def __init__(self):
        self.values = {1: ramp(4), (2, "key"): ramp(4) + 1}


BOX = Box()


def global_object():
    return torch.compile(lambda x: x + BOX.values[2, "key"].sin())(ramp(4))


def disabled_inside():
    @torch.compiler.disable
    def outside(x):
        return x.cos()

    return torch.compile(lambda x: outside(x.sin()) + 1)(ramp(4))


def generator_argument():
    return torch.compile(lambda x, parts: sum(x * p for p in parts))(ramp(4), (i for i in (1, 2, 3)))


def warning_inside():
    def warn(x):
        warnings.warn("from inside", UserWarning, stacklevel=1)
        return x.sin()

    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        return torch.compile(warn)(ramp(4)), len([w for w in seen if w.category is UserWarning])


def error_inside():
    def fail(x):
        if x.shape[0] == 4:
            raise ValueError("mine")
        return x.sin()

    with contextlib.suppress(ValueError):
        torch.compile(fail)(ramp(4))
        return "no error"
    return "the program's own error"


def fullgraph_error():
    def broken(x):
        torch._dynamo.graph_break()
        return x.sin()

    try:
        torch.compile(broken, fullgraph=True)(ramp(4))
    except torch._dynamo.exc.Unsupported as error:
        return type(error).__name__
    return "no error"


def stance():
    f = torch.compile(lambda x: x.sin() * 5)
    with torch.compiler.set_stance("force_eager"):
        first = f(ramp(4))
    return first, f(ramp(4))


def after_reset():
    def wave(x):
        return x.sin() * 6

    first = torch.compile(wave)(ramp(4))
    torch._dynamo.reset()
    return first, torch.compile(wave)(ramp(4))


def many_recompiles():
    f = torch.compile(lambda x, n: x * n, dynamic=False)
    return [f(ramp(4), n) for n in range(12)]


def retained_graph():
    x = ramp(4, grad=True)
    y = torch.compile(lambda x: x.exp() * x)(x).sum()
    y.backward(retain_graph=True)
    y.backward()
    return x.grad


def no_backward():
    return torch.compile(lambda x: x.exp() * x * 2)(ramp(4, grad=True))


def views_and_aliases():
    def f(x, y):
        x.add_(y)
        return x[1:], x, y.t()

    base = ramp(4, 4)
    outputs = torch.compile(f)(base, base.clone())
    outputs[0].mul_(2)
    return base, outputs


def hooks():
    net, x, seen = nn.Linear(3, 3), ramp(2, 3, grad=True), []
    net.register_full_backward_hook(lambda *_: seen.append("backward"))
    torch.compile(net)(x).sum().backward()
    return x.grad, seen


def make_work(number):
    def work(x):
        return (x * number).sin().sum() + number

    return work


def threads():
    """Compile the same closure with other values, and functions of their own, in four threads."""
    results = [None] * 4

    def body(number):
        x = ramp(5, grad=True)
        y = torch.compile(make_work(number))(x)
        y.backward()
        results[number] = (y, x.grad)

    workers = [threading.Thread(target=body, args=(number,)) for number in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return results


def before_fork(x):
    return x.sin() * 7


def in_child(x):
    return x.sin() * 8


def in_parent(x):
    return x.sin() * 9


def fork():
    """Compile, fork, compile in the child and in the parent."""
    first = torch.compile(before_fork)(ramp(4))
    reader, writer = os.pipe()
    if not (child := os.fork()):
        status = 1
        try:
            values = torch.compile(before_fork)(ramp(4)), torch.compile(in_child)(ramp(4))
            os.write(writer, repr([value.tolist() for value in values]).encode())
            status = 0
        finally:
            os._exit(status)
    os.close(writer)
    second = torch.compile(in_parent)(ramp(4))
    text = b""
    while part := os.read(reader, 4096):
        text += part
    return first, second, text.decode(), os.waitpid(child, 0)[1]
