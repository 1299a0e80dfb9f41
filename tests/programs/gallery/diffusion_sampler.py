"""Sample images from a small U-Net with a noise schedule."""

import math

import torch
from torch import nn


def timestep_embedding(t, dim, max_period=10000):
    half = dim // 2
    freqs = torch.exp(-math.log(max_period) * torch.arange(half, dtype=torch.float32) / half)
    args = t[:, None].float() * freqs[None]
    return torch.cat([torch.cos(args), torch.sin(args)], dim=-1)


class ResBlock(nn.Module):
    def __init__(self, cin, cout, emb):
        super().__init__()
        self.norm, self.conv = nn.GroupNorm(2, cin), nn.Conv2d(cin, cout, 3, padding=1)
        self.emb = nn.Linear(emb, cout)
        self.skip = nn.Conv2d(cin, cout, 1) if cin != cout else nn.Identity()

    def forward(self, x, emb):
        h = self.conv(nn.functional.silu(self.norm(x)))
        return self.skip(x) + h + self.emb(emb)[:, :, None, None]


class UNet(nn.Module):
    def __init__(self, ch=4):
        super().__init__()
        self.ch, self.stem = ch, nn.Conv2d(1, ch, 3, padding=1)
        self.down, self.up = ResBlock(ch, 2 * ch, ch), ResBlock(3 * ch, ch, ch)
        self.out = nn.Conv2d(ch, 1, 3, padding=1)

    def forward(self, x, t):
        emb = timestep_embedding(t, self.ch)
        h = self.stem(x)
        d = self.down(nn.functional.avg_pool2d(h, 2), emb)
        u = nn.functional.interpolate(d, scale_factor=2, mode="nearest")
        return self.out(self.up(torch.cat([u, h], dim=1), emb))


class Scheduler:
    def __init__(self, steps):
        self.betas = torch.linspace(1e-4, 0.02, steps)
        self.alphas = 1 - self.betas
        self.bars = torch.cumprod(self.alphas, 0)

    def step(self, noise, t, x):
        mean = (x - self.betas[t] / (1 - self.bars[t]).sqrt() * noise) / self.alphas[t].sqrt()
        return mean if t == 0 else mean + self.betas[t].sqrt() * torch.randn_like(x)


torch.manual_seed(0)
unet, scheduler = UNet().eval(), Scheduler(4)
denoise = torch.compile(unet)
x = torch.randn(2, 1, 8, 8)
with torch.no_grad():
    for t in reversed(range(4)):
        x = scheduler.step(denoise(x, torch.full((2,), t)), t, x)
result = x
