"""Random numbers, and what is left of the generators' states."""

import random

import torch
import torch.nn.functional as F
from made import ramp

from support.differential import Program, call, case, program, scenario

trains = {"train": True}


@case(lambda: [call(ramp(16)), call(ramp(16))])
def uniform(x):
    return torch.rand(16) + x, torch.rand_like(x)


@case(lambda: [call(ramp(16))])
def normal(x):
    return torch.randn(16) * x, torch.randn_like(x)


@case(lambda: [call(ramp(16))])
def whole_numbers(x):
    return torch.randint(0, 10, (16,)) + x


@case(lambda: [call(ramp(32, grad=True))], **trains)
def dropout(x):
    return F.dropout(x, 0.4) * 2


@case(lambda: [call(ramp(32, grad=True), True), call(ramp(32, grad=True), False)], **trains)
def dropout_or_not(x, training):
    return F.dropout(x, 0.5, training)


@case(lambda: [call(ramp(32, grad=True))], options={"options": {"fallback_random": True}}, **trains)
def dropout_as_eager(x):
    return F.dropout(x.sin(), 0.4)


@case(lambda: [call(ramp(2, 4, 6, grad=True))], **trains)
def other_dropouts(x):
    return F.dropout1d(x, 0.5), F.alpha_dropout(x, 0.3, training=True)


@case(lambda: [call(ramp(8).sigmoid())])
def fallback_operators(p):
    # summed: in the call in which torch compiles, results of the last two count versions otherwise than later
    chosen = torch.bernoulli(p), torch.multinomial(p, 3)
    return *chosen, torch.normal(p, 1.0).sum(), (torch.randperm(6) * torch.arange(6)).sum()


@case(lambda: [call(torch.zeros(8))])
def written_with_random_numbers(x):
    x.uniform_(0, 1)
    x.add_(torch.zeros(8).normal_())
    return x.exp()


@case(lambda: [call(ramp(4))])
def numbers_of_python(x):
    return x * random.random() + random.randint(1, 5)


@case(lambda: [call(ramp(4))])
def seeded_inside(x):
    torch.manual_seed(9)
    return torch.rand(4) + x


@case(lambda: [call(ramp(4))])
def break_between_random_numbers(x):
    a = torch.rand(4)
    print(end="")
    return a + torch.rand(4) * x


@program
def own_generator():
    generator = torch.Generator().manual_seed(3)

    def noisy(x):
        return x + torch.rand(4, generator=generator)

    return Program(target=noisy, calls=[call(ramp(4))] * 2, state=lambda: generator.initial_seed())


@case(lambda: [call(ramp(4, 8))])
def random_rows(x):
    return x[torch.randint(4, (3,))], F.gumbel_softmax(x, hard=False)


def _noise(x):
    return F.dropout(x, 0.5) + torch.rand(8)


@scenario
def calls_in_a_row():
    f = torch.compile(_noise)
    first = f(ramp(8)), f(ramp(8))
    torch.manual_seed(1)
    return first, f(ramp(8)), torch.rand(3)
