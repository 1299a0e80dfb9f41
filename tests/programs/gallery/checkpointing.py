"""Save memory with activation checkpointing: inside a compiled function, and of compiled blocks."""

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint


class Block(nn.Module):
    def __init__(self, dim=8):
        super().__init__()
        self.up, self.down, self.norm = nn.Linear(dim, 2 * dim), nn.Linear(2 * dim, dim), nn.LayerNorm(dim)

    def forward(self, x):
        return x + self.down(torch.relu(self.up(self.norm(x))))


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.blocks = nn.ModuleList(Block() for _ in range(2))

    def forward(self, x):
        for block in self.blocks:
            x = checkpoint(block, x, use_reentrant=False)
        return x


torch.manual_seed(0)
net = Net()
x = torch.randn(2, 8)
inside = torch.compile(net)(x)
inside.sum().backward()
grads = [p.grad.clone() for p in net.parameters()]
net.zero_grad()
for block in net.blocks:
    block.compile()
outside = net(x)
outside.sum().backward()
result = inside, outside, grads, [p.grad for p in net.parameters()]
