"""Graph breaks (`print` makes most of them), branches, loops, generators, context managers and exceptions."""

import contextlib
import warnings

import torch
from made import mixed, ramp
from torch.utils.checkpoint import checkpoint

from support.differential import Call, Program, call, case, program, scenario

trains = {"train": True}


@case(lambda: [call(ramp(4, grad=True))], **trains)
def graph_break_by_name(x):
    y = x.sin()
    torch._dynamo.graph_break()
    return y * x


@case(lambda: [call(ramp(4, grad=True), [])], **trains)
def graph_breaks_with_state(x, log):
    y = x * 2
    print(end="")
    log.append("middle")
    z = y.sin() + x
    print(end="")
    return z * y, len(log)


@case(lambda: [call(ramp(4), 3)], misses=lambda: [call(ramp(4), 2)], graphs=False)
def graph_break_in_a_loop(x, n):
    for i in range(n):
        x = x * 2
        if i == 1:
            print(end="")
        x = x + 1
    return x


def _broken_helper(x):
    y = x.cos()
    print(end="")
    return y - 1


@case(lambda: [call(ramp(4))])
def graph_break_in_a_helper(x):
    return _broken_helper(x + 1) * 2


@case(lambda: [call(ramp(4) + 1), call(ramp(4) - 1)])
def branch_on_data(x):
    if x.sum() > 0:
        return x.sin() * 2
    return x.cos() - 1


@case(lambda: [call(ramp(4, grad=True))], **trains)
def number_taken_out(x):
    scale = x.detach().max().item()
    return x * scale


@case(
    lambda: [call(ramp(4), "a"), call(ramp(4), "b"), call(ramp(4), "c")], misses=lambda: [call(ramp(4), "d")]
)
def branch_on_text(x, mode):
    return {"a": torch.sin, "b": torch.cos}.get(mode, torch.tanh)(x)


@case(lambda: [call(ramp(4))])
def printing_breaks_the_graph(x):
    y = x * 2
    print("a", end="")
    return y + 1


@program
def disabled_inside():
    @torch.compiler.disable
    def outside(x):
        return x.numpy().sum() + x

    return Program(target=lambda x: outside(x * 2) + 1, calls=[call(ramp(4))])


@case(lambda: [call(ramp(4, grad=True))], **trains)
def loops(x):
    total = torch.zeros(4)
    for i, part in enumerate((x, x * 2, x.sin())):
        if i == 2:
            continue
        total = total + part
    while total.dim() < 3:
        total = total.unsqueeze(0)
    return total


def _parts(x, n):
    for i in range(n):
        yield x * i


@case(lambda: [call(ramp(4), 3)])
def generator_inside(x, n):
    return sum(_parts(x, n)), list(_parts(x, 2)), next(iter(_parts(x + 1, 2)))


@case(lambda: [call(ramp(4), (n for n in (1, 2)))], graphs=False)
def generator_as_argument(x, numbers):
    return [x * n for n in numbers]


@case(lambda: [call([ramp(2), ramp(2) + 1], [1, 2])])
def comprehensions(xs, ns):
    pairs = [x * n for x, n in zip(xs, ns, strict=True) if n > 0]
    return (
        pairs,
        {n: x + n for n, x in zip(ns, reversed(xs), strict=True)},
        [*map(torch.sin, xs)],
        any(n == 2 for n in ns),
    )


@case(lambda: [call(ramp(4, grad=True))], **trains)
def without_gradients_inside(x):
    with torch.no_grad():
        y = x * 2
    return x * y, y


@case(lambda: [call(ramp(4, grad=True))])
def grad_mode_left_changed(x):
    torch.set_grad_enabled(False)
    y = x * 2
    torch.set_grad_enabled(True)
    return y


@program
def grad_mode_stays_off():
    def switch(x):
        y = x * 2
        torch.set_grad_enabled(False)
        return y

    restore = contextlib.ExitStack

    def keeping():
        stack = restore()
        stack.callback(torch.set_grad_enabled, True)
        return stack

    return Program(target=switch, calls=[Call((ramp(4, grad=True),), inside=keeping)])


@case(
    lambda: [
        call(ramp(4, grad=True)),
        Call((ramp(4, grad=True),), inside=torch.no_grad, backward=0),
        Call((ramp(4),), inside=torch.inference_mode, backward=0),
    ],
    **trains,
)
def modes_around_the_call(x):
    return x.sin() * x


@torch.no_grad()
def _quiet(x):
    return x * 3


@case(lambda: [call(ramp(4, grad=True))], **trains)
def decorated_with_no_grad(x):
    return _quiet(x) * x


@program
def target_decorated_with_no_grad():
    return Program(target=_quiet, calls=[call(ramp(4, grad=True))])


@case(lambda: [call(mixed(3, 4), mixed(4, 2))])
def autocast_inside(x, y):
    with torch.autocast("cpu", torch.bfloat16):
        return x @ y


@case(
    lambda: [
        Call((mixed(3, 4, grad=True), mixed(4, 2)), inside=lambda: torch.autocast("cpu", torch.bfloat16)),
        call(mixed(3, 4, grad=True), mixed(4, 2)),
    ],
    **trains,
)
def autocast_around_the_call(x, y):
    return (x @ y).sin()


@contextlib.contextmanager
def _scaled(log):
    log.append("in")
    try:
        yield 3
    finally:
        log.append("out")


@case(lambda: [call(ramp(4), [])])
def own_context_manager(x, log):
    with _scaled(log) as factor:
        y = x * factor
    return y + 1


class Manager:
    def __init__(self):
        self.depth = 0

    def __enter__(self):
        self.depth += 1
        return self

    def __exit__(self, *exc):
        self.depth -= 1


@case(lambda: [call(ramp(4), Manager())], graphs=False)
def manager_as_argument(x, manager):
    with manager:
        return x * manager.depth + 1


@case(lambda: [call(ramp(4)), call(ramp(3))])
def exception_caught_inside(x):
    try:
        if x.shape[0] == 4:
            raise ValueError("four")
        return x.sin()
    except ValueError as error:
        return x.cos(), str(error)
    finally:
        x = x + 1


@case(lambda: [call(ramp(4))], raises="ValueError", graphs=False)
def exception_raised_inside(x):
    y = x * 2
    raise ValueError(f"shape {tuple(y.shape)}")


@case(lambda: [call(ramp(4))], raises="KeyError", state=lambda: SEEN)
def exception_after_a_graph_break(x):
    y = x * 2
    print(end="")
    SEEN.append(y)
    z = y + 1
    print(end="")
    return z, {}["absent"]


SEEN = []


@case(lambda: [call(ramp(4), ramp(3))], raises="_LinAlgError")
def exception_of_an_operator(x, y):
    print(end="")
    return torch.linalg.cholesky(-torch.eye(3)) + x.sum() + y.sum()


def _fails(x):
    print(end="")
    raise TypeError("mine")


@case(lambda: [call(ramp(4))], graphs=False)
def exception_crosses_frames(x):
    try:
        _fails(x * 2)
    except TypeError as error:
        return x + 1, str(error)


@case(lambda: [call(ramp(4)), call(ramp(4))])
def assertion(x):
    assert x.shape[0] == 4, "four"
    torch._assert(x.dim() == 1, "one")
    return x * 2


@case(lambda: [call(ramp(4))], graphs=False)
def warning_inside(x):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.warn("quiet", stacklevel=1)
    return x + 2


@case(lambda: [call(ramp(4) + 1), call(ramp(4) - 1)])
def conditional_operator(x):
    return torch.cond(x.sum() > 0, torch.sin, torch.cos, (x,))


@case(lambda: [call(ramp(3, 4))])
def mapped_by_vmap(x):
    return torch.func.vmap(lambda row: row.sin().sum())(x)


@case(lambda: [call(ramp(4))])
def gradient_inside(x):
    return torch.func.grad(lambda y: (y * y).sum())(x)


class Doubling(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, factor):
        ctx.save_for_backward(x)
        ctx.factor = factor
        return x * factor

    @staticmethod
    def backward(ctx, gradient):
        (x,) = ctx.saved_tensors
        return gradient * x * ctx.factor, None


@case(lambda: [call(ramp(4, grad=True))], **trains)
def own_autograd_function(x):
    return Doubling.apply(x, 2).sin()


@program
def checkpointed():
    layer = torch.nn.Linear(4, 4)

    def run(x):
        return checkpoint(lambda y: torch.relu(layer(y)).sin(), x, use_reentrant=False) * 2

    return Program(target=run, calls=[call(mixed(2, 4, grad=True))], train=True, state=lambda: layer)


@case(lambda: [Call((ramp(4, grad=True),), backward=2)])
def backward_twice(x):
    return (x.exp() * x).sum(), x.sin()


@case(lambda: [call(ramp(4, grad=True))])
def backward_inside(x):
    y = (x * x).sum()
    y.backward()
    return y.detach()


@case(lambda: [call(ramp(4, grad=True))])
def gradient_of_gradient_breaks(x):
    (gradient,) = torch.autograd.grad((x**3).sum(), x)
    return gradient * 2


@case(lambda: [call(ramp(4, grad=True))], **trains)
def hook_on_a_tensor(x):
    y = x * 2
    y.register_hook(lambda gradient: gradient * 3)
    return y.sin()


@scenario
def many_recompiles():
    def multiplied(x, name):
        return x * len(name)

    f = torch.compile(multiplied)
    return [f(ramp(4), "n" * n) for n in range(1, 12)]


@scenario
def reset_between():
    def wave(x):
        return x.sin() * 6

    first = torch.compile(wave)(ramp(4))
    torch._dynamo.reset()
    return first, torch.compile(wave)(ramp(4))


@scenario
def stance_of_eager():
    f = torch.compile(lambda x: x.sin() * 5)
    with torch.compiler.set_stance("force_eager"):
        first = f(ramp(4))
    return first, f(ramp(4))


@case(lambda: [call(ramp(4))])
def asks_whether_it_compiles(x):
    return x * (2 if torch.compiler.is_compiling() else 3)


@case(lambda: [call(ramp(4, grad=True), True), call(ramp(4, grad=True), False)], **trains)
def two_ways_back(x, flag):
    y = x.sin() if flag else x.cos()
    print(end="")
    return y * 2 if flag else y * 3
