"""One function, compiled, and its backend rebuilt on its own. Used by tests/loader/test_loader.py."""

import os

import torch


def waves(x):
    return x.sin() + x.cos()


def train(function):
    x = torch.linspace(0, 1, 10, requires_grad=True)
    y = function(x)
    y.sum().backward()
    return [y, x.grad]


def compiled():
    return train(torch.compile(waves))


def rebuilt():
    from firebrick import Store
    from firebrick.loader import load

    with Store.open(os.environ["STORE"], readonly=True) as store:
        function = load(os.environ["KEY"], store)
    return train(lambda x: function(x)[0])
