"""The names of what the benchmarks start. Without torch, so that the parent process stays small."""

from __future__ import annotations

import dataclasses
import enum


class Size(enum.StrEnum):
    """How large a case is built: `small` starts in seconds on two cores."""

    SMALL = "small"
    FULL = "full"


@dataclasses.dataclass(frozen=True, slots=True)
class Case:
    """One thing to start; `_models` builds it under the same name."""

    title: str
    train: bool = True


CASES = {
    "sin_cos": Case("`sin + cos`, function", train=False),
    "mlp": Case("4-layer MLP, training"),
    "transformer": Case("12-layer transformer, training"),
    "gpt2": Case("GPT-2, training"),
    "gpt2_inference": Case("GPT-2, inference", train=False),
    "bert": Case("BERT, training"),
    "bert_inference": Case("BERT, inference", train=False),
    "resnet": Case("ResNet with BatchNorm, training"),
}
DEMO = ("gpt2", "gpt2_inference", "bert", "resnet")
