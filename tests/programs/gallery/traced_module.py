"""Transform a model with torch.fx, then compile the result."""

import torch
from torch import fx, nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x):
        return torch.relu(self.a(x)) + torch.relu(self.b(x)) * 2


def replace_relu(module):
    for node in module.graph.nodes:
        if node.target is torch.relu:
            node.target = torch.tanh
    module.recompile()
    return module


torch.manual_seed(0)
traced = replace_relu(fx.symbolic_trace(Net()))
y = torch.compile(traced)(torch.randn(2, 4))
y.sum().backward()


def serve(x):
    return traced(x) + 1


result = y, [p.grad for p in traced.parameters()], torch.compile(serve)(torch.ones(2, 4))
