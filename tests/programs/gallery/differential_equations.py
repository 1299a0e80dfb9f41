"""Solve differential equations with solvers chosen by name, right-hand sides in closures."""

import functools
import itertools

import torch


def euler(f, t, y, h):
    return y + h * f(t, y)


def rk4(f, t, y, h):
    k1 = f(t, y)
    k2 = f(t + h / 2, y + h / 2 * k1)
    k3 = f(t + h / 2, y + h / 2 * k2)
    return y + h / 6 * (k1 + 2 * k2 + 2 * k3 + f(t + h, y + h * k3))


SOLVERS = {"euler": euler, "rk4": rk4}


def lotka_volterra(a, b, c, d):
    def f(t, y):
        prey, predator = y.unbind(-1)
        return torch.stack([a * prey - b * prey * predator, d * prey * predator - c * predator], -1)

    return f


def odeint(f, y0, times, method):
    step, path = SOLVERS[method], [y0]
    for t0, t1 in itertools.pairwise(times):
        path.append(step(f, t0, path[-1], t1 - t0))
    return torch.stack(path)


f = lotka_volterra(1.0, 0.5, 0.7, 0.3)
solve = {
    name: torch.compile(functools.partial(odeint, f, times=(0.0, 0.1, 0.2), method=name)) for name in SOLVERS
}
y0 = torch.tensor([[1.0, 2.0]], requires_grad=True)
paths = {name: solver(y0) for name, solver in solve.items()}
paths["rk4"].sum().backward()
result = paths, y0.grad
