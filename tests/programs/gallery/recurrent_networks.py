"""Classify sequences with an LSTM and with a GRU; a cell in a loop of one's own."""

import torch
from torch import nn


class Classifier(nn.Module):
    def __init__(self, kind):
        super().__init__()
        self.embedding = nn.Embedding(20, 8)
        self.rnn = kind(8, 8, num_layers=2, batch_first=True, bidirectional=True)
        self.head = nn.Linear(16, 3)

    def forward(self, tokens):
        states, _ = self.rnn(self.embedding(tokens))
        return self.head(states[:, -1])


class Unrolled(nn.Module):
    def __init__(self):
        super().__init__()
        self.cell, self.head = nn.GRUCell(8, 8), nn.Linear(8, 3)

    def forward(self, x):
        state = x.new_zeros(x.shape[0], 8)
        for step in x.unbind(1):
            state = self.cell(step, state)
        return self.head(state)


result = []
for kind in (nn.LSTM, nn.GRU):
    torch.manual_seed(0)
    model = Classifier(kind)
    logits = torch.compile(model)(torch.randint(20, (3, 6)))
    logits.sum().backward()
    result.append([logits, [p.grad for p in model.parameters()]])
torch.manual_seed(0)
unrolled = Unrolled()
logits = torch.compile(unrolled)(torch.randn(2, 4, 8))
logits.sum().backward()
result.append([logits, unrolled.cell.weight_hh.grad])
