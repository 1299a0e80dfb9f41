"""One module with hooks that the environment asks for: names of functions, and where they go."""

import os

import torch
from torch import nn


def doubled(module, inputs, output):
    return output * 2


def tripled(module, inputs, output):
    return output * 3


def shifted(module, inputs):
    return (inputs[0] + 1,)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x):
        return self.second(self.first(x).relu())


def hooked():
    """Run the module with the hooks of ``HOOKS``, such as ``first:doubled second:shifted``."""
    torch.manual_seed(0)
    net = Net()
    for hook in os.environ.get("HOOKS", "").split():
        place, name = hook.split(":")
        module = net.get_submodule(place)
        register = module.register_forward_pre_hook if name == "shifted" else module.register_forward_hook
        register(globals()[name])
    with torch.no_grad():
        return torch.compile(net)(torch.ones(2, 4))
