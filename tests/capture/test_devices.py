"""What is compiled for one GPU may run on another where nothing in it depends on which one it is.

Tensors on a GPU are fake here: Dynamo traces them on a machine that has none.
"""

import re
import types

import pytest
import torch
from torch._dynamo.output_graph import OutputGraph
from torch._subclasses.fake_tensor import FakeTensorMode

from firebrick.base.patches import Patches
from firebrick.capture.device_pinning import pinning_of
from firebrick.capture.devices import TracedDevices
from firebrick.capture.lowering import gpus_of
from firebrick.codecs.guard_program import NUMBERS, GuardProgram
from firebrick.codecs.lean_backend import LeanBackend, LeanGraph
from firebrick.storage.manifest import Placement
from firebrick.torch_api import aot
from firebrick.torch_api.device_variables import note_devices

LOOKS = "the program looks at the device of a tensor"
NAMES = "the program names the device cuda:0"


def factory(x):
    return x + torch.arange(3, device=x.device)


def copied(x):
    return x.to(x.device) + torch.zeros_like(x) + x.new_zeros(3) + torch.tensor([1.0, 2, 3], device=x.device)


def kind(x):
    return x + (1 if x.device.type == "cuda" else 2)


def compared(x):
    y = x + 1
    return x if x.device == y.device and x.device is not None else y


def returned(x):
    return x + 1, x.device


def kept(x, box):
    box.device = x.device
    return x + 1


def autocast(x):
    with torch.autocast("cuda", torch.float16, enabled=False):
        return x @ x


def in_a_branch(x):
    return torch.cond(x.sum() > 0, lambda x: x + torch.ones(3, device=x.device), lambda x: x - 1, (x,))


def asked_for(x):
    return x + 1 if isinstance(x.device, torch.device) else x


def text(x):
    return x + torch.arange(3, device="cuda:0")


def made(x):
    return x + torch.arange(3, device=torch.device("cuda", 0))


def text_in_a_branch(x):
    return torch.cond(x.sum() > 0, lambda x: x + torch.ones(3, device="cuda:0"), lambda x: x - 1, (x,))


def returned_name(x):
    return x + 1, torch.device("cuda:0")


def returned_names(x):
    return x + 1, (torch.device("cuda:0"), 1)


def frozen_names(x):
    return x + 1, frozenset([torch.device("cuda:0")])


def nested_names(x):
    return x + 1, {"a": [(1, frozenset([(torch.device("cuda:0"),)]))]}


def index(x):
    return x + x.device.index


def method(x):
    return x + x.get_device()


def compared_with_a_name(x):
    return x + (1 if x.device == torch.device("cuda:0") else 2)


def printed(x):
    return x + len(str(x.device))


def key(x):
    return x + {x.device: 1}[x.device]


def current(x):
    return x + torch.zeros(3, device="cuda")


class Box:
    device = None


def traced(function):
    """Trace a function of a tensor on ``cuda:0``; return what was met of devices."""
    patches, devices = Patches(), TracedDevices()
    torch._dynamo.reset()
    note_devices(patches, OutputGraph, lambda: devices)
    try:
        with FakeTensorMode():
            x = torch.empty(3, device="cuda:0")
            arguments = (x, Box()) if function is kept else (x,)
            torch.compile(function, backend=lambda module, _: module.forward, fullgraph=True)(*arguments)
    finally:
        patches.undo()
    return devices


@pytest.mark.parametrize(
    "function",
    [factory, copied, kind, compared, returned, kept, autocast, in_a_branch, asked_for],
)
def test_a_device_that_comes_from_a_tensor_pins_nothing(function):
    devices = traced(function)
    assert (devices.pinned, devices.current, devices.inputs) == ("", False, {"L['x']"})


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (text, NAMES), (made, NAMES), (text_in_a_branch, NAMES),
        (returned_name, NAMES), (returned_names, NAMES), (frozen_names, NAMES), (nested_names, NAMES),
        (index, LOOKS), (method, LOOKS), (compared_with_a_name, LOOKS), (printed, LOOKS), (key, LOOKS),
    ],
)  # fmt: skip
def test_a_device_that_the_program_names_or_looks_at_pins_the_graph(function, reason):
    assert traced(function).pinned == reason


def test_a_device_without_an_index_is_the_current_one():
    devices = traced(current)
    assert (devices.pinned, devices.current) == ("", True)


LIBRARY = torch.library.Library("kiln", "DEF")
LIBRARY.define("fire(Tensor x) -> Tensor")
OPERATOR = torch.ops.kiln.fire.default


def graph_of(*nodes):
    """Make a graph of calls ``(kind, target, arguments, keywords)`` on one input."""
    graph = torch.fx.Graph()
    x = graph.placeholder("x")
    for op, target, args, kwargs in nodes:
        graph.create_node(op, target, (x, *args) if op == "call_method" else args, kwargs)
    graph.output(x)
    return torch.fx.GraphModule(torch.nn.ModuleDict({"inner": torch.nn.Linear(1, 1)}), graph)


def own(x):
    return x


@pytest.mark.parametrize(
    ("node", "reason"),
    [
        (("call_method", "to", (0,), {}), "names a device by its number"),
        (("call_method", "cuda", (1,), {}), "names a device by its number"),
        (("call_method", "to", (), {"device": 0}), "names a device by its number"),
        (("call_function", torch.zeros, (2,), {"device": 0}), "names a device by its number"),
        (("call_function", torch.zeros, ([2],), {"device": "cuda:1"}), "names the device cuda:1"),
        (("call_function", torch.cuda.set_device, (0,), {}), r"calls torch\.cuda\.set_device"),
        (
            ("call_function", torch._C._accelerator_getDeviceIndex, (), {}),
            r"calls torch\._C\._accelerator_get",
        ),
        (("call_function", own, (1,), {}), r"calls .*test_devices\.own"),
        (("call_function", OPERATOR, (1,), {}), r"calls torch\._ops\.kiln\.fire"),
        (("call_function", torch._dynamo.is_compiling, (), {}), r"calls torch\._dynamo\."),
        (("call_module", "inner", (1,), {}), "calls the module inner"),
    ],
)
def test_what_a_graph_calls_can_pin_it(node, reason):
    devices = TracedDevices()
    devices.graph(graph_of(node), {})
    assert re.search(reason, devices.pinned)


@pytest.mark.parametrize(
    "node",
    [("call_method", "cuda", (), {}), ("call_method", "cuda", (None,), {}),
     ("call_method", "cuda", (), {"device": None}), ("call_method", "to", ("cuda",), {}),
     ("call_method", "type", ("torch.cuda.FloatTensor",), {}),
     ("call_function", torch.zeros, (2,), {"device": torch.device("cuda")})],
)  # fmt: skip
def test_other_ways_to_the_current_gpu(node):
    devices = TracedDevices()
    devices.graph(graph_of(node), {})
    assert (devices.pinned, devices.current) == ("", True)


@pytest.mark.parametrize(("method", "what"), [("graph", "a graph"), ("name_own", "a constant")])
def test_what_can_not_be_looked_through_is_pinned_and_compiled(monkeypatch, method, what):
    monkeypatch.setattr(TracedDevices, method, lambda *_: [][0])
    assert traced(returned).pinned == f"{what} that could not be looked through: IndexError"


# What becomes of it.


def program(*tensors):
    """Make a guard program of tensors ``(name, kind of device, index)``."""
    steps = [[NUMBERS["add_tensor_match_guard"], 0, i, 0, 0, i, i, 0] for i in range(len(tensors))]
    rows = [["float32", kind, index, False, 0] for _, kind, index in tensors]
    return GuardProgram(
        True, 0, "", [], None, [name for name, _, _ in tensors],
        [[f"check_tensor(x, device={index}, requires_grad=False)"] for _, _, index in tensors],
        [], [], [], rows, [], steps,
    )  # fmt: skip


def compilation(*tensors, **changes):
    devices = TracedDevices()
    devices.inputs = {name for name, kind, _ in tensors if kind == "cuda"}
    made = types.SimpleNamespace(program=program(*tensors), devices=devices, process=[], resumes={})
    vars(made).update(changes)
    return made


X, Y, HOST = ("x", "cuda", 0), ("y", "cuda", 1), ("h", "cpu", None)
FREE, TWO = (frozenset([0]), ""), (frozenset([0, 1]), "a wrapper")


def resuming():
    return own.__code__.replace(co_consts=(None, (1, torch.device("cuda:0"))))


@pytest.mark.parametrize(
    ("made", "parts", "expected"),
    [
        (compilation(HOST), [], None),
        (compilation(X, HOST), [FREE], Placement(0, "")),
        (compilation(Y), [(frozenset(), "")], Placement(1, "")),
        (compilation(HOST), [FREE], Placement(0, "")),
        (compilation(X, Y), [FREE], Placement(-1, "several GPUs")),
        (compilation(X), [FREE, TWO], Placement(-1, "a wrapper")),
        (compilation(X, process=[["current GPU", [], "1"]]), [FREE],
         Placement(0, "another GPU was current")),
        (compilation(X, process=[["current GPU", [], "0"]]), [FREE], Placement(0, "")),
        (compilation(X, program=program(Y)._replace(tensors=[["float32", "cuda", 0, False, 0]])), [FREE],
         Placement(0, "no guard on x")),
        (compilation(X, resumes={"r": resuming()}), [FREE],
         Placement(0, "a resume function that names a device")),
    ],
)  # fmt: skip
def test_a_frame_runs_on_one_gpu_or_is_pinned_with_a_reason(made, parts, expected):
    assert pinning_of(made, made.program, parts) == expected


CODE = compile("0", "wrapper.py", "eval")


class OnGpu:
    device = torch.device("cuda:0")


@pytest.mark.parametrize(
    ("graphs", "indices", "expected"),
    [
        ([LeanGraph(CODE, {}, {}, device=0), None], [{0}, None], (frozenset([0]), "")),
        ([LeanGraph(CODE, {}, {"c": torch.ones(1)}, device=2), LeanGraph(CODE, {}, {})], [{2}, set()],
         (frozenset([2]), "")),
        ([LeanGraph(CODE, {}, {}), LeanGraph(CODE, {}, {}, device=0)], [{0}, {0}],
         (frozenset([0]), "a wrapper that names several GPUs, or one in another way")),
        ([LeanGraph(CODE, {}, {}, device=0), LeanGraph(CODE, {}, {}, device=1)], [{0, 1}, {1}],
         (frozenset([0, 1]), "a wrapper that names several GPUs, or one in another way")),
        ([LeanGraph(CODE, {}, {"c": OnGpu()}, device=0), None], [{0}, None],
         (frozenset([0]), "a constant on a GPU")),
    ],
)  # fmt: skip
def test_a_backend_runs_on_the_gpus_of_its_graphs(monkeypatch, graphs, indices, expected):
    monkeypatch.setattr(aot, "BundledAOTAutogradResult", types.SimpleNamespace)
    results = [None if found is None else types.SimpleNamespace(device_idxs=found) for found in indices]
    parts = [None if result is None else types.SimpleNamespace(result=result) for result in results]
    artifact = types.SimpleNamespace(
        content=types.SimpleNamespace(compiled_fw=parts[0], compiled_bw=parts[1])
    )
    assert gpus_of(artifact, LeanBackend(None, *graphs, {})) == expected
