"""Fit a network to a differential equation: gradients by inputs stand inside the loss."""

import torch
from torch import nn

torch.manual_seed(0)
net = nn.Sequential(nn.Linear(1, 16), nn.Tanh(), nn.Linear(16, 1))
compiled = torch.compile(net)
optimizer = torch.optim.Adam(net.parameters(), lr=1e-2)
losses = []
for _ in range(2):
    t = torch.linspace(0, 1, 8)[:, None].requires_grad_()
    u = compiled(t)
    loss = ((u - torch.exp(-t)) ** 2).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    losses.append(loss.item())


@torch.compile
def residual(t):
    value = torch.func.vmap(torch.func.grad(lambda s: net(s[None]).squeeze()))(t)
    return value + net(t[:, None]).squeeze(-1)


result = losses, residual(torch.linspace(0, 1, 8))
