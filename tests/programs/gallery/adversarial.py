"""Train a generator against a discriminator, each with its own optimizer."""

import itertools

import torch
import torch.nn.functional as F
from torch import nn


def mlp(*sizes):
    layers = []
    for before, after in itertools.pairwise(sizes):
        layers += [nn.Linear(before, after), nn.LeakyReLU(0.2)]
    return nn.Sequential(*layers[:-1])


torch.manual_seed(0)
generator, discriminator = mlp(4, 16, 2), mlp(2, 16, 1)
to_generate, to_judge = torch.compile(generator), torch.compile(discriminator)
g_opt = torch.optim.Adam(generator.parameters(), lr=2e-3, betas=(0.5, 0.999))
d_opt = torch.optim.Adam(discriminator.parameters(), lr=2e-3, betas=(0.5, 0.999))
history = []
for _ in range(2):
    real, fake = torch.randn(8, 2) + 2, to_generate(torch.randn(8, 4))
    ones, zeros = torch.ones(8, 1), torch.zeros(8, 1)
    d_loss = F.binary_cross_entropy_with_logits(to_judge(real), ones)
    d_loss = d_loss + F.binary_cross_entropy_with_logits(to_judge(fake.detach()), zeros)
    d_opt.zero_grad()
    d_loss.backward()
    d_opt.step()
    g_loss = F.binary_cross_entropy_with_logits(to_judge(fake), ones)
    g_opt.zero_grad()
    g_loss.backward()
    g_opt.step()
    history.append([d_loss.item(), g_loss.item()])
result = history, list(generator.parameters())
