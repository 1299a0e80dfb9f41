"""DistributedDataParallel around a compiled module, in one process."""

import os

import torch
import torch.distributed as dist
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(4, 8), nn.Linear(8, 2)

    def forward(self, x):
        return self.second(self.first(x).relu())


def trained():
    """Take two steps; with ``WHOLE=1`` the graph is compiled in one piece."""
    torch.manual_seed(0)
    store = dist.FileStore(os.path.join(os.environ["TMPDIR"], "rendezvous"), 1)
    dist.init_process_group("gloo", store=store, rank=0, world_size=1)
    net = Net()
    model = nn.parallel.DistributedDataParallel(torch.compile(net))
    if os.environ.get("WHOLE") == "1":
        torch._dynamo.config.optimize_ddp = False
    optimiser = torch.optim.SGD(net.parameters(), lr=0.1)
    losses = []
    for _ in range(2):
        optimiser.zero_grad()
        loss = model(torch.arange(12.0).reshape(3, 4) / 7).square().mean()
        loss.backward()
        optimiser.step()
        losses.append(loss)
    dist.destroy_process_group()
    return losses, list(net.parameters())


def alone():
    """Run the module without it."""
    torch.manual_seed(0)
    net = Net()
    return torch.compile(net)(torch.ones(3, 4, requires_grad=True)).sum().backward()
