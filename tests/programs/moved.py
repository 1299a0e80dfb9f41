"""A function on the CPU that Firebrick takes for one on a GPU, whose number the variable GPU gives."""

import os

import torch

from firebrick.capture import lean_part
from firebrick.storage.manifest import Placement


def current_device():
    return int(os.environ["GPU"])


current_device.firebrick_transparent = current_device.__code__  # Dynamo's interfaces of devices hold it
torch.cuda.current_device = current_device
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
