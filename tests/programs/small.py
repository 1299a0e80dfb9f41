"""Small functions for starts that find only a part of what they need."""

import os
import shutil

import torch
from torch import nn


def ramp(*shape, dtype=torch.float32):
    return torch.linspace(-1, 1, torch.Size(shape).numel(), dtype=dtype).reshape(shape)


def waves(x):
    return x.sin() + x.cos()


def broken(x):
    y = x.sin()
    torch._dynamo.graph_break()
    return y * 2


class Net(nn.Module):
    def __init__(self, dtype):
        super().__init__()
        self.linear = nn.Linear(3, 2, dtype=dtype)

    def forward(self, x):
        return self.linear(x).relu()


def run(dtype):
    net = Net(dtype)
    y = torch.compile(net)(ramp(4, 3, dtype=dtype))
    y.sum().backward()
    x = ramp(4, dtype=dtype)
    return torch.compile(waves)(x), torch.compile(broken)(x), y, net.linear.weight.grad


def one():
    return torch.compile(waves)(ramp(4))


def single():
    return run(torch.float32)


def double():
    return run(torch.float64)


def vanishing():
    """Lose the store in the middle."""
    first = one()
    shutil.rmtree(os.environ["FIREBRICK_CACHE_DIR"])
    return first, torch.compile(broken)(ramp(4))
