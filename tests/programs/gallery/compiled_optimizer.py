"""Compile the optimizer's step together with its scheduler, as PyTorch's tutorial does."""

import torch
from torch import nn

torch.manual_seed(0)
model = nn.Sequential(*(nn.Linear(8, 8, bias=False) for _ in range(3)))
x = torch.rand(4, 8)
opt = torch.optim.Adam(model.parameters(), lr=torch.tensor(0.01))
sched = torch.optim.lr_scheduler.LinearLR(opt, total_iters=5)


@torch.compile(fullgraph=False)
def step():
    opt.step()
    sched.step()


for _ in range(3):
    opt.zero_grad()
    model(x).sum().backward()
    step()
result = [p.detach() for p in model.parameters()], sched.get_last_lr()[0]
