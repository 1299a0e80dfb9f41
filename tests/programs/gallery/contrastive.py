"""Align two encoders with a contrastive loss; one compiled method per tower."""

import torch
import torch.nn.functional as F
from torch import nn


class Tower(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(dim, 16), nn.GELU(), nn.Linear(16, 8))

    @torch.compile
    def encode(self, x):
        return F.normalize(self.net(x), dim=-1)


class CLIP(nn.Module):
    def __init__(self):
        super().__init__()
        self.image, self.text = Tower(12), Tower(6)
        self.logit_scale = nn.Parameter(torch.tensor(2.6593))

    def forward(self, image, text):
        logits = self.logit_scale.exp() * self.image.encode(image) @ self.text.encode(text).T
        labels = torch.arange(logits.shape[0])
        return (F.cross_entropy(logits, labels) + F.cross_entropy(logits.T, labels)) / 2


torch.manual_seed(0)
model = CLIP()
loss = model(torch.randn(4, 12), torch.randn(4, 6))
loss.backward()
result = loss, [p.grad for p in model.parameters()]
