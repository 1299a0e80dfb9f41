"""CUDA graphs of the lane without the compiler; a stand-in records and replays where there is no GPU."""

import ctypes
import gc
import os
import subprocess
import sys
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from firebrick.capture import lowering as capturing
from firebrick.capture.wrapper_source import Wrapper
from firebrick.codecs.lean_backend import CudaGraphs, LeanBackend, LeanGraph
from firebrick.codecs.lean_program import DYNAMIC_MARKS, Program
from firebrick.errors import NotLean, Unsupported
from firebrick.runtime import cuda_graphs, load
from firebrick.runtime.cuda_graphs import Graphed
from support.places import PROGRAMS
from support.programs import run_cases

pytestmark = pytest.mark.compiles


class Cuda:
    """Stand for a GPU: a graph is the function, and a replay is a call whose results land where they were."""

    def __init__(self, monkeypatch):
        self.stream, self.captures, self.replays = 1, 0, 0
        self.capturing, self.refuses = False, False
        self.arguments = []  # a graph of CUDA only has their addresses
        monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: self.capturing)
        monkeypatch.setattr(cuda_graphs, "_stream", lambda device: self.stream)
        monkeypatch.setattr(cuda_graphs, "_on_gpu", lambda value: value.device.type == "cpu")
        monkeypatch.setattr(cuda_graphs, "_same_addresses", self.same)
        monkeypatch.setattr(cuda_graphs, "_in_memory", self.tensor)
        monkeypatch.setattr(cuda_graphs, "capture", self.capture)

    @staticmethod
    def same(args, addresses, indices):
        return all(args[index].data_ptr() == addresses[index] for index in indices)

    @staticmethod
    def tensor(facts, memory):
        return torch.empty(0, dtype=facts["dtype"]).set_(
            memory, facts["storage_offset"], facts["size"], facts["stride"]
        )

    def capture(self, function, args, device):
        if self.refuses:
            raise RuntimeError("operation not permitted when stream is capturing")
        self.captures += 1
        results = function(list(args))
        self.arguments.append(args)
        number = len(self.arguments) - 1
        places = [(x.data_ptr(), x.nbytes) if isinstance(x, torch.Tensor) else None for x in results]

        def replay():
            self.replays += 1
            for place, value in zip(places, function(list(self.arguments[number])), strict=True):
                if place is not None:
                    ctypes.memmove(place[0], value.data_ptr(), place[1])

        return SimpleNamespace(replay=replay), results


@pytest.fixture
def cuda(monkeypatch):
    return Cuda(monkeypatch)


class Function:
    """A function as wrappers have them: `weight * x` and `x + n`; it counts its calls."""

    def __init__(self):
        self.calls = 0

    def __call__(self, args):
        self.calls += 1
        weight, n, x = args
        args.clear()
        return weight * x, x + n, None


WEIGHT = torch.tensor([2.0, 3.0])


def call(graphed, value, n=1, weight=WEIGHT):
    args = [weight, n, torch.tensor([value, -value])]
    results = graphed(args)
    assert args == []
    return results


def right(results, value, n=1, weight=WEIGHT):
    x = torch.tensor([value, -value])
    return torch.equal(results[0], weight * x) and torch.equal(results[1], x + n) and results[2] is None


def test_the_first_call_runs_the_second_captures_and_the_others_replay(cuda):
    graphed = Graphed(function := Function(), 0, [0])
    assert right(call(graphed, 1.0), 1.0)
    assert (function.calls, cuda.captures) == (1, 0)
    for value in (2.0, 3.0, 4.0):
        assert right(call(graphed, value), value)
    assert (cuda.captures, cuda.replays) == (1, 3)


HOLDERS = {  # how a result is held, and how it is looked at later
    "the tensor": (lambda x: x, lambda x: x),
    "a view": (lambda x: x[1:], lambda x: x),
    "its storage": (lambda x: x.untyped_storage(), lambda memory: torch.empty(0).set_(memory, 0, (2,))),
    "an alias": (lambda x: x.detach(), lambda x: x),
    "a graph of autograd": (
        lambda x: (torch.ones(2, requires_grad=True) * x).sum(),
        lambda y: y.grad_fn.next_functions[0][0](torch.ones(2))[0],
    ),
}


@pytest.mark.parametrize(("hold", "look"), HOLDERS.values(), ids=HOLDERS)
def test_what_the_program_holds_keeps_its_values(cuda, hold, look):
    graphed = Graphed(Function(), 0, [0])
    held, values = [], []
    for number in range(6):
        result = call(graphed, float(number))[0]
        held.append(hold(result))
        values.append(result.clone())
        del result
    assert (cuda.captures, cuda.replays) == (cuda_graphs.TURNS, cuda_graphs.TURNS)
    for holder, value in zip(held, values, strict=True):
        seen = look(holder)
        assert torch.equal(seen, value[-len(seen) :])
    del holder, seen
    held.clear()
    assert right(call(graphed, 9.0), 9.0)
    assert (cuda.captures, cuda.replays) == (cuda_graphs.TURNS, cuda_graphs.TURNS + 1)


def test_a_loop_that_holds_the_result_before_takes_turns(cuda):
    graphed = Graphed(function := Function(), 0, [0])
    for number in range(10):
        result = call(graphed, float(number))
        assert right(result, float(number))
    assert (cuda.captures, cuda.replays) == (2, 9)
    assert function.calls == 1 + cuda.captures + cuda.replays


def test_integers_and_streams_have_graphs_of_their_own(cuda, monkeypatch):
    monkeypatch.setattr(cuda_graphs, "KEYS", 3)
    graphed = Graphed(Function(), 0, [0])
    for _ in range(3):
        assert right(call(graphed, 5.0, n=7), 5.0, n=7)
        assert right(call(graphed, 6.0, n=8), 6.0, n=8)
    assert (cuda.captures, cuda.replays) == (2, 4)
    cuda.stream = 2
    for _ in range(3):
        assert right(call(graphed, 5.0, n=7), 5.0, n=7)
    assert (cuda.captures, cuda.replays) == (3, 6)
    for _ in range(3):
        assert right(call(graphed, 5.0, n=9), 5.0, n=9)
    assert (cuda.captures, cuda.replays) == (3, 6)


def test_parameters_that_change_in_place_are_seen_and_such_that_move_are_captured_anew(cuda, monkeypatch):
    monkeypatch.setattr(cuda_graphs, "CAPTURES", 3)
    graphed = Graphed(Function(), 0, [0])
    weight = WEIGHT.clone()
    for _ in range(3):
        assert right(call(graphed, 1.0, weight=weight), 1.0, weight=weight)
        weight.add_(1)
    assert cuda.captures == 1
    for number in range(5):
        weight = WEIGHT * number
        for _ in range(2):
            assert right(call(graphed, 1.0, weight=weight), 1.0, weight=weight)
    assert cuda.captures == 3


def test_modules_that_share_their_code_have_graphs_of_their_own(cuda):
    """As the layers of a model that are compiled one by one."""
    graphed, layers = Graphed(Function(), 0, [0]), [WEIGHT * number for number in range(12)]
    for _ in range(4):
        for layer in layers:
            assert right(call(graphed, 1.0, weight=layer), 1.0, weight=layer)
    assert cuda.captures == len(layers)
    assert cuda.replays == 4 * len(layers) - 1


def test_graphs_of_parameters_that_are_gone_are_let_go(cuda):
    graphed, weight = Graphed(Function(), 0, [0]), WEIGHT.clone()
    for _ in range(2):
        call(graphed, 1.0, weight=weight)
    (site,) = graphed._sites.values()
    gone = weakref.ref(site._recordings[0])
    cuda.arguments[0] = None
    del weight
    call(graphed, 1.0, weight=WEIGHT)
    assert gone() is None
    assert len(site._recordings) == 1


def test_inputs_are_let_go(cuda):
    graphed = Graphed(Function(), 0, [0])
    for _ in range(3):
        x = torch.ones(2)
        seen = weakref.ref(x)
        args = [WEIGHT, 1, x]
        del x
        graphed(args)
        assert seen() is None


def first(args):
    value = args[0]
    args.clear()
    return (value,)


@pytest.mark.parametrize(
    ("function", "make", "static"),
    [
        (lambda args: (args[0],), lambda: [torch.ones(2)], [0]),
        (lambda args: (args[0].view(2, 1),), lambda: [torch.ones(2)], [0]),
        (lambda args: (args[0] + 1,), lambda: [torch.ones(1).expand(2)], []),
        (lambda args: (args[0] + 1,), lambda: [torch.ones(2, device="meta")], []),
        (lambda args: (args[0] + 1,), lambda: [torch.ones(2), 0.5], []),
    ],
    ids=["a parameter", "a view of one", "shared elements", "another device", "a float"],
)
def test_what_a_graph_can_not_have_runs_as_it_is(cuda, function, make, static):
    graphed, kept = Graphed(function, 0, static), make()
    for _ in range(4):
        args = kept if static else make()
        (result,) = graphed(list(args))
        (expected,) = function(args)
        assert result.device == expected.device
        assert result.is_meta or torch.equal(result, expected)
    assert cuda.replays == 0
    assert cuda.captures <= 1


def test_a_result_may_be_the_memory_of_an_argument_that_is_copied(cuda):
    graphed, held = Graphed(lambda args: (args.pop().mul_(2),), 0, []), []
    for number in range(5):
        (result,) = graphed([torch.full((2,), float(number))])
        held.append(result)
    assert [result.tolist() for result in held] == [[2.0 * number] * 2 for number in range(5)]
    assert (cuda.captures, cuda.replays) == (2, 2)
    held.clear()
    del result
    for number in range(3):
        assert graphed([torch.full((2,), float(number))])[0].tolist() == [2.0 * number] * 2
    assert (cuda.captures, cuda.replays) == (2, 5)


def test_where_cuda_refuses_to_capture_the_function_runs_and_this_is_said_once(cuda, caplog):
    cuda.refuses = True
    graphed = Graphed(function := Function(), 0, [0])
    for _ in range(4):
        assert right(call(graphed, 1.0), 1.0)
    assert (function.calls, cuda.replays) == (4, 0)
    assert [record.message for record in caplog.records] == [
        "no CUDA graph; the kernels are launched one by one"
    ]


def test_what_the_function_raises_is_raised(cuda):
    def function(args):
        if args[0].sum() > 3:
            raise AssertionError("expected size 2")
        return (args.pop() * 2,)

    graphed = Graphed(function, 0, [0])
    graphed([torch.ones(2)])
    with pytest.raises(AssertionError, match="expected size 2"):
        graphed([torch.ones(4)])


def test_inside_of_a_graph_that_the_program_captures_the_function_runs(cuda):
    graphed = Graphed(Function(), 0, [0])
    cuda.capturing = True
    for _ in range(4):
        assert right(call(graphed, 1.0), 1.0)
    assert cuda.captures == 0


def test_inference_tensors_and_others_take_turns(cuda):
    graphed = Graphed(Function(), 0, [0])
    for number in range(6):
        with torch.inference_mode(number % 2 == 0):
            results = call(graphed, float(number))
            assert right(results, float(number))
            assert results[0].is_inference() == (number % 2 == 0)
    assert cuda.captures == 2


def test_threads(cuda):
    graphed = Graphed(Function(), 0, [0])
    wrong = []

    def work(offset):
        for number in range(60):
            value = float(offset * 100 + number)
            results = call(graphed, value)
            if not right(results, value):
                wrong.append(value)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))
    assert wrong == []
    assert cuda.replays > 0
    assert cuda.captures <= cuda_graphs.TURNS


def test_a_thread_captures_after_it_has_run_the_function_itself(cuda):
    """It has no handle of cuBLAS before, and none can be made in a capture."""
    graphed = Graphed(function := Function(), 0, [0])
    call(graphed, 1.0)

    def work():
        found.append(call(graphed, 2.0))

    found, threads = [], [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
        thread.join()
    assert (function.calls, cuda.captures) == (4, 0)
    call(graphed, 3.0)
    threads = [threading.Thread(target=work)]
    threads[0].start()
    threads[0].join()
    assert (cuda.captures, cuda.replays) == (1, 2)
    assert all(right(results, 2.0) for results in found)


def test_graphs_go_with_their_function(cuda):
    graphed = Graphed(Function(), 0, [0])
    for _ in range(3):
        results = call(graphed, 1.0)
    places = [weakref.ref(recording) for site in graphed._sites.values() for recording in site._recordings]
    del graphed
    gc.collect()
    assert places
    assert [place() for place in places] == [None] * len(places)
    assert right(results, 1.0)


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["call", "hold", "view", "drop", "move", "stream", "write"]), st.integers(0, 3)
    ),
    max_size=40,
)


@given(STEPS)
def test_any_order_of_calls_gives_what_the_function_gives(steps):
    with pytest.MonkeyPatch.context() as monkeypatch:
        cuda = Cuda(monkeypatch)
        graphed, weight, held = Graphed(Function(), 0, [0]), WEIGHT.clone(), []
        for number, (step, which) in enumerate(steps):
            if step == "move":
                weight = weight.clone()
            elif step == "write":
                weight.add_(which)
            elif step == "stream":
                cuda.stream = which % 2
            elif step == "drop":
                held = held[which:]
            else:
                results = call(graphed, float(number), n=which % 2, weight=weight)
                assert right(results, float(number), n=which % 2, weight=weight)
                if step != "call":
                    value = results[0] if step == "hold" else results[1][1:]
                    held.append((value, value.clone()))
                del results
            assert all(torch.equal(value, copy) for value, copy in held)


# From torch's artifact to the wrapper's partitions.


def artifact(**changes):
    part = SimpleNamespace(input_index_mapping=[1, None, 0])
    facts = {
        "cudagraph_info": SimpleNamespace(cudagraph_fail_reasons=[]),
        "disabled_cudagraphs_reason": None,
        "kernel_free_cudagraph": False,
        "device_idxs": {3},
        "fx_kwargs": {"is_inference": True, "static_input_idxs": [0]},
        "partition_maps": [part],
        "mutated_input_idxs": set(),
    }
    return SimpleNamespace(**(facts | changes))


WRAPPER = Wrapper(first.__code__, {}, {}, 1)


def test_arguments_of_a_partition_that_stay_are_those_of_the_graph():
    assert capturing._cuda_graphs(artifact(), WRAPPER) == CudaGraphs(3, ((2,),))
    changed = artifact(mutated_input_idxs={0})
    assert capturing._cuda_graphs(changed, WRAPPER) == CudaGraphs(3, ((2,),))


@pytest.mark.parametrize(
    "changes",
    [
        {"cudagraph_info": None},
        {"disabled_cudagraphs_reason": "a CPU operator"},
        {"device_idxs": set()},
        {"cudagraph_info": SimpleNamespace(cudagraph_fail_reasons=["mutated inputs"])},
    ],
)
def test_where_torch_captures_nothing_there_are_no_graphs(changes):
    assert capturing._cuda_graphs(artifact(**changes), WRAPPER) is None


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"fx_kwargs": {"is_inference": False}}, "CUDA graphs in training"),
        ({"mutated_input_idxs": {0, 1}}, "CUDA graphs that change their inputs"),
        ({"device_idxs": {0, 1}}, "several devices"),
        ({"partition_maps": None}, "without partitions"),
        ({"partition_maps": []}, "without partitions"),
    ],
)
def test_what_is_left_to_torchs_own_graphs(changes, reason):
    with pytest.raises(NotLean, match=reason):
        capturing._cuda_graphs(artifact(**changes), WRAPPER)


SOURCE = """
def part(args):
    (x,) = args
    args.clear()
    return (x * 2,)
partitions = [part]
def call(args):
    (y,) = partitions[0](args)
    return (y + 1,)
"""


def backend(graphs, device=None):
    code = compile(SOURCE, "wrapper.py", "exec")
    graph = LeanGraph(code, {}, {}, cuda_graphs=graphs, device=device)
    program = Program(1, (), (), 0, (), None, DYNAMIC_MARKS[0], None)
    return LeanBackend(program._replace(bases=1), graph, None, {})


def test_the_partitions_of_a_restored_wrapper_are_replayed(cuda):
    function = load(backend(CudaGraphs(0, ((),))), None)
    for number in range(4):
        function(torch.ones(2) * number)
    assert (cuda.captures, cuda.replays) == (1, 3)


@pytest.mark.parametrize(("device", "moved", "place"), [(None, None, 3), (3, None, 3), (3, 1, 1)])
def test_graphs_are_captured_where_the_backend_is_moved_to(monkeypatch, device, moved, place):
    places = []
    monkeypatch.setattr(cuda_graphs, "Graphed", lambda function, device, static: places.append(device))
    load(backend(CudaGraphs(3, ((),)), device), None, device=moved)
    assert places == [place]


def test_a_backend_with_other_partitions_is_refused():
    with pytest.raises(Unsupported, match="2 CUDA graphs for 1 partitions"):
        load(backend(CudaGraphs(0, ((), ()))), None)


# On a GPU.

PROGRAM = PROGRAMS / "replayed.py"
ALONE = {"kept": "forward", "threads": "forward"}  # served cases -> the recorded one with the same values
LEAN = (
    "forward", "steps", "weights", "dynamic", "dropout", "buffer", "parts", "convolution", "streams", "tuned",
    "inference",
)  # fmt: skip


def test_the_programs_for_gpus_import_nothing_of_the_compiler_themselves():
    code = (
        "import sys, torch; before = {*sys.modules}; import lean_cuda, replayed;"
        "from support.programs import is_compiler;"
        "print([name for name in sys.modules if name not in before and is_compiler(name)])"
    )
    path = os.pathsep.join(map(str, (PROGRAMS, PROGRAMS.parent)))
    done = subprocess.run(
        [sys.executable, "-P", "-c", code],
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
    )
    assert done.stdout == "[]\n", done.stderr


@pytest.fixture(scope="module")
def starts(tmp_path_factory):
    root = tmp_path_factory.mktemp("replayed")
    options = {"store": root / "store", "timeout": 900.0}
    first = run_cases(PROGRAM, [*LEAN, "training"], home=root / "first", **options)
    later = run_cases(PROGRAM, [*LEAN, *ALONE], home=root / "later", compilers=False, **options)
    full = run_cases(PROGRAM, ["training"], home=root / "full", compilers=False, **options)
    return first, later, full


@pytest.mark.gpu
@pytest.mark.parametrize("name", [*LEAN, *ALONE])
def test_graphs_are_replayed_without_the_compiler(starts, name):
    first, later = starts[0].case(ALONE.get(name, name)), starts[1].case(name)
    assert later["modules"] == []
    assert later["work"] == {}
    assert later["stats"].get("lean", 0) == later["stats"].get(
        "hits", 0
    )  # one serves all that share its code
    assert not {"misses", "bypasses", "faults"} & set(later["stats"])
    assert later["value"] == first["value"]
    assert later["value"][1] == "True"


@pytest.mark.gpu
def test_training_with_cuda_graphs_takes_the_full_lane(starts):
    first, later = (start.case("training") for start in (starts[0], starts[2]))
    assert later["value"] == first["value"]
    assert later["stats"]["hits"] >= 1
    assert "lean" not in later["stats"]
    assert "CUDA graphs in training" in first["stats"]["not_lean"]
