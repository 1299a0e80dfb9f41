"""Flex attention, in a module of its own: torch imports `sympy` with it."""

from torch.nn.attention.flex_attention import flex_attention


def flexible(q, k, v):
    return flex_attention(q, k, v)
