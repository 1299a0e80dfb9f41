"""Attend with flex attention: a score function, and a causal block mask."""

import torch
from torch.nn.attention.flex_attention import create_block_mask, flex_attention


def alibi(score, batch, head, query, key):
    return score + (key - query) * 0.1 * (head + 1)


def causal(batch, head, query, key):
    return query >= key


attend = torch.compile(flex_attention)
torch.manual_seed(0)
with torch.no_grad():
    q, k, v = (torch.randn(1, 2, 128, 16) for _ in range(3))
    mask = create_block_mask(causal, B=None, H=None, Q_LEN=128, KV_LEN=128, device="cpu")
    result = attend(q, k, v, score_mod=alibi), attend(q, k, v, block_mask=mask)
