"""One of two processes that train a model by DistributedDataParallel; RANK says which, KIND where."""

import os

import torch
import torch.distributed as dist
from torch import nn

RANK = int(os.environ["RANK"])


class Net(nn.Module):
    """Parameters for several buckets, in graphs that give each other more than one value."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(64, 512), nn.Linear(512, 512)
        self.third, self.last = nn.Linear(512, 512), nn.Linear(512, 32)

    def forward(self, x):
        y = self.first(x).relu() + torch.arange(512, device=x.device) / 512
        z = self.second(y).tanh()
        y = self.third(z) + y
        return self.last(y * z), y.sum()


def trained():
    """Take two steps; the losses of this rank and the parameters, which all ranks share."""
    torch._dynamo.config.optimize_ddp = os.environ.get("WHOLE") != "1"
    where = torch.device(os.environ["KIND"], RANK) if os.environ["KIND"] == "cuda" else torch.device("cpu")
    if where.type == "cuda":
        torch.cuda.set_device(where)
        torch.use_deterministic_algorithms(True)  # else each rank measures which reduction is quicker
    rendezvous = dist.FileStore(os.environ["RENDEZVOUS"], 2)
    backend = "nccl" if where.type == "cuda" else "gloo"
    dist.init_process_group(backend, store=rendezvous, rank=RANK, world_size=2)
    torch.manual_seed(3)
    model = nn.parallel.DistributedDataParallel(torch.compile(Net().to(where)), bucket_cap_mb=1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    x = torch.linspace(-1, 1, 32 * 64, device=where).sin().reshape(32, 64) * (RANK + 1)
    losses = []
    for _ in range(2):
        out, total = model(x)
        loss = out.square().mean() + total / 1000
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    parameters = [p.detach().cpu() for p in model.parameters()]
    dist.barrier()  # neither goes before the other has come
    dist.destroy_process_group()
    return losses, parameters
