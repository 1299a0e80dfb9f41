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


def of_parts(x):
    return torch.ops.kiln.parts(x) - 1


def of_whole(x):
    return torch.ops.kiln.whole(x) - 1


def parts():
    return torch.compile(of_parts)(torch.arange(3.0))


def called():
    return torch.compile(of_whole)(torch.arange(3.0))
