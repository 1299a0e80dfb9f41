"""Generate tokens one by one with a static key-value cache."""

import torch
import torch.nn.functional as F
from torch import nn


class KVCache(nn.Module):
    def __init__(self, batch, heads, length, dim):
        super().__init__()
        for name in ("k_cache", "v_cache"):
            self.register_buffer(name, torch.zeros(batch, heads, length, dim), persistent=False)

    def update(self, position, k, v):
        self.k_cache[:, :, position] = k
        self.v_cache[:, :, position] = v
        return self.k_cache, self.v_cache


class Decoder(nn.Module):
    def __init__(self, vocab=16, dim=8, heads=2, length=8):
        super().__init__()
        self.heads, self.embedding = heads, nn.Embedding(vocab, dim)
        self.qkv, self.out, self.head = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim), nn.Linear(dim, vocab)
        self.cache = KVCache(1, heads, length, dim // heads)
        self.register_buffer("mask", torch.tril(torch.ones(length, length, dtype=torch.bool)))

    def forward(self, tokens, position):
        x = self.embedding(tokens)
        batch, length, dim = x.shape
        q, k, v = (
            part.view(batch, length, self.heads, -1).transpose(1, 2) for part in self.qkv(x).chunk(3, -1)
        )
        k, v = self.cache.update(position, k, v)
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=self.mask[None, None, position])
        return self.head(x + self.out(y.transpose(1, 2).reshape(batch, length, dim)))


torch.manual_seed(0)
model = Decoder().eval()
decode = torch.compile(model, fullgraph=True)
tokens = [1, 5, 3]
with torch.inference_mode():
    logits = model(torch.tensor([tokens]), torch.arange(3))
    for position in range(3, 7):
        tokens.append(int(logits[0, -1].argmax()))
        logits = decode(torch.tensor([tokens[-1:]]), torch.tensor([position]))
result = tokens, logits
