"""Plain functions: what they compute, and the gradients."""

import math

import torch
from made import flags, mixed, ramp, whole

from support.differential import call, case

HALF, DOUBLE = torch.bfloat16, torch.float64
trains = {"train": True}


@case(lambda: [call(ramp(8))])
def pointwise(x):
    return x.sin() + x.cos() * 2


@case(lambda: [call(ramp(8, grad=True))], **trains)
def pointwise_gradient(x):
    return x.sin() * x.exp()


@case(
    lambda: [call(ramp(4, 3))],
    misses=lambda: [call(ramp(5, 3)), call(ramp(7, 3)), call(ramp(4, 3, dtype=DOUBLE))],
)
def other_shapes_and_types(x):
    return (x.tanh() * 3).sum(0)


@case(lambda: [call(ramp(4, 6, grad=True))], misses=lambda: [call(ramp(5, 6, grad=True))], **trains)
def other_shape_in_training(x):
    return x.sigmoid().sum(1)


@case(lambda: [call(mixed(3, 4, grad=True), mixed(4, 2, grad=True))], **trains)
def matrix_product(x, y):
    return x @ y


@case(lambda: [call(mixed(2, 3, 4, grad=True), mixed(2, 4, 5, grad=True), mixed(2, 3, 5))], **trains)
def batched_product(x, y, bias):
    return torch.baddbmm(bias, x, y)


@case(lambda: [call(mixed(5, grad=True), mixed(3, 4, grad=True), mixed(4, grad=True))], **trains)
def outer_and_inner(a, m, v):
    return torch.outer(a, m.mv(v)), v.dot(v)


@case(lambda: [call(mixed(4, 5, grad=True))], **trains)
def reductions(x):
    return x.sum(), x.mean(0), x.amax(1), x.var(0), x.prod(1), x.norm()


@case(lambda: [call(mixed(4, 5))])
def reductions_to_whole_numbers(x):
    return x.argmax(1), x.argmin(0), (x > 0).sum(), x.gt(0).any(0), x.lt(2).all()


@case(lambda: [call(ramp(6, dtype=HALF))])
def half_precision(x):
    return x.exp() + x, x.float().log1p()


@case(lambda: [call(ramp(4, dtype=torch.float16), ramp(4), whole(4), flags(4))])
def promotion(a, b, c, d):
    return a + b, a + c, c + d, d * b, c / 2, c // 2, a.double() * b


@case(lambda: [call(mixed(4, dtype=torch.complex64), mixed(4))])
def complex_numbers(z, x):
    return z * z.conj(), z.real + x, z.abs(), z.angle()


@case(lambda: [call(mixed(4, dtype=torch.complex64, grad=True))], **trains)
def complex_gradient(z):
    return (z * z).real.sum()


@case(lambda: [call(whole(6), whole(6, below=5) + 1)])
def whole_numbers(a, b):
    return a // b, a % b, a & b, a | b, a ^ b, a << 1, torch.bitwise_not(a)


@case(
    lambda: [call(torch.tensor([250, 3, 7], dtype=torch.uint8), torch.tensor([9, 2, 1], dtype=torch.uint8))]
)
def bytes_wrap_around(a, b):
    return a + b, a - b, a * b


@case(lambda: [call(torch.tensor([math.nan, math.inf, -math.inf, 0.0, -0.0, 1.0]))])
def special_values(x):
    return x + 1, x * 0, x.isnan(), x.nan_to_num(), x.maximum(torch.zeros(6)), 1 / x


@case(lambda: [call(ramp(4)), call(ramp(4) + 1)])
def scalars_from_outside(x):
    return x * 3, x + 0.1, x**2, 2**x, x - 1e-8, torch.full((2,), math.pi)


@case(lambda: [call(torch.tensor(3.0, requires_grad=True))], **trains)
def no_dimensions(x):
    return x * x + 1


@case(lambda: [call(torch.ones(0, 3, requires_grad=True))], **trains)
def no_elements(x):
    return x * 2, x.sum(0)


@case(lambda: [call(flags(6), ramp(6, grad=True), mixed(6, grad=True))], **trains)
def selection(mask, a, b):
    return torch.where(mask, a, b), a.masked_fill(mask, 0.5), torch.clamp(b, -0.5, 0.5)


@case(lambda: [call(ramp(2, 3, 4, grad=True).transpose(0, 2))], train=False)
def strides_follow_the_input(x):
    return x.sin(), x + 1


@case(lambda: [call(ramp(2, 3, 4, 5).to(memory_format=torch.channels_last))])
def channels_last(x):
    return x.cos(), x.mean(1), x.relu().contiguous()


@case(lambda: [call(ramp(6, 6)[::2, 1::2])])
def strides_with_gaps(x):
    return x.exp(), x.t() * 2


@case(lambda: [call(ramp(3, 1).expand(3, 4))])
def expanded_input(x):
    return x + 1, x.sum(1)


@case(lambda: [call(ramp(4), 3, 0.5, True, None, "sum")])
def plain_arguments(x, n, f, flag, nothing, name):
    y = x * n + f if flag and nothing is None else x
    return getattr(y, name)()


@case(lambda: [call(ramp(4), n) for n in (2, 3, 4, 2)], misses=lambda: [call(ramp(4), 2.5)])
def a_number_that_changes(x, n):
    return x * n


@case(lambda: [call(ramp(4), f) for f in (0.5, 0.25, 0.125)])
def a_fraction_that_changes(x, f):
    return x + f


@case(lambda: [call(ramp(4), torch.float64), call(ramp(4), torch.bfloat16)])
def a_type_as_argument(x, dtype):
    return x.to(dtype) + 1


@case(lambda: [call(ramp(8, grad=True))], **trains)
def detached_parts(x):
    return x.detach() * x, x.detach().sin()


@case(lambda: [call(ramp(4, grad=True), ramp(4))], **trains)
def one_of_two_needs_gradients(x, y):
    return x * y, y * 2


@case(lambda: [call(ramp(4, grad=True))], **trains)
def a_gradient_that_is_not_used(x):
    return x * 1, torch.ones(3) * 2


@case(
    lambda: [call(ramp(3, 4, grad=True)), call(ramp(3, 4))],
    misses=lambda: [call(ramp(3, 4, dtype=DOUBLE, grad=True))],
    **trains,
)
def with_and_without_gradients(x):
    return torch.softmax(x, 1)
