"""Keep control flow in the graph: cond and while_loop."""

import torch
from torch._higher_order_ops import while_loop


def collatz(n, steps):
    def more(n, steps):
        return (n != 1).all()

    def step(n, steps):
        return torch.where(n % 2 == 0, n // 2, 3 * n + 1), steps + 1

    return while_loop(more, step, (n, steps))


def sign_dependent(x):
    return torch.cond(x.sum() > 0, lambda x: x.sin(), lambda x: x.cos(), (x,))


with torch.no_grad():
    result = (
        torch.compile(collatz)(torch.tensor([6]), torch.tensor(0)),
        torch.compile(sign_dependent)(torch.ones(3)),
        torch.compile(sign_dependent)(-torch.ones(3)),
    )
