"""A function on the CPU that Firebrick takes for one on a GPU, whose number the variable GPU gives."""

import os

import torch

from firebrick.capture import lean_part
from firebrick.storage.manifest import Placement

torch.cuda.current_device = lambda: int(os.environ["GPU"])
lean_part.pinning_of = lambda compilation, program, backends: Placement(0, os.environ.get("PINNED", ""))


class Result:
    device = None


def waves(x, result):
    result.device = x.device
    return x.sin() + x.cos()


def names():
    return sorted(name.partition("_gpu_")[2] for name in globals() if name.startswith("__compiled_fn_"))


def function():
    result = Result()
    return torch.compile(waves)(torch.arange(5.0), result), str(result.device), names()
