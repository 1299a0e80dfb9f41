"""Train a variational autoencoder: random numbers inside the compiled function."""

import torch
import torch.nn.functional as F
from torch import nn
from torch.distributions import Normal, kl_divergence


class VAE(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder, self.decoder = nn.Linear(8, 8), nn.Linear(4, 8)

    def forward(self, x):
        mean, log_std = self.encoder(x).chunk(2, -1)
        z = mean + torch.randn_like(mean) * log_std.exp()
        kl = kl_divergence(Normal(mean, log_std.exp()), Normal(torch.zeros_like(mean), torch.ones_like(mean)))
        return F.mse_loss(self.decoder(z), x) + 1e-2 * kl.mean()


torch.manual_seed(0)
vae = VAE()
compiled = torch.compile(vae)
losses = []
for _ in range(2):
    loss = compiled(torch.randn(4, 8))
    loss.backward()
    losses.append(loss.item())
result = losses, vae.encoder.weight.grad
