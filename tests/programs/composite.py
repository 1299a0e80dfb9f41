"""Operators of the program: one that torch calls, and one whose parts it compiles; BODY says what they do."""

import os

import torch

FACTOR = int(os.environ["BODY"])
library = torch.library.Library("kiln", "DEF")
library.define("parts(Tensor x) -> Tensor")
library.impl("parts", lambda x: x * FACTOR + 1, "CompositeImplicitAutograd")


@torch.library.custom_op("kiln::whole", mutates_args=())
def whole(x: torch.Tensor) -> torch.Tensor:
    return x * FACTOR + 1


@whole.register_fake
def _(x):
    return torch.empty_like(x)


@torch.library.custom_op("kiln::twice", mutates_args=())
def twice(x: torch.Tensor) -> torch.Tensor:
    return x * 2


twice.register_fake(torch.empty_like)
twice.register_autograd(lambda context, g: g * FACTOR)


def helped(x):
    return x * FACTOR


@torch._dynamo.allow_in_graph
def allowed(x):
    return helped(x)


def of_parts(x):
    return torch.ops.kiln.parts(x) - 1


def of_whole(x):
    return torch.ops.kiln.whole(x) - 1


def parts():
    return torch.compile(of_parts)(torch.arange(3.0))


def called():
    return torch.compile(of_whole)(torch.arange(3.0))


def of_twice(x):
    return torch.ops.kiln.twice(x) + 1


def of_allowed(x):
    return allowed(x) + 1


def gradient():
    x = torch.arange(3.0, requires_grad=True)
    torch.compile(of_twice)(x).sum().backward()
    return x.grad


def traced():
    return torch.compile(of_allowed)(torch.arange(3.0))


def whole_then_parts():
    """An operator that is called without gradients, and whose Python gradient is traced with them."""
    compiled = torch.compile(of_twice)
    with torch.no_grad():
        compiled(torch.arange(3.0))
    x = torch.arange(3.0, requires_grad=True)
    compiled(x).sum().backward()
    return x.grad
