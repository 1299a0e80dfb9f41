"""Shapes that change, and numbers that come from shapes."""

import torch
from made import mixed, ramp

from support.differential import call, case, scenario

trains = {"train": True}
dynamic = {"options": {"dynamic": True}}


@case(
    lambda: [call(ramp(n, 3)) for n in (4, 5, 6, 9)], misses=lambda: [call(ramp(1, 3)), call(ramp(4, 3, 2))]
)
def automatic(x):
    return x.sin().sum(0) * x.shape[0]


@case(lambda: [call(ramp(n, 3, grad=True)) for n in (4, 5, 7)], **trains)
def automatic_in_training(x):
    return (x.tanh() * x.shape[0]).sum(1)


@case(lambda: [call(ramp(4, 3)), call(ramp(6, 5))], **dynamic)
def dynamic_from_the_start(x):
    return x.exp().mean(1), x.view(-1)[: x.shape[0]]


@case(lambda: [call(ramp(4, 3)), call(ramp(6, 3))], options={"dynamic": False})
def never_dynamic(x):
    return x.cos().sum(1)


@case(lambda: [call(mixed(n, 4), mixed(4, n)) for n in (2, 3, 5)])
def two_equal_sizes(x, y):
    return x @ y, x.t() + y


@case(lambda: [call(ramp(4, 6)), call(ramp(5, 6)), call(ramp(5, 8))], **dynamic)
def sizes_computed(x):
    n, m = x.shape
    return x.reshape(n * m // 2, 2), torch.zeros(n + 1, m), n * 2 + m, x.new_full((n,), m / 2)


@case(lambda: [call(ramp(4, 3)), call(ramp(12, 3)), call(ramp(5, 3))], **dynamic)
def branch_on_a_size(x):
    if x.shape[0] > 8:
        return x.sin()
    return x.cos() if x.shape[0] % 2 == 0 else x.tan()


@case(lambda: [call(ramp(4), n) for n in (1, 2, 3)], **dynamic)
def dynamic_number(x, n):
    return x * n, x.repeat(n), n + 1


@case(lambda: [call(ramp(8), 2, 6), call(ramp(8), 1, 5), call(ramp(8), 3, 7)])
def slices_by_numbers(x, start, stop):
    return x[start:stop] * 2, x.narrow(0, start, 2)


@case(lambda: [call(ramp(0, 3)), call(ramp(1, 3)), call(ramp(2, 3)), call(ramp(3, 3))])
def sizes_zero_and_one(x):
    return x * 2, x.sum()


@case(lambda: [call(ramp(2, 3)), call(ramp(2, 3, 4)), call(ramp(6))])
def number_of_dimensions(x):
    return x.sin().flatten(), x.dim()


@case(lambda: [call(ramp(4, 4)), call(ramp(4, 4).t()), call(ramp(8, 4)[::2])])
def other_strides(x):
    return x.exp() * 2


@case(
    lambda: [call(ramp(n, 3, grad=True), ramp(n, grad=True)) for n in (3, 4, 6)],
    options={"dynamic": True},
    **trains,
)
def dynamic_in_training(x, y):
    return (x * y[:, None]).cumsum(0), x.shape[0]


def _marked(x):
    return x.sin().sum(1) * x.shape[0]


@scenario
def marked_dynamic():
    f, results = torch.compile(_marked), []
    for n in (4, 6):
        x = ramp(n, 3)
        torch._dynamo.mark_dynamic(x, 0)
        results.append(f(x))
    return results


@case(lambda: [call(ramp(4, dtype=t)) for t in (torch.float32, torch.float64, torch.bfloat16)])
def types_in_turn(x):
    return x * 2 + x.sqrt().nan_to_num()


@case(lambda: [call(ramp(4)), call(ramp(4, grad=True)), call(torch.nn.Parameter(ramp(4)))])
def needs_of_gradients_in_turn(x):
    return x.sin() * 2


@case(lambda: [call([ramp(n) for n in ns]) for ns in ((2, 3), (4, 5), (2, 3, 4))])
def lists_of_shapes(xs):
    return torch.cat(xs) * len(xs)


@case(lambda: [call(ramp(2, n, 4), mixed(4, 4)) for n in (3, 5, 6)], **dynamic)
def dynamic_product(x, w):
    return torch.relu(x @ w).sum(1)


@case(lambda: [call(mixed(1, 2, n, n)) for n in (6, 7, 9)], **dynamic)
def dynamic_convolution(x):
    return torch.nn.functional.conv2d(x, torch.ones(1, 2, 3, 3)), torch.nn.functional.avg_pool2d(x, 2)
