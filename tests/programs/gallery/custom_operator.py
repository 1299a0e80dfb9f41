"""Register operators of one's own: with a fake, with a gradient, and one that writes its argument."""

import torch
from torch import nn


@torch.library.custom_op("gallery::soft_clip", mutates_args=())
def soft_clip(x: torch.Tensor, limit: float) -> torch.Tensor:
    return limit * torch.tanh(x / limit)


@soft_clip.register_fake
def _(x, limit):
    return torch.empty_like(x)


def setup_context(ctx, inputs, output):
    x, limit = inputs
    ctx.save_for_backward(x)
    ctx.limit = limit


def backward(ctx, grad):
    (x,) = ctx.saved_tensors
    return grad * (1 - torch.tanh(x / ctx.limit) ** 2), None


soft_clip.register_autograd(backward, setup_context=setup_context)


@torch.library.custom_op("gallery::accumulate", mutates_args={"total"})
def accumulate(total: torch.Tensor, x: torch.Tensor) -> None:
    total.add_(x.sum(0))


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x):
        return soft_clip(self.layer(x), 1.5) * 2


torch.manual_seed(0)
net = Net()
trained = torch.compile(net)(torch.randn(3, 4))
trained.sum().backward()


@torch.compile
def counted(x, total):
    accumulate(total, x * 2)
    return total + 1


total = torch.zeros(4)
with torch.no_grad():
    inferred = torch.compile(net)(torch.randn(3, 4))
result = trained, net.layer.weight.grad, counted(torch.ones(2, 4), total), total, inferred
