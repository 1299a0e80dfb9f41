"""Cases for several GPUs of one kind; the variable GPU says which is current."""

import os

import torch
from lean_cuda import Convolutions, Mlp, digest, initialised
from torch import nn

HERE = int(os.environ["GPU"])
torch.cuda.set_device(HERE)


def ramp(*shape, device="cuda"):
    count = torch.Size(shape).numel()
    return torch.linspace(-1, 1, count, device=device).sin().reshape(shape)


def places(*tensors):
    """Which GPUs results are on, counted from the one that is current: 0 for all."""
    return sorted({(x.device.index - HERE) % 2 for x in tensors})


def trained(kind, *inputs):
    net = initialised(kind).cuda()
    torch.manual_seed(7)
    out = torch.compile(net)(*inputs)
    out.square().mean().backward()
    results = out, *(p.grad for p in net.parameters())
    return digest(*results), places(*results)


def mlp_dropout():
    return trained(Mlp, ramp(32, 64))


def convolutions():
    return trained(Convolutions, ramp(2, 3, 16, 16))


class Positions(nn.Module):
    """Makes tensors where its input is, and where the program is."""

    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(16, 8)

    def forward(self, x):
        y = x + self.table(torch.arange(x.shape[0], device=x.device))
        return y + torch.ones(8, device="cuda")


def positions():
    return trained(Positions, ramp(16, 8))


def mm(a, b):
    return (a @ b).relu()


def replayed():
    compiled, seen = torch.compile(mm, mode="reduce-overhead"), []
    for _ in range(4):
        with torch.no_grad():
            seen.append(compiled(ramp(32, 32), ramp(32, 32)).clone())
    return digest(*seen), places(*seen)


def shifted(x):
    return x + torch.arange(4, device="cuda:0").to(x.device)


def named():
    out = torch.compile(shifted)(ramp(4))
    return digest(out), places(out)


def waves(x):
    return x.sin() + x.cos()


def both():
    """Run one function on two GPUs, each of them current in its turn."""
    compiled, seen = torch.compile(waves), []
    for index in (HERE, 1 - HERE, HERE):
        with torch.cuda.device(index):
            seen.append(compiled(ramp(1000, device=f"cuda:{index}")))
    return digest(*seen), [x.device.index != HERE for x in seen]
