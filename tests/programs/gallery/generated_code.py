"""Call functions made by exec, from templates, and by factories."""

import collections
import functools
import operator

import torch

namespace = {"torch": torch}
exec("def gelu_like(x):\n    return x * torch.sigmoid(1.702 * x)\n", namespace)
gelu_like = namespace["gelu_like"]


def make(name, expression):
    scope = {"torch": torch}
    exec(f"def {name}(x, scale):\n    return {expression}", scope)
    return scope[name]


scaled = make("scaled", "torch.sin(x) * scale")
powers = [lambda x, n=n: x**n for n in range(3)]
Point = collections.namedtuple("Point", "x y")
compose = functools.partial(functools.reduce, lambda f, g: lambda x: g(f(x)))
pipeline = compose([torch.sin, functools.partial(operator.mul, 2), gelu_like])


@torch.compile
def run(x):
    point = Point(gelu_like(x), scaled(x, 0.5))
    return point._replace(y=point.y + sum(p(x) for p in powers)), pipeline(x)


result = run(torch.linspace(-1, 1, 5))
