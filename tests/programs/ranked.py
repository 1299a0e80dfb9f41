"""Functions that ask for their place among processes, which torch folds into their graphs; RANK gives it."""

import os

import torch
import torch.distributed as dist
from torch.testing._internal.distributed.fake_pg import FakeStore


def join():
    if "RANK" in os.environ and not dist.is_initialized():
        dist.init_process_group(
            "fake",
            store=FakeStore(),
            rank=int(os.environ["RANK"]),
            world_size=int(os.environ.get("SIZE", "4")),
        )


def by_rank(x):
    return x * (dist.get_rank() + 2)


def by_size(x):
    return x * (dist.get_world_size() + 2)


def by_alias(x, rank=dist.get_rank):
    return x * (rank() + 2)


def by_group(x):
    return x * (dist.distributed_c10d._get_group_size_by_name("0") + len(dist.get_process_group_ranks(None)))


def if_joined(x):
    return x * 2 if dist.is_initialized() else x * 3


def of(function):
    join()
    return torch.compile(function)(torch.arange(3.0))


def rank():
    return of(by_rank)


def alias():
    return of(by_alias)


def size():
    return of(by_size)


def group():
    return of(by_group)


def joined():
    return of(if_joined)


MESH = []


def by_mesh(x):
    return x * (MESH[0].get_local_rank() + 2)


def mesh():
    join()
    MESH.append(dist.device_mesh.init_device_mesh("cpu", (4,)))
    return torch.compile(by_mesh)(torch.arange(3.0))
