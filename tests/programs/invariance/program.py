"""The program whose starts differ in what does not matter to it: what it needs lies in a package beside it."""

SOURCES = {
    "app/__init__.py": "",
    "app/helpers.py": """
import enum

FACTOR = 1.5


class Kind(enum.IntEnum):
    PLAIN = 1
    DOUBLE = 2


def bend(x, by=0.5):
    return x.tanh() * by + FACTOR


def unused(x):
    return x - 1


class Unused:
    rate = 1

    def apply(self, x):
        return x * self.rate
""",
    "app/layers.py": """
import dataclasses
import functools
import os

import torch
from torch import nn

from app import helpers

SCALE = 2.0
UNUSED = 1
TABLE = {"a": helpers.bend, "b": lambda x: x + 1}


@dataclasses.dataclass
class Options:
    rate: float = 0.25
    kind: int = helpers.Kind.DOUBLE


def scaled(by):
    def wrap(inner):
        @functools.wraps(inner)
        def outer(self, x):
            return inner(self, x) * by

        return outer

    return wrap


class Base(nn.Module):
    shift = 0.125

    def tail(self, x):
        return x - self.shift


class Block(Base):
    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(4, 4)
        self.norm = nn.LayerNorm(4)

    @scaled(1.25)
    def bend(self, x):
        return TABLE["a"](x)

    def unused(self, x):
        return x * 3

    def forward(self, x):
        return self.tail(self.bend(self.norm(self.inner(x))))


def mode():
    return 2.0 if os.environ.get("APP_MODE", "fast") == "fast" else 3.0


def unrelated(x):
    return x + 1


def step(net, x):
    options = Options()
    return net(x) * SCALE * options.rate + options.kind * mode()
""",
    "app/run.py": '''
import torch

from app import layers


def main():
    """Compile and train for a step; return values and gradients."""
    torch.manual_seed(0)
    net = torch.nn.Sequential(layers.Block(), layers.Block())
    x = torch.linspace(-1, 1, 8).reshape(2, 4)
    result = torch.compile(layers.step)(net, x)
    result.sum().backward()
    second = torch.compile(net)(x)
    return [result, second, *(p.grad for p in net.parameters())]
''',
}
