"""Backends that torch compiled in parts are put together again; what their fields do not allow is refused."""

import operator
import types
import weakref

import pytest
import torch
from torch.fx import Graph, GraphModule

from firebrick import codecs
from firebrick.capture.ddp_buckets import Splits
from firebrick.capture.lean_part import LeanPart
from firebrick.codecs.lean_backend import LeanBackend, LeanGraph
from firebrick.codecs.lean_program import DYNAMIC_MARKS, Output, OutputKind, Program
from firebrick.codecs.lean_split import NO_PART, LeanSplit, Step, Steps
from firebrick.errors import DecodeError, EncodeError, NotLean
from firebrick.loader.lean_backends import LeanBackends
from firebrick.runtime.split import join
from firebrick.storage.blob import StoredBlob
from firebrick.storage.format import Kind
from firebrick.storage.manifest import NoLeanForm
from firebrick.storage.msgpack import pack, unpack
from firebrick.storage.store import Store
from firebrick.torch_api.ddp import steps_of

STEPS = Steps(2, (Step(0, (0, 1), None), Step(NO_PART, (2,), 1), Step(1, (3, 1), 0)), (4, 1))


def part(source):
    code = compile(f"def call(args):\n    {source}", "wrapper.py", "exec")
    outputs = (Output(OutputKind.PLAIN, -1, False, False, False, None, None),) * 2
    program = Program(2, outputs, (), 0, (), None, DYNAMIC_MARKS[0], None)
    return LeanBackend(program, LeanGraph(code, {}, {}), None, {})


PARTS = (part("a, b = args; return (a + b, a * b)"), part("a, b = args; return (a - b, a)"))


# The function.


def test_steps_are_taken_in_their_order():
    run = join(STEPS, [lambda a, b: [a + b, a * b], lambda a, b: (a - b,)])
    assert run(5, 3) == (12, 3)
    assert join(Steps(1, (), (0, 0)), [])(7) == (7, 7)


def test_a_value_is_let_go_after_its_last_use():
    class Value: ...

    alive, seen = [], []

    def make(*_):
        alive.append(weakref.ref(value := Value()))
        seen.append([reference() is not None for reference in alive])
        return [value]

    steps = (Step(0, (0,), 0), Step(0, (1,), 0), Step(0, (2,), 0), Step(0, (1, 3), 0))
    join(Steps(1, steps, (4,)), [make])(Value())
    # the arguments of a call are alive during it; the first value is used once more at the end
    assert seen == [[True], [True, True], [True, True, True], [True, False, True, True]]


# What is stored.


def stored(value):
    encoded = codecs.encode(Kind.LEAN_SPLIT, value)
    blobs = {blob.key: StoredBlob(blob.kind, blob.version, bytes(blob.data)) for blob in encoded.children}
    return encoded, blobs


def test_a_part_that_is_there_twice_is_stored_once():
    encoded, blobs = stored(LeanSplit(STEPS, (PARTS[0], PARTS[0])))
    assert [blob.kind for blob in encoded.children].count(Kind.LEAN_BACKEND) == 1
    back = codecs.decode(Kind.LEAN_SPLIT, 1, encoded.root.data, blobs.__getitem__)
    assert back.steps == STEPS
    assert len(back.parts) == 2


def test_a_stored_one_becomes_a_function(tmp_path):
    with Store.open(tmp_path / "store") as store:
        encoded, _ = stored(LeanSplit(STEPS, PARTS))
        for blob in (*encoded.children, encoded.root):
            store.put(blob.kind, blob.data, blob.version)
        run = LeanBackends(store).load(encoded.root.key)
        first, second = run(torch.tensor(5.0), torch.tensor(3.0))
        assert (first.item(), second.item()) == (12.0, 3.0)
        body = unpack(encoded.root.data)
        body[3][0][1] = encoded.root.key  # a part that is itself split
        key = store.put(Kind.LEAN_SPLIT, pack(body), 1)
        with pytest.raises(DecodeError, match="expected a lean backend, got LEAN_SPLIT"):
            LeanBackends(store).load(key)


@pytest.mark.parametrize(
    ("steps", "reason"),
    [
        (STEPS._replace(inputs=-1), "number of inputs is -1"),
        (STEPS._replace(inputs=1 << 40), "number of inputs is"),
        (STEPS._replace(outputs=(5,)), "value 5 of 5"),
        (STEPS._replace(outputs=(-1,)), "value -1 of 5"),
        (STEPS._replace(steps=(Step(2, (0,), None),)), "part 2 of 2"),
        (STEPS._replace(steps=(Step(-2, (0,), 0),)), "part -2 of 2"),
        (STEPS._replace(steps=(Step(0, (2,), None),)), "value 2 of 2"),
        (STEPS._replace(steps=(Step(0, (0,), -1),)), "item -1"),
        (STEPS._replace(steps=(Step(NO_PART, (0, 1), 0),)), "a step that does nothing"),
        (STEPS._replace(steps=(Step(NO_PART, (0,), None),)), "a step that does nothing"),
    ],
)
def test_numbers_out_of_range_are_refused(steps, reason):
    with pytest.raises(EncodeError, match=reason):
        stored(LeanSplit(steps, PARTS))
    encoded, blobs = stored(LeanSplit(STEPS, PARTS))
    body = unpack(encoded.root.data)
    body[:3] = [steps.inputs, [list(map(_plain, step)) for step in steps.steps], list(steps.outputs)]
    with pytest.raises(DecodeError, match=reason):
        codecs.decode(Kind.LEAN_SPLIT, 1, pack(body), blobs.__getitem__)


def _plain(value):
    return list(value) if isinstance(value, tuple) else value


@pytest.mark.parametrize(
    "body", [[], [1, [], []], [1, [[0]], [], []], [1, [], [], [[1]]], [1, [], [], [[1, "k"]]]]
)
def test_other_fields_are_refused(body):
    with pytest.raises(DecodeError):
        codecs.decode(Kind.LEAN_SPLIT, 1, pack(body), {}.__getitem__)


# How torch puts them together.


class Part(torch.nn.Module):
    def __init__(self, first):
        super().__init__()
        self.unwrap_singleton_tuple = first


def split_graph(*, argument=None, target=operator.getitem):
    graph = Graph()
    x, y = graph.placeholder("x"), graph.placeholder("y")
    made = graph.call_module("first", (x, y) if argument is None else (x, argument))
    item = graph.call_function(target, (made, 1))
    graph.output((graph.call_module("second", (item, y)), y))
    return GraphModule(torch.nn.ModuleDict({"first": Part(False), "second": Part(True)}), graph)


def test_the_steps_of_a_split_graph_are_read():
    assert steps_of(split_graph()) == STEPS


@pytest.mark.parametrize(
    ("graph", "reason"),
    [
        (split_graph(argument=3), "with the arguments"),
        (split_graph(argument=[3]), "with the arguments"),
        (split_graph(target=operator.add), "with call_function"),
    ],
)
def test_other_calls_in_a_split_graph_are_refused(graph, reason):
    with pytest.raises(NotLean, match=reason):
        steps_of(graph)


# Recording.


def lean_part(value, **facts):
    return LeanPart(codecs.encode(Kind.LEAN_BACKEND, value), frozenset(), **facts)


@pytest.fixture
def splits():
    whole, faults, refused = [], [], []
    recorder = types.SimpleNamespace(current=types.SimpleNamespace(not_full=None), refuse=refused.append)
    made = Splits(recorder, whole.append, faults.append)
    made.whole, made.compilation, made.faults = whole, recorder.current, faults
    for name in ("a", "b"):
        made.bucket_compiled("f", name)
    return made


@pytest.mark.parametrize("order", ["abs", "sab", "asb"])
def test_a_backend_is_whole_once_its_graphs_are_there(splits, order):
    facts = {"a": {"gpus": frozenset([0])}, "b": {"gpus": frozenset([1]), "pinned": "why"}}
    for step in order:
        assert splits.whole == []
        assert splits.joined("f") is None
        if step == "s":
            splits.made("f", STEPS)
        else:
            assert splits.take(step, lambda: lean_part(PARTS["ab".index(step)], **facts[step]))  # noqa: B023
    assert splits.whole == ["f"]
    found, lean = splits.joined("f")
    assert lean.encoded.root.data == codecs.encode(Kind.LEAN_SPLIT, LeanSplit(STEPS, PARTS)).root.data
    assert (lean.gpus, lean.pinned) == (frozenset([0, 1]), "why")
    assert found.key == lean.encoded.root.key
    assert set(found.children) == {blob.key for blob in lean.encoded.children}
    assert "bucket" in splits.compilation.not_full


@pytest.mark.parametrize(
    ("steps", "second", "reason"),
    [
        (STEPS, NoLeanForm("a reason"), "a reason"),
        (NoLeanForm("another"), lean_part(PARTS[1]), "another"),
    ],
)
def test_one_graph_that_is_not_lean_is_the_reason_of_all(splits, steps, second, reason):
    splits.made("f", steps)
    splits.take("a", lambda: lean_part(PARTS[0]))
    splits.take("b", lambda: second)
    assert splits.joined("f")[1] == NoLeanForm(reason)


def test_a_fault_of_ours_does_not_reach_the_compilation(splits):
    splits.take("a", lambda: lean_part(PARTS[0]))
    splits.take("b", lambda: lean_part(PARTS[1]))
    splits.made("f", STEPS._replace(outputs=(9,)))
    assert [type(fault) for fault in splits.faults] == [EncodeError]
    assert splits.whole == []


def test_other_backends_are_left_alone(splits):
    splits.made("another", "not a graph module")
    assert not splits.take("another", lambda: pytest.fail("looked at"))
    assert splits.joined("another") is None
    assert splits.faults == []
