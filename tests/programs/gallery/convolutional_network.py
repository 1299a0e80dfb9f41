"""Train and evaluate a residual network with batch norm, in channels last."""

import torch
import torch.nn.functional as F
from torch import nn


class BasicBlock(nn.Module):
    expansion = 1

    def __init__(self, planes):
        super().__init__()
        self.conv1, self.conv2 = (nn.Conv2d(planes, planes, 3, padding=1, bias=False) for _ in range(2))
        self.bn1, self.bn2 = nn.BatchNorm2d(planes), nn.BatchNorm2d(planes)

    def forward(self, x):
        out = F.relu(self.bn1(self.conv1(x)), inplace=True)
        return F.relu(self.bn2(self.conv2(out)) + x)


torch.manual_seed(0)
net = nn.Sequential(
    nn.Conv2d(3, 4, 3, padding=1), BasicBlock(4), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5)
).to(memory_format=torch.channels_last)
compiled = torch.compile(net)
optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-4)
x = torch.randn(2, 3, 8, 8).to(memory_format=torch.channels_last)
loss = F.cross_entropy(compiled(x), torch.tensor([0, 3]))
loss.backward()
optimizer.step()
compiled.eval()
with torch.no_grad():
    logits = compiled(x)
result = loss, logits, net[1].bn1.running_mean
