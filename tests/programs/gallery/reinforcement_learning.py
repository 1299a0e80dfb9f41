"""Simulate many carts at once with vmap, and improve a policy by the gradient of what it earns."""

import torch
from torch import nn


def dynamics(state, force, dt: float = 0.05):
    position, velocity = state[0], state[1]
    velocity = velocity + dt * (force - torch.sin(position))
    return torch.stack([position + dt * velocity, velocity])


def reward(state):
    return -(state[0] ** 2) - 0.1 * state[1] ** 2


class Policy(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(2, 16), nn.Tanh(), nn.Linear(16, 1))

    def forward(self, state):
        return self.net(state).squeeze(-1)


@torch.compile
def rollout(policy, states):
    total = torch.zeros(states.shape[0])
    for _ in range(4):
        forces = policy(states)
        states = torch.vmap(dynamics)(states, forces)
        total = total + torch.vmap(reward)(states)
    return total.mean()


torch.manual_seed(0)
policy = Policy()
optimizer = torch.optim.SGD(policy.parameters(), lr=0.1)
returns = []
for _ in range(2):
    optimizer.zero_grad()
    loss = -rollout(policy, torch.randn(16, 2))
    loss.backward()
    optimizer.step()
    returns.append(loss.item())
result = returns, list(policy.parameters())
