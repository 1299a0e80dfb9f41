"""Route tokens to the two best of several experts."""

import torch
import torch.nn.functional as F
from torch import nn


class Experts(nn.Module):
    def __init__(self, dim=8, experts=4, k=2):
        super().__init__()
        self.k, self.gate = k, nn.Linear(dim, experts, bias=False)
        self.w1 = nn.Parameter(torch.randn(experts, dim, 2 * dim) / dim)
        self.w2 = nn.Parameter(torch.randn(experts, 2 * dim, dim) / dim)
        self.register_buffer("load", torch.zeros(experts))

    def forward(self, x):
        probs = self.gate(x).softmax(-1)
        weights, chosen = probs.topk(self.k, dim=-1)
        weights = weights / weights.sum(-1, keepdim=True)
        if self.training:
            self.load += torch.bincount(chosen.flatten(), minlength=self.load.shape[0])
        hidden = F.silu(torch.einsum("td,tkdh->tkh", x, self.w1[chosen]))
        out = torch.einsum("tkh,tkhd->tkd", hidden, self.w2[chosen])
        return (out * weights[..., None]).sum(1), probs.mean(0).square().sum()


torch.set_num_threads(1)  # several add up the gradient of an indexing in another order each time
torch.manual_seed(0)
model = Experts()
out, balance = torch.compile(model)(torch.randn(6, 8))
(out.sum() + balance).backward()
result = out, balance, model.load, [p.grad for p in model.parameters()]
