"""Describe what AOTAutograd does around the graphs of a lean backend, as plain values.

The fields are written in their order; fields at the end that have their default are left out.
"""

import enum
from typing import Any, Final

from firebrick.base.namedtuple import NamedTuple
from firebrick.codecs.abc import check_count
from firebrick.errors import DecodeError

DYNAMIC_MARKS: Final = ("_dynamo_weak_dynamic_indices", "_dynamo_propagated_dynamic_indices")
MEMORY_FORMATS: Final = ("contiguous_format", "channels_last", "channels_last_3d", "preserve_format")


class OutputKind(enum.IntEnum):
    """The kinds of outputs of the function."""

    PLAIN = 0  # the graph's own result: a tensor, a number or None
    INPUT = 1  # input `base` itself
    VIEW_OF_INPUT = 2  # a view of input `base`
    VIEW_OF_RESULT = 3  # a view of the graph's result `base`, counted after the mutated inputs


class MutationKind(enum.IntEnum):
    """The ways to apply to an input a mutation that the graph left to its caller."""

    NONE = 0  # nothing to do: the graph resized the storage itself
    COPY = 1
    RESTRIDE = 2  # sizes, strides and offset change
    RESTRIDE_COPY = 3
    SET = 4  # the input gets another storage


class View(NamedTuple):
    """One step of a recorded view: the operator's name and its arguments.

    The arguments are those of torch's ViewMeta: booleans, integers, tuples of integers, None,
    ``"mode …"`` for an inverse mode and ``"dtype …"``.
    """

    name: str
    arguments: tuple[Any, ...]


class Output(NamedTuple):
    """One output.

    Args:
        kind: the kind of output.
        base: index of the input or result that it is, or views; -1 for none.
        requires_grad: whether the function's output requires gradients.
        unsafe_view: it passes ``aten._unsafe_view`` when gradients are recorded.
        wrapped_base: the result it views is itself an alias.
        views: how to make it from its base; None to use its sizes and strides.
        dynamic: dimensions to mark as dynamic; None for no mark.
    """

    kind: OutputKind
    base: int
    requires_grad: bool
    unsafe_view: bool
    wrapped_base: bool
    views: tuple[View, ...] | None
    dynamic: tuple[int, ...] | None


class Mutation(NamedTuple):
    """A mutation of an input after the graph.

    Args:
        index: of the input.
        kind: what to do.
        leaf: the input is a leaf; if it requires gradients its mutation is hidden from autograd.
        requires_grad: the updated value takes part in autograd.
        wrapped: autograd does not see the updated value.
    """

    index: int  # type: ignore[assignment]  # replaces tuple.index
    kind: MutationKind
    leaf: bool
    requires_grad: bool
    wrapped: bool


class Tangent(NamedTuple):
    """An incoming gradient of the backward graph, and the memory format it must have.

    Args:
        index: of the gradient, among the results of the forward.
        memory_format: name of a memory format, or "" if sizes and strides are given.
        sizes, strides: those the graph was compiled for.
    """

    index: int  # type: ignore[assignment]
    memory_format: str
    sizes: tuple[int, ...]
    strides: tuple[int, ...]


class Training(NamedTuple):
    """The steps of a function with a backward around its graphs.

    Args:
        detach: inputs that never get gradients.
        saved: number of results before the saved tensors.
        unchecked: number of saved tensors, at the end, whose version is not checked.
        numbers: number of saved integers and floats, after the tensors.
        saved_dynamic: ``(index of a saved tensor, dimensions to mark as dynamic)``.
        tangents: gradients that enter the backward.
        deterministic: whether deterministic algorithms were on; None to skip the check.
        donated: arguments of the backward that it may overwrite.
        mutates: the backward changes inputs that require gradients.
        always_connected: under ``create_graph`` the result is connected to the autograd graph even if no
            argument requires gradients.
        in_context: the backward runs in the ``contextvars`` context passed by the engine.
        inputs: saved tensors that are inputs of the graph and are saved unchanged. Any others that are views
            are detached, as all are before torch 2.14.
    """

    detach: tuple[int, ...]
    saved: int
    unchecked: int
    numbers: int
    saved_dynamic: tuple[tuple[int, tuple[int, ...]], ...]
    tangents: tuple[Tangent, ...]
    deterministic: bool | None
    donated: tuple[int, ...]
    mutates: bool
    always_connected: bool
    in_context: bool
    inputs: tuple[int, ...] = ()


class Program(NamedTuple):
    """Hold what AOTAutograd does around compiled graphs.

    Args:
        inputs: number of inputs.
        outputs: in their order.
        mutations: results of the graph before the outputs that update inputs.
        bases: number of results after the outputs that serve only as bases of views.
        versions: inputs whose version the graph's own mutations must bump.
        grad_enabled: gradient mode to set afterwards; None to leave it.
        dynamic_mark: attribute that marks dynamic dimensions, one of `DYNAMIC_MARKS`.
        training: None for a function without backward.
    """

    inputs: int
    outputs: tuple[Output, ...]
    mutations: tuple[Mutation, ...]
    bases: int
    versions: tuple[int, ...]
    grad_enabled: bool | None
    dynamic_mark: str
    training: Training | None

    @property
    def results(self) -> int:
        """The number of results of the forward that the function itself uses."""
        return len(self.mutations) + len(self.outputs) + self.bases


def check_program(program: Program) -> None:
    """Check that all indices and names of a program are valid.

    Raises:
        DecodeError: naming the first that is invalid.
    """
    results, training = len(program.outputs) + program.bases, program.training

    def index(what: str, number: int, count: int) -> None:
        if not 0 <= number < count:
            raise DecodeError(f"{what} {number} of {count}")

    check_count("number of inputs", program.inputs)
    check_count("number of bases", program.bases)
    if program.dynamic_mark not in DYNAMIC_MARKS:
        raise DecodeError("a program with an unknown mark")
    for number in (*program.versions, *(m.index for m in program.mutations)):
        index("mutated input", number, program.inputs)
    for output in program.outputs:
        if output.kind is OutputKind.PLAIN:
            continue
        index("base", output.base, results if output.kind is OutputKind.VIEW_OF_RESULT else program.inputs)
        for view in output.views or ():
            texts = [text.partition(" ") for text in view.arguments if type(text) is str]
            named = all(kind in ("mode", "dtype") and name.isidentifier() for kind, _, name in texts)
            if not view.name.isidentifier() or not named:
                raise DecodeError(f"{view.name!r:.40} is no view")
    if training is None:
        return
    if min(training.saved, training.unchecked, training.numbers) < 0 or training.saved < program.results:
        raise DecodeError("a program with impossible counts of saved values")
    for number in training.detach:
        index("detached input", number, program.inputs)
    for tangent in training.tangents:
        index("tangent", tangent.index, program.results)
        if tangent.memory_format not in ("", *MEMORY_FORMATS):
            raise DecodeError(f"{tangent.memory_format!r:.40} is no memory format")
    if any(number < 0 for number in (*training.donated, *training.inputs)):
        raise DecodeError("a donated argument or a saved input with a negative index")
