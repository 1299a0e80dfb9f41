"""The program of `firebrick demo`: a small transformer trained for one step, on the CPU."""

import torch
from torch import nn


class Block(nn.Module):
    """One layer: attention, then a perceptron."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.attention = nn.Linear(width, 3 * width)
        self.perceptron = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the layer's output, of the shape of its input."""
        queries, keys, values = self.attention(self.norm(x)).chunk(3, -1)
        x = x + nn.functional.scaled_dot_product_attention(queries, keys, values, is_causal=True)
        out: torch.Tensor = x + self.perceptron(x)
        return out


def main() -> None:
    """Train one step, and print the loss and the norm of the gradients."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Embedding(64, 32), Block(32), Block(32), nn.Linear(32, 64))
    compiled = torch.compile(model)
    words = torch.arange(48).reshape(2, 24)
    loss = nn.functional.cross_entropy(compiled(words).flatten(0, 1), words.flatten())
    loss.backward()
    norm = sum(float(parameter.grad.norm()) for parameter in model.parameters() if parameter.grad is not None)
    print(f"loss {loss.item():.6f}, gradients {norm:.6f}")


if __name__ == "__main__":
    main()
