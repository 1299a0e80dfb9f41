"""Extract features with hooks, and freeze and hook parts of a model."""

import torch
from torch import nn

features = {}


def keep(name):
    def hook(module, args, output):
        features[name] = output.detach()

    return hook


torch.manual_seed(0)
model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
model[0].requires_grad_(False)
model[1].register_forward_hook(keep("hidden"))
model[2].register_forward_pre_hook(lambda module, args: (args[0] * 2,))
model[2].weight.register_hook(lambda grad: grad.clamp(-0.5, 0.5))
y = torch.compile(model)(torch.randn(3, 4))
y.sum().backward()
result = y, features, model[2].weight.grad
