"""Cases of a function whose backward graph does not run where it is recorded."""

import os

import torch

import firebrick

BACKWARD = os.environ.get("BACKWARD") == "1"


def multiplied(x, weight):
    return (x @ weight).sin() * (x @ weight).exp()


def infer():
    """Call with gradients enabled, and keep the graph where it is asked for gradients."""
    weight = (torch.arange(12.0).reshape(3, 4) / 9).requires_grad_()
    out = torch.compile(multiplied)(torch.ones(2, 3), weight)
    if not BACKWARD:
        return out
    gradients = []
    for keep in (True, False):
        out.sum().backward(retain_graph=keep)
        gradients.append(weight.grad.clone())
    return out, gradients


def flushed():
    """As `infer`, and store it before the end."""
    out = infer()
    firebrick.flush()
    return out


def fails_later():
    """A backward graph that cannot be compiled, because the compiler is spoilt meanwhile."""
    out = infer()
    from torch._inductor import graph

    graph.GraphLowering.run = None
    return out
