"""Integrate Hamilton's equations with torch.func, and take Jacobians forward and backward."""

import torch
from torch.func import grad, hessian, jacfwd, jvp, vjp, vmap


def energy(q, p):
    return (p**2).sum() / 2 + (1 - torch.cos(q)).sum()


@torch.compile
def leapfrog(q, p, dt):
    p = p - dt / 2 * grad(energy, argnums=0)(q, p)
    q = q + dt * grad(energy, argnums=1)(q, p)
    return q, p - dt / 2 * grad(energy, argnums=0)(q, p)


@torch.compile
def directional(q, p, direction):
    return jvp(lambda q: energy(q, p), (q,), (direction,))


@torch.compile
def pulled_back(q, p):
    value, back = vjp(energy, q, p)
    return value, back(torch.ones_like(value))


@torch.compile
def per_sample(qs, p):
    return vmap(grad(energy), in_dims=(0, None))(qs, p)


@torch.compile
def curvature(q, p):
    return jacfwd(torch.sin)(q), hessian(energy)(q, p)


torch.manual_seed(0)
q, p = torch.randn(4), torch.randn(4)
trajectory = []
for _ in range(3):
    q, p = leapfrog(q, p, 0.1)
    trajectory.append(q)
result = (
    trajectory,
    directional(q, p, torch.ones(4)),
    pulled_back(q, p),
    per_sample(torch.randn(3, 4), p),
    curvature(q, p),
)
