"""Evaluate an ensemble at once: stacked states, functional calls under vmap; gradients per sample."""

import copy

import torch
from torch import nn
from torch.func import functional_call, grad, stack_module_state, vmap

torch.manual_seed(0)
models = [nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2)) for _ in range(3)]
params, buffers = stack_module_state(models)
base = copy.deepcopy(models[0]).to("meta")


def fmodel(params, buffers, x):
    return functional_call(base, (params, buffers), (x,))


@torch.compile
def ensemble(x):
    return vmap(fmodel, in_dims=(0, 0, None))(params, buffers, x)


single = models[0]
weights = {name: p.detach() for name, p in single.named_parameters()}


def loss_of(weights, x, y):
    out = functional_call(single, weights, (x[None],))
    return nn.functional.cross_entropy(out, y[None])


@torch.compile
def gradients(weights, xs, ys):
    return vmap(grad(loss_of), in_dims=(None, 0, 0))(weights, xs, ys)


xs = torch.randn(5, 4)
result = ensemble(xs), gradients(weights, xs, torch.arange(5) % 2)
