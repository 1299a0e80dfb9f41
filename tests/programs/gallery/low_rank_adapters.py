"""Fine-tune with low-rank adapters that are switched off and merged."""

import math

import torch
from torch import nn


class LoRALinear(nn.Module):
    def __init__(self, base, rank=2, alpha=4.0):
        super().__init__()
        self.base = base.requires_grad_(False)
        self.scaling = alpha / rank
        self.lora_a = nn.Parameter(torch.empty(rank, base.in_features))
        self.lora_b = nn.Parameter(torch.zeros(base.out_features, rank))
        nn.init.kaiming_uniform_(self.lora_a, a=math.sqrt(5))
        self._enabled = True

    @property
    def enabled(self):
        return self._enabled

    @enabled.setter
    def enabled(self, value):
        self._enabled = value

    def forward(self, x):
        y = self.base(x)
        return y + (x @ self.lora_a.T @ self.lora_b.T) * self.scaling if self.enabled else y


def adapt(module):
    for name, child in list(module.named_children()):
        if isinstance(child, nn.Linear):
            setattr(module, name, LoRALinear(child))
        else:
            adapt(child)
    return module


torch.manual_seed(0)
model = adapt(nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2)))
compiled = torch.compile(model)
optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.1)
x = torch.randn(3, 4)
for _ in range(2):
    optimizer.zero_grad()
    compiled(x).square().sum().backward()
    optimizer.step()
on = compiled(x)
for module in model.modules():
    if isinstance(module, LoRALinear):
        module.enabled = False
result = on, compiled(x)
