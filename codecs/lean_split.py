"""Encode backend functions made of several, one for each part of a graph that torch split.

torch's ``DDPOptimizer`` splits a graph so that one bucket's gradients can be reduced while the next one's
backward still runs. A split is a list of steps between inputs and outputs. *Values* are numbered: first the
inputs, then each step's result.

The body is msgpack: ``[inputs, steps, outputs, [[version, key] of each part, a LEAN_BACKEND]]``, with the
fields of `Step` in order.
"""

from collections.abc import Sequence
from typing import Final

from firebrick.base.namedtuple import NamedTuple
from firebrick.codecs._typed import plain, typed
from firebrick.codecs.abc import Codec, Sink, Source, check_count, child
from firebrick.codecs.lean_backend import LeanBackend, LeanBackendCodec
from firebrick.errors import DecodeError, EncodeError
from firebrick.storage.format import Kind
from firebrick.storage.msgpack import Limits, pack, unpack

_LIMITS: Final = Limits(size=16 << 20, depth=5)
_BACKEND: Final = LeanBackendCodec()
NO_PART: Final = -1


class Step(NamedTuple):
    """A step that makes one value.

    Args:
        part: index of the part to call; `NO_PART` for the argument itself.
        arguments: numbers of its argument values.
        item: item of the result to take; None for all of it.
    """

    part: int
    arguments: tuple[int, ...]
    item: int | None


class Steps(NamedTuple):
    """The steps that join the parts of a graph.

    Args:
        inputs: number of the function's inputs.
        steps: in order of execution.
        outputs: numbers of the returned values.
    """

    inputs: int
    steps: tuple[Step, ...]
    outputs: tuple[int, ...]


class LeanSplit(NamedTuple):
    """A split backend function and its parts."""

    steps: Steps
    parts: tuple[LeanBackend, ...]


def check_steps(steps: Steps, parts: int) -> None:
    """Check that every number is that of an existing value or part.

    Raises:
        DecodeError: naming the first that is invalid.
    """
    check_count("number of inputs", steps.inputs)
    for made, (part, arguments, item) in enumerate(steps.steps, steps.inputs):
        if not NO_PART <= part < parts:
            raise DecodeError(f"part {part} of {parts}")
        if part == NO_PART and (len(arguments) != 1 or item is None):
            raise DecodeError("a step that does nothing")
        if item is not None and item < 0:
            raise DecodeError(f"item {item}")
        _check_values(arguments, made)
    _check_values(steps.outputs, steps.inputs + len(steps.steps))


def _check_values(numbers: tuple[int, ...], count: int) -> None:
    for number in numbers:
        if not 0 <= number < count:
            raise DecodeError(f"value {number} of {count}")


def put_split(steps: Steps, parts: Sequence[tuple[int, bytes]]) -> bytes:
    """Return the body of a split whose parts are encoded.

    Args:
        steps: how the parts are joined.
        parts: codec version and content key of each.

    Raises:
        EncodeError: a number is not that of a value or part.
    """
    try:
        check_steps(steps, len(parts))
    except DecodeError as error:
        raise EncodeError("Steps", reason=error.reason) from None
    return pack([*plain(steps), [list(part) for part in parts]], maps=False)


def get_split(data: bytes | memoryview) -> tuple[Steps, list[tuple[int, bytes]]]:
    """Return the steps of a split, and codec version and content key of its parts.

    Raises:
        DecodeError: these are not a split's fields.
    """
    try:
        inputs, steps, outputs, parts = unpack(data, _LIMITS)
        found = Steps(typed(inputs, int), typed(steps, tuple[Step, ...]), typed(outputs, tuple[int, ...]))
        keys = [(typed(version, int), typed(key, bytes)) for version, key in parts]
    except (TypeError, ValueError) as error:
        raise DecodeError(f"not a split backend: {error}") from None
    check_steps(found, len(keys))
    return found, keys


class LeanSplitCodec(Codec[LeanSplit]):
    """The codec of split backends. Nothing decoded is run or loaded here."""

    kind = Kind.LEAN_SPLIT

    def encode(self, value: LeanSplit, sink: Sink) -> bytes:
        """Return the body; the parts are children."""
        if not isinstance(value, LeanSplit):
            raise EncodeError(type(value).__name__, reason="not a LeanSplit")
        parts = [
            (_BACKEND.version, sink(Kind.LEAN_BACKEND, _BACKEND.encode(part, sink), _BACKEND.version))
            for part in value.parts
        ]
        return put_split(value.steps, parts)

    def decode(self, data: bytes | memoryview, source: Source, version: int) -> LeanSplit:
        """Rebuild a split with its parts.

        Raises:
            DecodeError: these are not a split's fields, or a number is out of range.
        """
        self.check_version(version)
        steps, keys = get_split(data)
        parts = (
            _BACKEND.decode(child(source, key, Kind.LEAN_BACKEND).data, source, part_version)
            for part_version, key in keys
        )
        return LeanSplit(steps, tuple(parts))
