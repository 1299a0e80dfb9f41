"""A small model and a function, as a user would write them; the scale is the first argument."""

import sys

import torch
from torch import nn

SCALE = float(sys.argv[1]) if len(sys.argv) > 1 else 2.0


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.queries = nn.Linear(8, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.softmax(self.queries(x), -1) * SCALE


def double(x: torch.Tensor) -> torch.Tensor:
    return x * 2


torch.manual_seed(0)
with torch.no_grad():
    seen = torch.compile(nn.Sequential(nn.Linear(8, 8), nn.ReLU()))(torch.ones(2, 8))
    seen = torch.compile(Attention())(seen)
    print(round(torch.compile(double)(seen).sum().item(), 3))
sys.exit(int(sys.argv[2]) if len(sys.argv) > 2 else 0)
