"""Lean backends are stored whole, and what their fields do not allow is refused."""

import pytest
import torch
from hypothesis import given, settings

from firebrick import codecs
from firebrick.codecs.lean_backend import LeanBackend, LeanGraph
from firebrick.codecs.lean_program import (
    Mutation,
    MutationKind,
    Output,
    OutputKind,
    Program,
    Tangent,
    Training,
    View,
    check_program,
)
from firebrick.codecs.library import Library
from firebrick.errors import DecodeError, EncodeError
from firebrick.storage.blob import StoredBlob
from firebrick.storage.format import Kind
from firebrick.storage.msgpack import pack, unpack
from support.lean_programs import programs
from support.strategies import elf

CODE = compile("def call(args): return args", "wrapper.py", "exec")
LIBRARY = Library("kernel.so", ("PyInit_kernel",), "avx2", ("avx2",), elf())
OUTPUT = Output(
    OutputKind.VIEW_OF_INPUT, 1, True, False, False, (View("t", (False, "mode NeverView")),), (0,)
)
TRAINING = Training(
    (0,), 2, 0, 0, ((0, (1,)),), (Tangent(0, "", (2,), (1,)),), False, (1,), False, True, True
)
MUTATION = Mutation(0, MutationKind.COPY, True, False, False)
PROGRAM = Program(2, (OUTPUT,), (MUTATION,), 0, (1,), None, "_dynamo_weak_dynamic_indices", TRAINING)
GRAPH = LeanGraph(CODE, {"cpp_fused_0": "ab"}, {"_tensor_constant0": torch.ones(2)}, (0, 1), (1,))
LEAN = LeanBackend(PROGRAM, GRAPH, LeanGraph(CODE, {}, {}), {"ab": LIBRARY})


def encoded(lean=LEAN):
    result = codecs.encode(Kind.LEAN_BACKEND, lean)
    return result, {
        blob.key: StoredBlob(blob.kind, blob.version, bytes(blob.data)) for blob in result.children
    }


def decode(body, blobs):
    return codecs.decode(Kind.LEAN_BACKEND, 1, body, blobs.__getitem__)


def test_a_backend_comes_back_with_its_libraries_code_and_constants():
    result, blobs = encoded()
    assert [blob.kind for blob in result.children] == [Kind.LIBRARY, Kind.CODE, Kind.TENSOR]
    back = decode(result.root.data, blobs)
    assert back.program == PROGRAM
    assert back.libraries == {"ab": LIBRARY}
    assert back.forward.kernels == GRAPH.kernels
    assert torch.equal(back.forward.constants["_tensor_constant0"], torch.ones(2))
    assert (back.forward.check, back.forward.restore) == ((0, 1), (1,))


@settings(max_examples=200, deadline=None)
@given(program=programs())
def test_every_program_comes_back(program):
    check_program(program)
    backward = None if program.training is None else LeanGraph(CODE, {}, {})
    result, blobs = encoded(LeanBackend(program, LeanGraph(CODE, {}, {}), backward, {}))
    assert decode(result.root.data, blobs).program == program


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"inputs": 1}, "mutated input 1 of 1"),
        ({"inputs": -1, "versions": (), "mutations": (), "outputs": ()}, "number of inputs is -1"),
        ({"dynamic_mark": "__class__"}, "unknown mark"),
        ({"versions": (2,)}, "mutated input 2 of 2"),
        ({"outputs": (OUTPUT._replace(base=2),)}, "base 2 of 2"),
        ({"outputs": (OUTPUT._replace(kind=OutputKind.VIEW_OF_RESULT),)}, "base 1 of 1"),
        ({"outputs": (OUTPUT._replace(base=-1),)}, "base -1 of 2"),
        ({"outputs": (OUTPUT._replace(views=(View("a b", ()),)),)}, "'a b' is no view"),
        ({"outputs": (OUTPUT._replace(views=(View("t", ("eval x",)),)),)}, "'t' is no view"),
        ({"training": TRAINING._replace(saved=1)}, "counts of saved values"),
        ({"training": TRAINING._replace(numbers=-1)}, "counts of saved values"),
        ({"training": TRAINING._replace(detach=(5,))}, "detached input 5 of 2"),
        ({"training": TRAINING._replace(donated=(-1,))}, "negative index"),
        ({"training": TRAINING._replace(inputs=(-1,))}, "negative index"),
        ({"training": TRAINING._replace(tangents=(Tangent(2, "", (), ()),))}, "tangent 2 of 2"),
        (
            {"training": TRAINING._replace(tangents=(Tangent(0, "x", (), ()),))},
            "no memory format",
        ),
    ],
)
def test_indices_and_names_outside_their_limits_are_refused_on_both_sides(changes, reason):
    program = PROGRAM._replace(**changes)
    with pytest.raises(DecodeError, match=reason):
        check_program(program)
    with pytest.raises(EncodeError, match=reason):
        encoded(LEAN._replace(program=program))


def without_libraries(body):
    body.pop()


def kernel_without_name(body):
    body[1][1].append([1, "ab"])


def kernel_twice(body):
    body[1][1] *= 2


def child_without_a_key(body):
    body[1][0][1] = 1 << 40


def graph_without_a_field(body):
    body[1].pop()


def without_a_library(body):
    body[3] = []


def without_backward(body):
    body[2] = None


def program_field(value, *at):
    def change(body):
        place = body[0]
        for index in at[:-1]:
            place = place[index]
        place[at[-1]] = value

    return change


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (without_a_library, "a kernel without its library"),
        (without_backward, "a backward without its program"),
        (program_field([], 7), "not the 12 fields of a Training"),
        (program_field(True, 0), "expected int, got bool"),
        (program_field(9, 1, 0, 0), "9 is no OutputKind"),
        (program_field("x", 4), "expected a list, got str"),
        (program_field([[0, [1], 2]], 7, 4), "expected 2 values, got 3"),
        (program_field([1.5], 1, 0, 5, 0, 1), "1.5 is no argument of a view"),
        (program_field([["a"]], 1, 0, 5, 0, 1), "no argument of a view"),
        (without_libraries, "not a lean backend"),
        (kernel_without_name, "expected str, got int"),
        (kernel_twice, "out of order, or twice"),
        (child_without_a_key, "expected bytes, got int"),
        (graph_without_a_field, "not a lean backend"),
    ],
)
def test_a_body_with_other_fields_is_refused(change, reason):
    result, blobs = encoded()
    body = unpack(result.root.data)
    change(body)
    with pytest.raises(DecodeError, match=reason):
        decode(pack(body), blobs)


def test_a_field_that_came_later_takes_no_room_where_it_says_nothing():
    def fields(lean):
        result, blobs = encoded(lean)
        assert decode(result.root.data, blobs).program == lean.program
        return unpack(result.root.data)[0][7]

    saved = TRAINING._replace(inputs=(1,))
    assert fields(LEAN._replace(program=PROGRAM._replace(training=saved))) == [*fields(LEAN), [1]]
    result, blobs = encoded()
    body = unpack(result.root.data)
    body[0][7].append([])
    with pytest.raises(DecodeError, match="says nothing"):
        decode(pack(body), blobs)


def test_what_is_not_whole_is_not_encoded():
    with pytest.raises(EncodeError, match="no library for ab"):
        encoded(LEAN._replace(libraries={}))
    with pytest.raises(EncodeError, match="a backward without its program"):
        encoded(LEAN._replace(backward=None))
    with pytest.raises(EncodeError, match="not a LeanBackend"):
        codecs.encode(Kind.LEAN_BACKEND, PROGRAM)


def test_the_order_of_names_does_not_matter():
    other = Library("other.so", ("PyInit_kernel",), "", (), elf())
    graphs = [
        LeanGraph(CODE, dict(order), {}) for order in ([("a", "1"), ("b", "2")], [("b", "2"), ("a", "1")])
    ]
    program = PROGRAM._replace(training=None)
    libraries = [{"1": LIBRARY, "2": other}, {"2": other, "1": LIBRARY}]
    first, second = (
        encoded(LeanBackend(program, graph, None, known))[0]
        for graph, known in zip(graphs, libraries, strict=True)
    )
    assert first == second
