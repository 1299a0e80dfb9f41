"""The models and the function that the benchmarks start, all built from a seed."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

SEED = 20260


class Size(enum.StrEnum):
    """How large a case is built: `small` starts in seconds on two cores."""

    SMALL = "small"
    FULL = "full"


@dataclasses.dataclass(frozen=True, slots=True)
class Case:
    """One thing to start: `build` gives what is compiled and its keyword arguments, on the CPU."""

    build: Callable[[Size], tuple[Callable[..., Any], dict[str, torch.Tensor]]]
    train: bool
    title: str


def _function(size: Size) -> tuple[Callable[..., Any], dict[str, torch.Tensor]]:
    import torch

    def sin_cos(x: torch.Tensor) -> torch.Tensor:
        return x.sin() + x.cos()

    return sin_cos, {"x": torch.randn(1000)}


def _mlp(size: Size) -> tuple[Callable[..., Any], dict[str, torch.Tensor]]:
    import torch
    from torch import nn

    layers: list[nn.Module] = []
    for _ in range(4):
        layers += [nn.Linear(256, 256), nn.ReLU()]
    return nn.Sequential(*layers), {"input": torch.randn(32, 256)}


def _transformer(size: Size) -> tuple[Callable[..., Any], dict[str, torch.Tensor]]:
    import torch
    from torch import nn
    from torch.nn import functional as F

    class Block(nn.Module):
        def __init__(self, width: int, heads: int) -> None:
            super().__init__()
            self.heads = heads
            self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
            self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
            self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            q, k, v = self.qkv(self.norm1(x)).unflatten(-1, (3, self.heads, -1)).unbind(-3)
            q, k, v = q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)
            attended = F.scaled_dot_product_attention(q, k, v, is_causal=True)
            x = x + self.out(attended.transpose(1, 2).flatten(-2))
            y: torch.Tensor = self.down(F.gelu(self.up(self.norm2(x))))
            return x + y

    width = 64 if size is Size.SMALL else 512
    blocks = [Block(width, heads=4) for _ in range(12)]
    return nn.Sequential(*blocks), {"input": torch.randn(2, 32, width)}


def _resnet(size: Size) -> tuple[Callable[..., Any], dict[str, torch.Tensor]]:
    import torch
    from torch import nn
    from torch.nn import functional as F

    class Block(nn.Module):
        def __init__(self, inputs: int, outputs: int, stride: int) -> None:
            super().__init__()
            self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
            self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
            self.norm1, self.norm2 = nn.BatchNorm2d(outputs), nn.BatchNorm2d(outputs)
            self.shortcut: nn.Module = nn.Identity()
            if (inputs, stride) != (outputs, 1):
                conv = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
                self.shortcut = nn.Sequential(conv, nn.BatchNorm2d(outputs))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = F.relu(self.norm1(self.conv1(x)))
            return F.relu(self.norm2(self.conv2(y)) + self.shortcut(x))

    if size is Size.FULL:
        try:
            from torchvision.models import resnet50
        except ImportError:
            pass
        else:
            return resnet50(), {"x": torch.randn(16, 3, 224, 224)}
    stem, pixels = (16, 32) if size is Size.SMALL else (64, 112)
    layers: list[nn.Module] = [
        nn.Conv2d(3, stem, 3, padding=1, bias=False),
        nn.BatchNorm2d(stem),
        nn.ReLU(),
    ]
    width = stem
    for stage in range(3 if size is Size.SMALL else 4):
        outputs = stem << stage
        layers += [Block(width, outputs, stride=1 + (stage > 0)), Block(outputs, outputs, 1)]
        width = outputs
    layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 10)]
    return nn.Sequential(*layers), {"input": torch.randn(8, 3, pixels, pixels)}


def _tokens(vocabulary: int, batch: int, length: int) -> torch.Tensor:
    import torch

    return torch.randint(vocabulary, (batch, length))


def _gpt2(size: Size) -> tuple[Callable[..., Any], dict[str, torch.Tensor]]:
    from transformers import GPT2Config, GPT2LMHeadModel

    options: dict[str, Any] = {"use_cache": False}
    if size is Size.SMALL:
        options |= {"n_layer": 2, "n_embd": 128, "n_head": 4, "n_positions": 64}
        options |= {"vocab_size": 1024, "bos_token_id": 0, "eos_token_id": 0}
    config = GPT2Config(**options)
    ids = _tokens(config.vocab_size, 2, 64 if size is Size.SMALL else 128)
    model = GPT2LMHeadModel(config)
    model.loss_type = "ForCausalLM"  # else the first forward logs a warning, which breaks the graph
    return model, {"input_ids": ids, "labels": ids}


def _gpt2_inference(size: Size) -> tuple[Callable[..., Any], dict[str, torch.Tensor]]:
    model, inputs = _gpt2(size)
    return model, {"input_ids": inputs["input_ids"]}


def _bert(size: Size) -> tuple[Callable[..., Any], dict[str, torch.Tensor]]:
    from transformers import BertConfig, BertForMaskedLM

    options: dict[str, Any] = {}
    if size is Size.SMALL:
        options |= {"num_hidden_layers": 2, "hidden_size": 128, "num_attention_heads": 4}
        options |= {"intermediate_size": 512, "vocab_size": 1024, "max_position_embeddings": 64}
    config = BertConfig(**options)
    ids = _tokens(config.vocab_size, 2, 64 if size is Size.SMALL else 128)
    return BertForMaskedLM(config), {"input_ids": ids, "labels": ids}


CASES: dict[str, Case] = {
    "sin_cos": Case(_function, False, "`sin + cos`, function"),
    "mlp": Case(_mlp, True, "4-layer MLP, training"),
    "transformer": Case(_transformer, True, "12-layer transformer, training"),
    "gpt2": Case(_gpt2, True, "GPT-2, training"),
    "gpt2_inference": Case(_gpt2_inference, False, "GPT-2, inference"),
    "bert": Case(_bert, True, "BERT, training"),
    "resnet": Case(_resnet, True, "ResNet with BatchNorm, training"),
}
DEMO = ("gpt2", "gpt2_inference", "bert", "resnet")


def build(name: str, size: Size, device: str) -> tuple[Callable[..., Any], dict[str, torch.Tensor]]:
    """Build a case from the seed and move it to `device`."""
    import torch
    from torch import nn

    torch.manual_seed(SEED)
    case = CASES[name]
    target, inputs = case.build(size)
    if isinstance(target, nn.Module):
        target = target.to(device).train(case.train)
    return target, {key: value.to(device) for key, value in inputs.items()}
