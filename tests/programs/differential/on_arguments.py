"""Ways to pass arguments and to find values: defaults, closures, globals, class constants, methods."""

import functools
import math
import operator

import torch
from made import mixed, ramp

from support.differential import Call, Program, call, case, program, scenario

TABLE = torch.linspace(0, 1, 4)
SCALE = 3
CONFIG = {"shift": 2.0, "names": ("sin", "cos")}
COUNTER = [0]
trains = {"train": True}


@case(lambda: [call(ramp(4)), call(ramp(4), 3), call(ramp(4), bias=ramp(4)), call(x=ramp(4), scale=0.5)])
def defaults(x, scale=2, *, bias=None):
    y = x * scale
    return y if bias is None else y + bias


@case(lambda: [call(ramp(4), mixed(4)), call(ramp(4), mixed(4), ramp(4)), call(ramp(4))])
def many_positional(x, *rest):
    for other in rest:
        x = x + other * 2
    return x, len(rest)


@case(lambda: [call(ramp(4), a=1, b=ramp(4)), call(ramp(4), b=ramp(4), a=1), call(ramp(4))])
def many_by_name(x, **named):
    for name in sorted(named):
        x = x * named[name]
    return x, list(named)


@case(lambda: [call(1, ramp(4), 3, key=2, other=ramp(4))])
def every_kind(first, /, x, *rest, key, **named):
    return x * first + sum(rest) - key + named["other"]


@case(lambda: [call(ramp(4))])
def global_values(x):
    return x * SCALE + TABLE + CONFIG["shift"], [getattr(x, name)() for name in CONFIG["names"]]


@case(
    lambda: [call(ramp(4))],
    misses=lambda: [Call((ramp(4),), before=lambda: globals().__setitem__("CHANGING", 7))],
)
def global_that_changes(x):
    return x * CHANGING


CHANGING = 5


@case(lambda: [call(ramp(4)), call(ramp(4))], state=lambda: (COUNTER, LAST))
def global_written(x):
    global LAST
    COUNTER[0] += 1
    LAST = x * 2
    return x + 1


LAST = None


@program
def closure():
    shift, factor = ramp(4), 3

    def inner(x):
        return x * factor + shift

    return Program(target=inner, calls=[call(ramp(4)), call(mixed(4))])


@program
def closure_written():
    count, last = 0, None

    def inner(x):
        nonlocal count, last
        count += 1
        last = x * count
        return last + 1

    return Program(target=inner, calls=[call(ramp(4)), call(ramp(4))], state=lambda: [count, last])


@program
def function_in_a_closure():
    def helper(x):
        return x.sin() * 2

    return Program(target=lambda x: helper(x) + 1, calls=[call(ramp(4))])


@case(lambda: [call(ramp(4))])
def functions_inside(x):
    def double(y):
        return y * 2 + shift

    shift = 3
    return double(x), (lambda z: z - shift)(x), list(map(double, [x, x + 1]))


def helper(x, *, power=2):
    return x**power


@case(lambda: [call(ramp(4, grad=True))], **trains)
def functions_outside(x):
    return helper(x) + helper(x, power=3)


@case(lambda: [call(ramp(4), torch.sin), call(ramp(4), torch.cos), call(ramp(4), helper)])
def function_as_argument(x, f):
    return f(x) + 1


@program
def partial():
    return Program(target=functools.partial(helper, power=4), calls=[call(ramp(4))])


class Shape:
    sides = 3
    table = ramp(4)

    def __init__(self, width):
        self.width = width
        self._area = None

    @property
    def area(self):
        return self.width * self.sides

    @classmethod
    def wide(cls, x):
        return x * cls.sides

    @staticmethod
    def still(x):
        return x + 1

    def grow(self, x):
        self.width = self.width + 1
        return x * self.area + self.table

    def __call__(self, x):
        return self.wide(x) + self.still(x) * self.area


class Square(Shape):
    sides = 4

    def grow(self, x):
        return super().grow(x) - 1


@case(lambda: [call(ramp(4), Shape(2)), call(ramp(4), Square(2))])
def constants_of_classes(x, shape):
    return shape(x), shape.sides


@program
def method():
    return Program(target=Shape(2).__call__, calls=[call(ramp(4))])


@program
def method_that_writes():
    shape = Square(2)
    return Program(target=shape.grow, calls=[call(ramp(4))] * 2, state=lambda: shape)


@program
def class_method():
    return Program(target=Square.wide, calls=[call(ramp(4))])


@program
def callable_object():
    return Program(target=Shape(5), calls=[call(ramp(4))])


def doubling(function):
    @functools.wraps(function)
    def wrapper(*args, **kwargs):
        return function(*args, **kwargs) * 2

    return wrapper


@doubling
def decorated_inner(x, shift=1):
    return x.sin() + shift


@case(lambda: [call(ramp(4))])
def decorated_helper(x):
    return decorated_inner(x) + decorated_inner(x, shift=2)


@functools.lru_cache
def cached(n):
    return n * 2


@case(lambda: [call(ramp(4))])
def cached_helper(x):
    return x * cached(3)


@case(lambda: [call(ramp(4), 5)])
def standard_library(x, n):
    return x * math.sqrt(n) + operator.mul(n, 2), functools.reduce(operator.add, [x, x, x]), math.floor(2.7)


class Scaled:
    def __init__(self, by):
        self.by = by

    def __mul__(self, x):
        return x * self.by

    def __getitem__(self, key):
        return self.by + key

    def __len__(self):
        return 3

    def __eq__(self, other):
        return self.by == other.by

    __hash__ = None

    def __bool__(self):
        return self.by > 1


@case(lambda: [call(ramp(4), Scaled(2)), call(ramp(4), Scaled(0))])
def special_methods(x, s):
    return (s * x if s else x) + s[1] + len(s), s == Scaled(2)


class Lazy:
    def __getattr__(self, name):
        if name == "factor":
            return 4
        raise AttributeError(name)


@case(lambda: [call(ramp(4), Lazy())])
def attribute_made_on_demand(x, lazy):
    return x * lazy.factor, getattr(lazy, "absent", 1), hasattr(lazy, "factor")


class Slotted:
    __slots__ = ("scale",)

    def __init__(self, scale):
        self.scale = scale


@case(lambda: [call(ramp(4), Slotted(3))])
def object_with_slots(x, s):
    s.scale = s.scale + 1
    return x * s.scale


@program
def tensor_in_a_closure_is_written():
    total = torch.zeros(4)

    def add(x):
        total.add_(x)
        return total * 2

    return Program(target=add, calls=[call(ramp(4))] * 2, state=lambda: total)


def _twice(x):
    return x * 2 + 1


@scenario
def two_compiled_functions_of_one():
    first, second = torch.compile(_twice), torch.compile(_twice, dynamic=True)
    return first(ramp(4)), second(ramp(5)), second(ramp(6)), first(ramp(4))


@scenario
def compiled_calls_compiled():
    @torch.compile
    def inner(x):
        return x.sin() + 2

    @torch.compile
    def outer(x):
        return inner(x) * 3

    return outer(ramp(4)), inner(ramp(4))


@program
def recursive_function():
    def power(x, n):
        return x if n == 0 else power(x * 2, n - 1)

    return Program(target=power, calls=[call(ramp(4), 3)])
