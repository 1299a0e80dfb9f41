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
    """Name what an output of the function is."""

    PLAIN = 0  # what the graph returned: a tensor, a number or None
    INPUT = 1  # input `base` itself
    VIEW_OF_INPUT = 2  # a view of input `base`
    VIEW_OF_RESULT = 3  # a view of result `base` of the graph, counted behind the mutated inputs


class MutationKind(enum.IntEnum):
    """Name how a mutation that the graph left to its caller is applied to an input."""

    NONE = 0  # nothing to do: the graph resized the storage itself
    COPY = 1
    RESTRIDE = 2  # sizes, strides and offset change
    RESTRIDE_COPY = 3
    SET = 4  # the input gets another storage


class View(NamedTuple):
    """Hold one step of a recorded view: the operator's name and its arguments.

    The arguments are those of torch's ViewMeta: booleans, integers, tuples of integers, None,
    ``"mode …"`` for an inverse mode and ``"dtype …"``.
    """

    name: str
    arguments: tuple[Any, ...]


class Output(NamedTuple):
    """Hold one output.

    Args:
        kind: what it is.
        base: index of the input or result that it is, or is a view of; -1 for none.
        requires_grad: whether the function's output requires gradients.
        unsafe_view: it passes ``aten._unsafe_view`` when gradients are recorded.
        wrapped_base: the result that it is a view of is itself an alias.
        views: how to make it from its base; None: by its sizes and strides.
        dynamic: dimensions to mark as dynamic; None: no mark.
    """

    kind: OutputKind
    base: int
    requires_grad: bool
    unsafe_view: bool
    wrapped_base: bool
    views: tuple[View, ...] | None
    dynamic: tuple[int, ...] | None


class Mutation(NamedTuple):
    """Hold a mutation of an input that follows the graph.

    Args:
        index: of the input.
        kind: what to do.
        leaf: the input is a leaf; if it requires gradients its mutation is hidden from autograd.
        requires_grad: the updated value takes part in autograd.
        wrapped: autograd does not see the updated value.
    """

    index: int  # type: ignore[assignment]  # in place of that of tuples
    kind: MutationKind
    leaf: bool
    requires_grad: bool
    wrapped: bool


class Tangent(NamedTuple):
    """Hold which incoming gradient enters the backward graph, and the memory format it must have.

    Args:
        index: of the gradient, by the results of the forward.
        memory_format: name of a memory format, or "" where sizes and strides are given.
        sizes, strides: what the graph was compiled for.
    """

    index: int  # type: ignore[assignment]
    memory_format: str
    sizes: tuple[int, ...]
    strides: tuple[int, ...]


class Training(NamedTuple):
    """Hold what a function with a backward does beside its graphs.

    Args:
        detach: inputs that never get gradients.
        saved: number of results in front of the saved tensors.
        unchecked: number of saved tensors, at the end, whose version is not checked.
        numbers: number of saved integers and floats, behind the tensors.
        saved_dynamic: ``(index of a saved tensor, dimensions to mark as dynamic)``.
        tangents: gradients that enter the backward.
        deterministic: whether deterministic algorithms were on; None: not to be checked.
        donated: arguments of the backward that it may overwrite.
        mutates: the backward changes inputs that require gradients.
        always_connected: under ``create_graph`` the result is connected to the autograd graph even if
            no argument requires gradients.
        in_context: the backward runs in the ``contextvars`` context that the engine hands over.
        inputs: saved tensors that are inputs of the graph: they are saved as they are, views or not. The
            others are detached where they are views, as all of them are before torch 2.14.
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
        mutations: results of the graph in front of the outputs that update inputs.
        bases: number of results behind the outputs that only views are made of.
        versions: inputs whose version the graph's own mutations must bump.
        grad_enabled: gradient mode to set afterwards; None leaves it.
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
        """Number of results of the forward that the function itself uses."""
        return len(self.mutations) + len(self.outputs) + self.bases


def check_program(program: Program) -> None:
    """Check that all indices and names of a program are within their limits.

    Raises:
        DecodeError: naming the first that is not.
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
