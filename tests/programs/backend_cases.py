"""Functions whose backends are restored without the compiler; each shows one thing that a backend does."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn


@dataclasses.dataclass
class Case:
    """Hold a function, a maker of its arguments, and how it is compiled and called."""

    function: Callable[..., Any]
    inputs: Callable[[], list[Any]]
    trains: bool = False
    mode: str = ""
    dynamic: bool | None = None
    options: dict[str, Any] | None = None
    steps: tuple[str, ...] = ()


CASES: dict[str, Case] = {}
ALL_STEPS = (
    "backward of some",
    "backward with strange gradients",
    "backward, retained",
    "backward, twice",
    "double backward",
    "backward after changes",
)


def ramp(*shape: int, grad: bool = False, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    size = torch.Size(shape).numel()
    return torch.linspace(-1, 1, size, dtype=dtype).reshape(shape).requires_grad_(grad)


def leafless(*shape: int) -> torch.Tensor:
    return ramp(*shape, grad=True) * 1


def case(inputs: Callable[[], list[Any]], **options: Any) -> Callable[[Callable[..., Any]], Any]:
    def add(function: Callable[..., Any]) -> Callable[..., Any]:
        CASES[function.__name__] = Case(function, inputs, **options)
        return function

    return add


@case(lambda: [ramp(5, 8), ramp(16, 8, grad=True), ramp(16, grad=True), ramp(4, 16, grad=True)],
      trains=True, steps=ALL_STEPS)  # fmt: skip
def layers(x, first, bias, second):
    hidden = torch.sigmoid(F.linear(x, first, bias))
    return F.linear(hidden, second), hidden.argmax(1), None, 3


@case(lambda: [ramp(5, 8), ramp(4, 8, grad=True)], mode="no_grad")
def without_gradients(x, weight):
    return F.linear(x, weight).relu(), x.sum()


@case(lambda: [ramp(5, 8)], mode="inference")
def inference(x):
    return x.sin().t(), x * 2


@case(lambda: [ramp(4, 6), ramp(6)])
def mutated_inputs(x, total):
    total.add_(x.sum(0))
    x[1].mul_(2)
    return x * total


@case(lambda: [leafless(4, 6), ramp(4, 6, grad=True)], trains=True,
      steps=("backward, retained", "backward after changes", "double backward"))  # fmt: skip
def mutated_with_gradients(x, y):
    x.add_(y)
    return x.sin(), y.cos()


@case(lambda: [ramp(4, grad=True), ramp(4, grad=True)], trains=True)
def mutated_beside_autograd(x, y):
    x.detach().mul_(2)
    with torch.no_grad():
        y.add_(1)
    return (x * y).sin()


@case(lambda: [ramp(3, 4), ramp(2, 3)])
def mutated_metadata(x, y):
    x.t_()
    y.unsqueeze_(0)
    return x * 2, y.mul_(3)


@case(lambda: [leafless(3, 4)], trains=True)
def mutated_metadata_with_gradients(x):
    x.t_()
    return x.sin()


@case(lambda: [ramp(4), ramp(6)], mode="no_grad")
def another_storage(x, y):
    z = y * 2
    x.set_(z)
    return x + 1


@case(lambda: [ramp(6, 4), torch.ones(4, requires_grad=True), torch.zeros(4, requires_grad=True),
               torch.zeros(4), torch.ones(4), torch.tensor(0)], trains=True)  # fmt: skip
def batch_norm(x, weight, bias, mean, variance, count):
    count.add_(1)
    return F.batch_norm(x, mean, variance, weight, bias, True, 0.1)


@case(lambda: [ramp(4, 6, grad=True), ramp(4, 6), ramp(8, dtype=torch.float64)], trains=True,
      steps=("backward, retained", "double backward"))  # fmt: skip
def views_of_inputs(x, y, z):
    return (
        x.view(2, 12)[1],
        y,
        x.t(),
        y[1:3, ::2],
        z.unbind(0)[3],
        torch.view_as_complex(y.view(4, 3, 2)),
        x.sin(),
    )


@case(lambda: [ramp(4, 6, grad=True)], trains=True, steps=("backward of some", "backward, retained"))
def views_of_results(x):
    y = x.sin()
    z = x.cos()
    return y.view(-1), y, z.t(), z[0], x.exp().reshape(-1).detach()[1:], (x * 2).expand(2, 4, 6)


@case(lambda: [ramp(4, 6)])
def views_of_results_without_gradients(x):
    y = x.sin()
    return y.view(-1), y.t(), y


@case(lambda: [ramp(4, 6, grad=True), 3], trains=True, dynamic=True, steps=ALL_STEPS)
def dynamic_shapes(x, n):
    y = (x * n).sin() * x.shape[0]
    return y.repeat(2, 1), x.shape[0] * n, None, y.sum(), x.view(-1)


@case(lambda: [ramp(7), torch.ones(3, 4)], dynamic=True)
def dynamic_shapes_without_gradients(x, y):
    return x.cumsum(0) + y.shape[1], y.new_zeros(y.shape[0] * 2, y.shape[1]), y.numel()


@case(lambda: [torch.tensor([[1, 2], [4, 0]]), ramp(5, 3, grad=True)], trains=True)
def embedding(index, table):
    return F.embedding(index, table).sum(1), F.embedding_bag(index, table, mode="mean")


@case(lambda: [ramp(5, 4, grad=True), torch.tensor([0, 3, 3]), ramp(3, 4)], trains=True)
def scattered(x, index, values):
    y = x.index_put((index,), values, accumulate=True)
    return y.scatter_reduce(0, index[:, None].expand(3, 4), values, "amax"), x.index_add(0, index, values)


@case(lambda: [ramp(8, 8, grad=True)], trains=True)
def random_numbers(x):
    return (
        F.dropout(x, 0.5),
        torch.rand_like(x),
        torch.randn(3),
        torch.randint(0, 9, (4,)),
        torch.bernoulli(x.abs()),
    )


@case(lambda: [ramp(8, 8)], options={"fallback_random": True})
def random_numbers_of_aten(x):
    return F.dropout(x, 0.5), torch.rand(3), torch.randperm(5), torch.multinomial(x.abs() + 1, 2)


@case(lambda: [ramp(2, 3, 8, 8, grad=True), ramp(4, 3, 3, 3, grad=True), ramp(4, grad=True)], trains=True)
def convolution(x, weight, bias):
    y = F.conv2d(x, weight, bias, padding=1)
    return F.max_pool2d(y.relu(), 2)


@case(lambda: [ramp(3, 4, dtype=torch.complex64), ramp(3, 4)])
def complex_numbers(x, y):
    z = torch.fft.fft(x * 2)
    return torch.view_as_real(z), z.conj(), x.real + y, torch.complex(y, y).abs(), torch.polar(y.abs(), y)


@case(lambda: [ramp(2, 2, 5, 4, grad=True), ramp(2, 2, 5, 4, grad=True)], trains=True)
def attention(query, value):
    return F.scaled_dot_product_attention(query, value * 2, value, is_causal=True)


@case(lambda: [ramp(4, 6)])
def fallbacks(x):
    values, order = x.sort(dim=1, descending=True)
    return (
        values,
        order,
        x.topk(2).indices,
        torch.linalg.qr(x)[1],
        x.cumprod(1),
        x.unique(),
        torch.histc(x, 4),
    )


@case(lambda: [ramp(4), ramp(4)])
def inputs_only(x, y):
    return y.view(-1), x.detach()


@case(lambda: [ramp(4)])
def constants(x):
    return x * torch.tensor([2.0, 3.0, 4.0, 5.0]), torch.tensor([1, 2, 3]), torch.arange(3)


@case(lambda: [ramp(4, grad=True), ramp(4, grad=True)], trains=True)
def gradient_mode_left_off(x, y):
    z = x * y
    torch.set_grad_enabled(False)
    return z, x * 2


@case(lambda: [ramp(4, 8), ramp(3, 8, grad=True)], trains=True, mode="autocast")
def autocast(x, weight):
    return F.linear(x, weight).sin(), x.sum()


@case(
    lambda: [ramp(6, 8, dtype=torch.bfloat16).requires_grad_(), torch.tensor([1, 0, 2, 3, 1, 7])], trains=True
)
def losses(x, target):
    y = F.layer_norm(x, (8,)).softmax(1)
    return F.cross_entropy(y.float(), target), F.gelu(y)


@case(lambda: [ramp(64, 64), ramp(64, 64)], options={"memory_planning": True})
def planned_memory(x, y):
    a = x.sin() @ y
    b = a.cos() @ y
    return (b + a).t().contiguous() @ x


@case(lambda: [ramp(3, 4), ramp(3, 5), *(p.detach().requires_grad_() for p in nn.GRUCell(4, 5).parameters())],
      trains=True)  # fmt: skip
def recurrent(x, state, w, u, b, c):
    return torch.gru_cell(x, state, w, u, b, c)


@case(lambda: [ramp(4, grad=True)], trains=True, steps=("backward of some", "double backward"))
def no_differentiable_tensor_saved(x):
    return x + 1, x * 2


@case(lambda: [ramp(4, 4, grad=True), ramp(4, 4, grad=True)[1:3].detach().requires_grad_()], trains=True)
def products(x, y):
    return (
        torch.bmm(x[None], x[None].mT),
        torch.baddbmm(x[None], x[None], x[None]),
        torch.einsum("ij,kj->ik", x, y),
    )


@case(lambda: [ramp(6)], trains=False)
def checked(x):
    torch._check(x.shape[0] > 2)
    return x.sqrt().nan_to_num(0.25)


@case(lambda: [ramp(4, grad=True)], trains=True)
def two_of_one(x):
    y = x.sin()
    return y, y


@case(lambda: [ramp(5)], trains=False)
def data_dependent(x):
    n = (x > 0).sum().item()
    torch._check(n >= 0)
    return torch.zeros(n + 1) + x[0], n


@case(lambda: [ramp(6)])
def nonzero(x):
    y = x[x > 0]
    return y * 2, (x > 0).nonzero()


@case(lambda: [ramp(4, grad=True), ramp(4)], trains=False)
def nothing_computed(x, y):
    return x.detach(), None, y


@case(lambda: [ramp(4, 6, grad=True)], trains=True, dynamic=True, steps=("backward with strange gradients",))
def symbolic_views(x):
    y = x.exp()
    return x[1:].view(-1), y.t(), y.unsqueeze(0), x.new_ones(x.shape[1]).expand(x.shape)


def _overlapping():
    base = ramp(8)
    return [base[:6], base[2:]]


@case(_overlapping)
def same_twice(x, y):
    x.add_(1)
    return x + y
