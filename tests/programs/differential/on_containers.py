"""Arguments and results that are containers and objects."""

import collections
import dataclasses
import enum
import types
from typing import NamedTuple

import torch
from made import mixed, ramp

from support.differential import Call, Program, call, case, program

trains = {"train": True}


class Pair(NamedTuple):
    left: torch.Tensor
    right: torch.Tensor


@dataclasses.dataclass
class Batch:
    x: torch.Tensor
    y: torch.Tensor
    name: str = "batch"
    more: dict = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Options:
    scale: float
    twice: bool


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 3


class Box:
    def __init__(self, value, factor):
        self.value = value
        self.factor = factor

    def scaled(self):
        return self.value * self.factor


@case(lambda: [call([ramp(3), ramp(3) + 1]), call([ramp(3), ramp(3), ramp(3)])])
def list_in_and_out(xs):
    return [x * 2 for x in xs], sum(xs)


@case(lambda: [call((ramp(3), 2, "a")), call((ramp(3), 2, "b"))])
def tuple_in_and_out(t):
    x, n, name = t
    return (x * n, name) if name == "a" else (x + n, name, None)


@case(
    lambda: [call({"a": ramp(3), "b": {"c": ramp(3)}})],
    misses=lambda: [call({"b": {"c": ramp(3)}, "a": ramp(3)})],
)
def dict_in_and_out(d):
    out = {key: value for key, value in d.items() if key == "a"}
    out["sum"] = d["a"] + d["b"]["c"]
    return out


@case(lambda: [call({"x": ramp(3)}), call({"x": ramp(3), "y": 1.0})])
def dict_with_optional_keys(d):
    return d["x"] + d.get("y", 5), len(d), "y" in d


@case(lambda: [call(collections.OrderedDict(b=ramp(2), a=ramp(2) + 1))])
def ordered_dict(d):
    out = collections.OrderedDict((k, v.sin()) for k, v in d.items())
    out.move_to_end("b")
    return out


@case(lambda: [call(collections.defaultdict(list, a=[ramp(2)]), ramp(2))])
def default_dict(d, x):
    d["a"].append(x * 2)
    d["new"].append(x + 1)
    return len(d)


@case(lambda: [call(Pair(ramp(3, grad=True), mixed(3, grad=True)))], **trains)
def named_tuple(pair):
    return Pair(pair.left * pair.right, pair.right.sin())


@case(lambda: [call(Batch(ramp(3, grad=True), mixed(3), "first", {"k": ramp(3)}))], **trains)
def data_class(batch):
    return Batch(batch.x * 2 + batch.more["k"], batch.y, batch.name + "!")


@case(
    lambda: [
        call(ramp(3), Options(2.0, True)),
        call(ramp(3), Options(2.0, False)),
        call(ramp(3), Options(3.0, True)),
    ]
)
def frozen_options(x, options):
    y = x * options.scale
    return y * 2 if options.twice else y


@case(lambda: [call(ramp(3), Colour.RED, Level.LOW), call(ramp(3), Colour.BLUE, Level.HIGH)])
def enums(x, colour, level):
    return (x.sin() if colour is Colour.RED else x.cos()) * level.value


@case(lambda: [call(Box(ramp(3), 2)), call(Box(ramp(3) + 1, 2)), call(Box(ramp(3), 3))])
def plain_object(box):
    return box.scaled() + 1


@case(lambda: [call(Box(ramp(3), 2), ramp(3))])
def attributes_written(box, x):
    box.value = box.value + x
    box.extra = x * 2
    box.factor += 1
    return box.factor


@case(lambda: [call([ramp(2)], {"n": 1}, ramp(2))])
def containers_written(items, counts, x):
    items.append(x * 2)
    items.insert(0, x + 1)
    counts["n"] += 1
    counts["seen"] = x.sum()
    return items.pop()


@case(lambda: [call([ramp(2), ramp(2) + 1, ramp(2) + 2])])
def list_methods(xs):
    xs.reverse()
    xs.extend([xs[0] * 2])
    del xs[1]
    return xs[::-1], len(xs), xs[-1] + 1


@case(lambda: [call(ramp(3), {1, 3}), call(ramp(3), {2})])
def sets(x, numbers):
    return x * 2 if 3 in numbers else x * 3, {n + 1 for n in (1, 2)}


@case(lambda: [call(ramp(3), types.SimpleNamespace(scale=2.0, shift=ramp(3)))])
def name_space(x, config):
    return x * config.scale + config.shift


@case(lambda: [call(None, ramp(2)), call(ramp(2), ramp(2)), call(ramp(2), None)])
def optional_tensors(a, b):
    if a is None:
        return b * 2, None
    return (a if b is None else a + b), a.sin()


@case(lambda: [call(ramp(3))])
def no_result(x):
    x.mul(2)


@case(lambda: [call(ramp(3))])
def nested_result(x):
    return {
        "a": [x * 2, (x + 1, {"deep": x.sin()})],
        "n": 3,
        "text": f"{x.shape[0]} of {x.dim()}",
        "no": None,
    }


@case(lambda: [call(ramp(4, 3))], graphs=False)
def results_that_are_not_tensors(x):
    return x.shape, x.dtype, x.device, x.stride(), x.numel(), x.is_contiguous(), tuple(x.size()), x.ndim * 1.5


@case(lambda: [call(collections.deque([ramp(2), ramp(2) + 1], maxlen=2), ramp(2))])
def deque(queue, x):
    queue.append(x * 3)
    return queue[0] + queue[-1]


@case(lambda: [call(ramp(3), [1, 2, 3], (4, 5)), call(ramp(3), [1, 2], (4, 5))])
def numbers_in_containers(x, ns, ms):
    return x * sum(ns) + max(ms), [n * 2 for n in ns], dict(zip("ab", ms, strict=True))


@case(lambda: [call(torch.Size([2, 3]), torch.float64, torch.device("cpu"))])
def torch_values(size, dtype, device):
    return torch.ones(size, dtype=dtype, device=device) * 2


@program
def object_shared_by_calls():
    box = Box(ramp(3), 2)

    def advance(x, box=box):
        box.value = box.value * box.factor
        return box.value + x

    return Program(target=advance, calls=[call(ramp(3))] * 3, state=lambda: box)


@program
def list_shared_by_calls():
    log = []

    def note(x, log):
        log.append(x.sum())
        return x * len(log)

    return Program(target=note, calls=[Call((ramp(3), log))] * 3)
