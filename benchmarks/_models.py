"""Build what the benchmarks start, the same in every process: a callable and its arguments."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from _cases import CASES, Size

SEED = 20260
Built = tuple[Callable[..., Any], dict[str, torch.Tensor]]


def build(name: str, size: Size, device: str) -> Built:
    """Build a case from the seed and move it to `device`."""
    torch.manual_seed(SEED)
    target, inputs = _BUILDERS[name](size)
    if isinstance(target, nn.Module):
        target = target.to(device).train(CASES[name].train)
    return target, {key: value.to(device) for key, value in inputs.items()}


def sin_cos(x: torch.Tensor) -> torch.Tensor:
    return x.sin() + x.cos()


def _sin_cos(size: Size) -> Built:
    return sin_cos, {"x": torch.randn(1000)}


def _mlp(size: Size) -> Built:
    layers = [layer for _ in range(4) for layer in (nn.Linear(256, 256), nn.ReLU())]
    return nn.Sequential(*layers), {"input": torch.randn(32, 256)}


class TransformerBlock(nn.Module):
    """Causal attention and a feed-forward net, each after a norm (Radford et al. 2019)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        qkv = self.qkv(self.norm1(x)).unflatten(-1, (3, self.heads, -1))
        q, k, v = qkv.transpose(1, 3).unbind(2)  # each (batch, heads, length, width / heads)
        attended = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(attended.transpose(1, 2).flatten(-2))
        y: torch.Tensor = self.down(F.gelu(self.up(self.norm2(x))))
        return x + y


def _transformer(size: Size) -> Built:
    width = 64 if size is Size.SMALL else 512
    blocks = [TransformerBlock(width, heads=4) for _ in range(12)]
    return nn.Sequential(*blocks), {"input": torch.randn(2, 32, width)}


class ResidualBlock(nn.Module):
    """Two 3 × 3 convolutions and a shortcut around them (He et al. 2015)."""

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


def _resnet(size: Size) -> Built:
    if size is Size.FULL:
        try:
            from torchvision.models import resnet50
        except ImportError:
            pass  # ResNet-18's sizes, below
        else:
            return resnet50(), {"x": torch.randn(16, 3, 224, 224)}
    stem, stages, pixels = (16, 3, 32) if size is Size.SMALL else (64, 4, 112)
    conv = nn.Conv2d(3, stem, 3, padding=1, bias=False)
    layers: list[nn.Module] = [conv, nn.BatchNorm2d(stem), nn.ReLU()]
    width = stem
    for stage in range(stages):
        stride, outputs = 1 + (stage > 0), stem << stage
        layers += [ResidualBlock(width, outputs, stride), ResidualBlock(outputs, outputs, 1)]
        width = outputs
    layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 10)]
    return nn.Sequential(*layers), {"input": torch.randn(8, 3, pixels, pixels)}


def _gpt2(size: Size) -> Built:
    from transformers import GPT2Config, GPT2LMHeadModel

    options: dict[str, Any] = {"use_cache": False}
    if size is Size.SMALL:
        options |= {"n_layer": 2, "n_embd": 128, "n_head": 4, "n_positions": 64}
        options |= {"vocab_size": 1024, "bos_token_id": 0, "eos_token_id": 0}
    config = GPT2Config(**options)
    model = GPT2LMHeadModel(config)
    model.loss_type = "ForCausalLM"  # else the first forward logs a warning, which breaks the graph
    ids = torch.randint(config.vocab_size, (2, 64 if size is Size.SMALL else 128))
    return model, {"input_ids": ids, "labels": ids}


def _gpt2_inference(size: Size) -> Built:
    model, inputs = _gpt2(size)
    return model, {"input_ids": inputs["input_ids"]}


def _bert(size: Size) -> Built:
    from transformers import BertConfig, BertForMaskedLM

    options: dict[str, Any] = {}
    if size is Size.SMALL:
        options |= {"num_hidden_layers": 2, "hidden_size": 128, "num_attention_heads": 4}
        options |= {"intermediate_size": 512, "vocab_size": 1024, "max_position_embeddings": 64}
    config = BertConfig(**options)
    ids = torch.randint(config.vocab_size, (2, 64 if size is Size.SMALL else 128))
    return BertForMaskedLM(config), {"input_ids": ids, "labels": ids}


def _bert_inference(size: Size) -> Built:
    model, inputs = _bert(size)
    return model, {"input_ids": inputs["input_ids"]}


_BUILDERS: dict[str, Callable[[Size], Built]] = {
    "sin_cos": _sin_cos,
    "mlp": _mlp,
    "transformer": _transformer,
    "gpt2": _gpt2,
    "gpt2_inference": _gpt2_inference,
    "bert": _bert,
    "bert_inference": _bert_inference,
    "resnet": _resnet,
}
