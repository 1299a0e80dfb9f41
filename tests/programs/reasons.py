"""Functions that depend on what a variable of the environment decides, so that a second start misses them."""

import os
from typing import Any

import torch
from torch import nn

import firebrick

OTHER = int(os.environ.get("OTHER", "0"))
SCALE = 2 + OTHER
TABLE = {"a": 1, "b": 2 + OTHER}


class Conf:
    factor = 2 + OTHER


def double(x: torch.Tensor) -> torch.Tensor:
    return x * 2


def half(x: torch.Tensor) -> torch.Tensor:
    return x / 2


CHOSEN = half if OTHER else double


def f_global(x: torch.Tensor) -> torch.Tensor:
    return x * SCALE


def f_item(x: torch.Tensor) -> torch.Tensor:
    return x * TABLE["b"]


def f_class(x: torch.Tensor) -> torch.Tensor:
    return x * Conf.factor


def f_function(x: torch.Tensor) -> torch.Tensor:
    return CHOSEN(x)


def f_stride(x: torch.Tensor) -> torch.Tensor:
    return x + 1


def f_dtype(x: torch.Tensor) -> torch.Tensor:
    return x + 2


def f_argument(x: torch.Tensor, n: int) -> torch.Tensor:
    return x + n


def f_threads(x: torch.Tensor) -> torch.Tensor:
    return x + 3


def f_grad_mode(x: torch.Tensor) -> torch.Tensor:
    return x + 4


def f_mode(x: torch.Tensor) -> torch.Tensor:
    return x + 5


def f_options(x: torch.Tensor) -> torch.Tensor:
    return x + 6


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.n = 2 + OTHER

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.n


exec(f"def f_code(x):\n    return x + {OTHER}.5")


def _compiled(function: Any, *arguments: Any, **options: Any) -> Any:
    result = torch.compile(function, **options)(*arguments)
    explanation = firebrick.explain(function)
    return [result, [explanation.code, str(explanation), *map(list, explanation.changes)]]


def by_global() -> Any:
    return _compiled(f_global, torch.ones(4))


def by_item() -> Any:
    return _compiled(f_item, torch.ones(4))


def by_class() -> Any:
    return _compiled(f_class, torch.ones(4))


def by_function() -> Any:
    return _compiled(f_function, torch.ones(4))


def by_stride() -> Any:
    return _compiled(f_stride, torch.ones(64, 64).t() if OTHER else torch.ones(64, 64))


def by_dtype() -> Any:
    return _compiled(f_dtype, torch.ones(4, dtype=torch.float64 if OTHER else torch.float32))


def by_argument() -> Any:
    return _compiled(f_argument, torch.ones(4), 3 + OTHER)


def by_threads() -> Any:
    torch.set_num_threads(1 if OTHER else 2)
    try:
        return _compiled(f_threads, torch.ones(4))
    finally:
        torch.set_num_threads(2)


def by_grad_mode() -> Any:
    with torch.set_grad_enabled(not OTHER):
        return _compiled(f_grad_mode, torch.ones(4))


def by_mode() -> Any:
    x = torch.ones(4)
    if not OTHER:
        return _compiled(f_mode, x)
    with torch.device("cpu"):
        return _compiled(f_mode, x)


def by_options() -> Any:
    return _compiled(f_options, torch.ones(4), options={"max_fusion_size": 8 if OTHER else 16})


def by_attribute() -> Any:
    return _compiled(Block(), torch.ones(4))


def by_code() -> Any:
    return _compiled(globals()["f_code"], torch.ones(4))


def wrapped() -> Any:
    return _compiled(nn.Sequential(nn.ReLU(), nn.Tanh()), torch.ones(4))


def other_backend() -> Any:
    torch.compile(f_dtype, backend="eager")(torch.ones(2))
    return [[event.code, event.reason] for event in firebrick.stats().events.all()]


def refused() -> Any:
    made = torch.compile(lambda x: x + _nameless(x), fullgraph=True)
    try:
        made(torch.ones(4))
    except Exception as error:
        name = type(error).__name__
    return [name, [[event.outcome, event.code] for event in firebrick.stats().events.all()]]


def _nameless(x: torch.Tensor) -> float:
    return float(x.sum().item().hex()[:1])


def nothing() -> Any:
    """Tell what the last run of the store has to say."""
    return str(firebrick.explain())
