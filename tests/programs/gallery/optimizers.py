"""Step many optimizers of torch, each compiled, beside a compiled model."""

import torch
from torch import nn

MADE = {
    "SGD": {"lr": 0.1, "momentum": 0.9, "nesterov": True},
    "Adam": {"lr": 0.01, "amsgrad": True},
    "AdamW": {"lr": 0.01},
    "Adamax": {"lr": 0.01},
    "NAdam": {"lr": 0.01},
    "RAdam": {"lr": 0.01},
    "RMSprop": {"lr": 0.01, "centered": True},
    "Adagrad": {"lr": 0.01},
    "Adadelta": {"lr": 0.1},
    "ASGD": {"lr": 0.01},
    "Rprop": {"lr": 0.01},
}

result = {}
for name, options in MADE.items():
    torch.manual_seed(0)
    model = nn.Linear(4, 2)
    optimizer = getattr(torch.optim, name)(model.parameters(), **options)
    step = torch.compile(optimizer.step)
    for _ in range(2):
        optimizer.zero_grad()
        model(torch.randn(3, 4)).square().mean().backward()
        step()
    result[name] = [p.detach() for p in model.parameters()]
