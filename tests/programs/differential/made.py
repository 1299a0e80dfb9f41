"""Inputs that are the same in every process."""

import torch

call_seed = 7


def ramp(*shape, dtype=torch.float32, grad=False, low=-1.0, high=1.0):
    """Return values from low to high."""
    size = torch.Size(shape).numel()
    return torch.linspace(low, high, size, dtype=dtype).reshape(shape).requires_grad_(grad)


def mixed(*shape, dtype=torch.float32, grad=False):
    """Return values that are not in order, between -1 and 1."""
    size = torch.Size(shape).numel()
    values = torch.arange(size, dtype=torch.float64).mul(2.399963).sin()
    return values.to(dtype).reshape(shape).requires_grad_(grad)


def whole(*shape, below=10, dtype=torch.int64):
    """Return whole numbers from 0 to below - 1, not in order."""
    size = torch.Size(shape).numel()
    return (torch.arange(size) * 7 % below).reshape(shape).to(dtype)


def flags(*shape):
    """Return a mask in which two of three elements are set."""
    return whole(*shape, below=3) > 0
