"""Pass messages over the edges of a graph with scatters, and pool its nodes."""

import torch
from torch import nn


class MessagePassing(nn.Module):
    def __init__(self, dim, aggregate="add"):
        super().__init__()
        self.message, self.update, self.aggregate = nn.Linear(2 * dim, dim), nn.GRUCell(dim, dim), aggregate

    def forward(self, x, edges):
        source, target = edges
        messages = torch.relu(self.message(torch.cat([x[source], x[target]], -1)))
        if self.aggregate == "add":
            gathered = torch.zeros_like(x).index_add(0, target, messages)
        else:
            index = target[:, None].expand_as(messages)
            gathered = torch.zeros_like(x).scatter_reduce(0, index, messages, "amax", include_self=False)
        return self.update(gathered, x)


class GNN(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList([MessagePassing(8), MessagePassing(8, "max")])

    def forward(self, x, edges, batch, graphs: int):
        for layer in self.layers:
            x = layer(x, edges)
        return torch.zeros(graphs, x.shape[1]).index_add(0, batch, x)


torch.manual_seed(0)
model = GNN()
x, edges = torch.randn(6, 8), torch.tensor([[0, 1, 2, 3, 4, 5], [1, 2, 0, 4, 5, 3]])
pooled = torch.compile(model)(x, edges, torch.tensor([0, 0, 0, 1, 1, 1]), 2)
pooled.sum().backward()
result = pooled, [p.grad for p in model.parameters()]
