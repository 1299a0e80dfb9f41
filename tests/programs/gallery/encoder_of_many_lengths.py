"""Embed sentences of several lengths: dynamic shapes, padding masks, mean pooling."""

import torch
from torch import nn


class SentenceEncoder(nn.Module):
    def __init__(self, vocab=50, dim=16):
        super().__init__()
        self.embedding = nn.Embedding(vocab, dim, padding_idx=0)
        layer = nn.TransformerEncoderLayer(dim, 2, 32, batch_first=True, dropout=0.0)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)

    def forward(self, tokens):
        mask = tokens == 0
        hidden = self.encoder(self.embedding(tokens), src_key_padding_mask=mask)
        weights = (~mask).unsqueeze(-1).to(hidden.dtype)
        pooled = (hidden * weights).sum(1) / weights.sum(1).clamp(min=1)
        return nn.functional.normalize(pooled, dim=-1)


torch.manual_seed(0)
model = SentenceEncoder()
encode = torch.compile(model, dynamic=True)
embedded = []
for batch, length in ((2, 5), (3, 9), (4, 12)):
    tokens = torch.randint(1, 50, (batch, length))
    tokens[0, length // 2 :] = 0
    embedded.append(encode(tokens))
similarity = embedded[0] @ embedded[1].T
similarity.sum().backward()
result = embedded, model.embedding.weight.grad
