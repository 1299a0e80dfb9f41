"""Programs whose hits are audited: unchanged ones, and some that ``V=2`` edits after they were stored.

With ``UNMENDED`` the walk over what the code can reach is taken out, so that the edits are served stale.
"""

import enum
import os
import sys

import torch

torch.set_num_threads(1)
V = int(os.environ.get("V", "1"))

if "UNMENDED" in os.environ:
    from firebrick.loader.bundles import Bundles

    Bundles._check_reach = lambda *_: None


def compiled(function, **options):
    return torch.compile(function, options={"fallback_by_default": True}, **options)


def numbers(*shape):
    return torch.arange(float(torch.Size(shape).numel())).reshape(shape) / 7


# Unchanged programs.


def product(x, y):
    return (x @ y).relu() + 1


def function():
    return compiled(product)(numbers(3, 4), numbers(4, 2))


def training():
    torch.manual_seed(3)
    model = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Tanh(), torch.nn.Linear(4, 2))
    compiled(model)(numbers(2, 4)).sum().backward()
    return [p.grad for p in model.parameters()]


def twice_broken(x):
    y = x + 1
    torch._dynamo.graph_break()
    z = y * x.shape[0]
    torch._dynamo.graph_break()
    return z - y


def breaks():
    return compiled(twice_broken)(numbers(3))


def sines(x):
    return x.sin() * x.shape[0]


def dynamic():
    f = compiled(sines)
    return [f(numbers(n)) for n in (3, 5, 8, 9)]


def all_dynamic():
    return compiled(lambda x: x.cos() + x.shape[1], dynamic=True)(numbers(2, 5))


def sum_of_products(x, y):
    return (x * y).sum(0) - 3


def specialisations():
    f = compiled(sum_of_products)
    forms = [(numbers(2, 2), numbers(2, 2)), (numbers(2, 2).double(), numbers(2, 2).double())]
    return [f(*form) for form in forms]


def cells():
    total, scale = numbers(2), 3

    def add(x):
        nonlocal total
        total = total + x * scale
        torch._dynamo.graph_break()
        return total.sum()

    f = compiled(add)
    return [f(numbers(2)), total]


WORDS = frozenset({"red", "green", "blue", "grey"})
TABLE = {name: number for number, name in enumerate(sorted(WORDS))}


def looked_up(x, key):
    if key in {"red", "green", "blue"} and key in WORDS:
        x = x * TABLE[key]
    return x + len(WORDS)


def sets():
    return [compiled(looked_up)(numbers(2), key) for key in ("red", "grey")]


class Keeper(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("seen", torch.zeros(2))
        self.calls = 0

    def forward(self, x):
        self.seen += x
        self.calls += 1
        return {"sum": x + self.seen, "twice": [x * 2, (x, None)]}


def effects():
    keeper = Keeper()
    return [compiled(keeper)(numbers(2)), keeper.seen, keeper.calls]


def graded(x):
    with torch.no_grad():
        y = x * 2
    return torch.utils.checkpoint.checkpoint(torch.sin, x, use_reentrant=False) + y


def nested_graphs():
    x = numbers(2).requires_grad_()
    result = compiled(graded)(x)
    result.sum().backward()
    return [result, x.grad]


def left_alone(x):
    y = x.tan() - 2
    torch._dynamo.graph_break()
    return y * V


def leaves_nothing():
    """Say what of Dynamo's state, of the globals of the module and of random numbers each audit changes."""
    from torch._dynamo import convert_frame, pgo, utils

    from firebrick.session.auditor import SessionAuditor

    def state():
        return {
            "counters": {name: dict(counts) for name, counts in utils.counters.items() if counts},
            "times": {name: len(times) for name, times in utils.compilation_time_metrics.items()},
            "compilations": len(utils.get_compilation_metrics()),
            "sizes": sorted(str(code) for code in pgo.get_code_state()),
            "cleanups": utils.CleanupManager.count,
            "compiled": len(convert_frame.output_codes.seen),
            "frames": convert_frame.FRAME_COUNTER,
            "compiling": convert_frame.initial_global_state is not None,
            "globals": sorted(globals()),
            "random": torch.get_rng_state().tolist(),
        }

    found, hit = [], SessionAuditor.hit

    def watched(self, *args):
        before = state()
        hit(self, *args)
        after = state()
        found.append([name for name in after if after[name] != before[name]])

    SessionAuditor.hit = watched
    try:
        result = compiled(left_alone)(numbers(2))
    finally:
        SessionAuditor.hit = hit
    return [result, found]


def state_of_audits():
    """Say whether audits are imported, once something was served."""
    result = compiled(product)(numbers(3, 4), numbers(4, 2))
    return [result, sorted(name for name in sys.modules if name.endswith((".audits", ".audit", ".audited")))]


# Edited programs.


class Base:
    def scale(self, x):
        return x * 2


class Derived(Base):
    if V == 2:

        def scale(self, x):
            return x * 5


DERIVED = Derived()


def overridden():
    return compiled(lambda x: DERIVED.scale(x) + 1)(numbers(2))


class Powers:
    def power(self, x, exponent=2 if V == 1 else 3):
        return x**exponent


def default():
    return compiled(lambda x: Powers().power(x) + 2)(numbers(3))


class Level(enum.IntEnum):
    LOW = 2 if V == 1 else 7


def member():
    return compiled(lambda x: x * Level.LOW + 3)(numbers(2))


def by(factor):
    def decorate(function):
        return lambda self, x: function(self, x) * factor

    return decorate


class Wrapped:
    @by(2.0 if V == 1 else 3.0)
    def run(self, x):
        return x.exp()


def decorated():
    return compiled(lambda x: Wrapped().run(x) + 4)(numbers(2))
