"""A function where torch sees an accelerator: torch 2.13 notes the current stream in its bytecode."""

import torch


class Stream:
    device = torch.device("cuda", 0)


STREAM = Stream()
torch.accelerator.is_available = lambda: True
torch.accelerator.current_stream = lambda device=None: STREAM


def add_waves(x):
    return x.sin() + x.cos()


def function():
    return torch.compile(add_waves)(torch.ones(3))
