"""Constrain weights: weight norm, spectral norm, a parametrization of one's own."""

import torch
from torch import nn
from torch.nn.utils import parametrizations, parametrize


class Symmetric(nn.Module):
    def forward(self, x):
        return x.triu() + x.triu(1).transpose(-1, -2)


torch.manual_seed(0)
symmetric = nn.Linear(4, 4)
parametrize.register_parametrization(symmetric, "weight", Symmetric())
net = nn.Sequential(
    parametrizations.weight_norm(nn.Linear(4, 4)),
    nn.Tanh(),
    parametrizations.spectral_norm(nn.Linear(4, 4)),
    symmetric,
)
y = torch.compile(net)(torch.randn(3, 4))
y.sum().backward()
result = y, [p.grad for p in net.parameters()]
