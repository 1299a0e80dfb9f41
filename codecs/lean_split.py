"""Encode backend functions that are made of several, one for each part of a graph that torch has split.

torch's ``DDPOptimizer`` splits a graph so that the gradients of one bucket can be reduced while the backward
of the next still runs. A split is a list of steps between inputs and outputs. *Values* are numbered: first
the inputs, then what each step makes.

The body is msgpack: ``[inputs, steps, outputs, [[version, key] of each part, a LEAN_BACKEND]]``, with the
fields of `Step` in their order.
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
    """Make one value.

    Args:
        part: index of the part that is called; `NO_PART` for the one argument itself.
        arguments: numbers of the values that it gets.
        item: which item of the result is taken; None for all of it.
    """

    part: int
    arguments: tuple[int, ...]
    item: int | None


class Steps(NamedTuple):
    """Hold how the parts of a graph are put together.

    Args:
        inputs: how many values the function gets.
        steps: in the order in which they are taken.
        outputs: numbers of the values that it returns.
    """

    inputs: int
    steps: tuple[Step, ...]
    outputs: tuple[int, ...]


class LeanSplit(NamedTuple):
    """Hold a backend function and its parts."""

    steps: Steps
    parts: tuple[LeanBackend, ...]


def check_steps(steps: Steps, parts: int) -> None:
    """Check that every number is that of a value which is there, or of a part.

    Raises:
        DecodeError: naming the first that is not.
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
    """Give the body of a split whose parts are encoded.

    Args:
        steps: how they are put together.
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
    """Give the steps of a split, and codec version and content key of its parts.

    Raises:
        DecodeError: these are not the fields of one.
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
    """Encode split backends. Nothing that is decoded is run or loaded here."""

    kind = Kind.LEAN_SPLIT

    def encode(self, value: LeanSplit, sink: Sink) -> bytes:
        """Give the body; the parts are children."""
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
            DecodeError: these are not the fields of one, or a number is out of range.
        """
        self.check_version(version)
        steps, keys = get_split(data)
        parts = (
            _BACKEND.decode(child(source, key, Kind.LEAN_BACKEND).data, source, part_version)
            for part_version, key in keys
        )
        return LeanSplit(steps, tuple(parts))
