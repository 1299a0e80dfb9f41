"""Own an optimizer, own a scheduler, a parameter subclass with a property."""

import torch
from torch import nn


class Scaled(nn.Parameter):
    @property
    def scale(self):
        return 2.0


class Lion(torch.optim.Optimizer):
    def __init__(self, params, lr=1e-2, betas=(0.9, 0.99)):
        super().__init__(params, {"lr": lr, "betas": betas})

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                state = self.state[p]
                if not state:
                    state["exp_avg"] = torch.zeros_like(p)
                update(p, p.grad, state["exp_avg"], group["lr"], *group["betas"])


@torch.compile
def update(p, grad, exp_avg, lr: float, beta1: float, beta2: float):
    p.add_(torch.sign(exp_avg * beta1 + grad * (1 - beta1)), alpha=-lr)
    exp_avg.lerp_(grad, 1 - beta2)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = Scaled(torch.randn(4, 4))

    def forward(self, x):
        return x @ self.weight * self.weight.scale


torch.manual_seed(0)
net = Net()
optimizer = Lion(net.parameters())
compiled = torch.compile(net)
for _ in range(2):
    compiled(torch.randn(3, 4)).square().mean().backward()
    optimizer.step()
    optimizer.zero_grad()
result = net.weight.detach(), optimizer.state[net.weight]["exp_avg"]
