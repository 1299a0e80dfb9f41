"""Encode the launch of a Triton kernel in one configuration, for a process without Triton.

The body lists the fields of `Launch`, in order, with ``[version, key]`` of the kernel's TRITON blob, which
the full lane's artifact names too, in place of the kernel. A grid consists of expressions: an integer, or
``[operation, operands …]``; operations are in `OPERATIONS`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from firebrick.base.namedtuple import NamedTuple
from firebrick.codecs.abc import Codec, Sink, Source, child
from firebrick.codecs.triton import TritonCodec, TritonKernel
from firebrick.errors import CodecError, DecodeError, EncodeError
from firebrick.storage.format import Kind
from firebrick.storage.msgpack import Limits, pack, unpack

Expression = int | tuple[Any, ...]

# Name -> least and largest number of operands. The operand of `argument` and `temporary` is an index;
# `guarded` is 0 if its first operand is 0, else its second.
OPERATIONS: Final[Mapping[str, tuple[int, int]]] = {
    "argument": (1, 1),
    "temporary": (1, 1),
    "negative": (1, 1),
    "add": (2, 2),
    "subtract": (2, 2),
    "multiply": (2, 2),
    "divide": (2, 2),  # rounding down
    "modulo": (2, 2),
    "maximum": (2, 64),
    "minimum": (2, 64),
    "guarded": (2, 2),
}
LETTERS: Final = frozenset("ObhilBHIKfd")  # of arguments, as torch's static launcher reads them
MAX_ARGUMENTS: Final = 512
MAX_SCRATCH: Final = 2  # one for the kernel, one for profiles
MAX_WARPS: Final = 64

_LIMITS = Limits(size=1 << 20, depth=40)
_TRITON = TritonCodec()
_SYMBOL = re.compile(r"[A-Za-z_$][A-Za-z0-9_$.]{0,1023}\Z")


class Launch(NamedTuple):
    """The launch of a kernel.

    Args:
        symbol: name of the entry point in the binary.
        configuration: names the configuration it was compiled for: block sizes, warps, stages.
        architecture: of the binary, 90 for sm_90.
        arguments: number of arguments a wrapper passes.
        passed: indices of those the kernel takes; the others only affect the grid.
        letters: the type of each argument the kernel takes, one of `LETTERS`.
        scratch: number of null pointers after them.
        temporaries: values the grid uses more than once; each may use earlier ones.
        grid: numbers of blocks in x, y and z.
        warps: per block.
        shared: bytes of dynamic shared memory.
        kernel: its binary.
    """

    symbol: str
    configuration: str
    architecture: int
    arguments: int
    passed: tuple[int, ...]
    letters: str
    scratch: int
    temporaries: tuple[Expression, ...]
    grid: tuple[Expression, Expression, Expression]
    warps: int
    shared: int
    kernel: TritonKernel


class Choice(NamedTuple):
    """The inputs to the choice of a kernel's configuration.

    Args:
        source: digest of the kernel's source, torch's `kernel_hash`.
        device: index of the device torch compiled it for.
        descends: torch continues from the fastest configuration to others not yet compiled.
        configurations: named as in `Launch.configuration`.
    """

    source: str
    device: int
    descends: bool
    configurations: tuple[str, ...]


class Autotuned(NamedTuple):
    """A kernel with all configurations that torch compiled; loading decides which one is launched.

    The first fields are those of `Choice`.
    """

    source: str
    device: int
    descends: bool
    launches: tuple[Launch, ...]

    @property
    def choice(self) -> Choice:
        """The inputs to the choice between the configurations."""
        return Choice(*self[:3], tuple(launch.configuration for launch in self.launches))


# Returns the index of the configuration to launch, or a launch of another configuration.
Choose = Callable[[Choice], int | Launch]


def _check_expression(value: Any, arguments: int, temporaries: int) -> Expression:
    """Return an expression with lists as tuples; raise DecodeError if it is invalid."""
    if type(value) is int:
        return value
    if type(value) not in (list, tuple) or not value or value[0] not in OPERATIONS:
        raise DecodeError(f"{value!r:.60} is no expression of a grid")
    name, *operands = value
    least, most = OPERATIONS[name]
    if not least <= len(operands) <= most:
        raise DecodeError(f"{name} of {len(operands)} operands")
    if name in ("argument", "temporary"):
        count = arguments if name == "argument" else temporaries
        if type(operands[0]) is not int or not 0 <= operands[0] < count:
            raise DecodeError(f"{name} {operands[0]!r:.20} of {count}")
        return name, operands[0]
    return name, *(_check_expression(operand, arguments, temporaries) for operand in operands)


def _checked(fields: list[Any], kernel: TritonKernel) -> Launch:
    symbol, configuration, *numbers, passed, letters, scratch, temporaries, grid, warps, shared = fields
    architecture, arguments = numbers
    for value, kind in ((symbol, str), (configuration, str), (letters, str)):
        if type(value) is not kind:
            raise DecodeError(f"{value!r:.40} where a text belongs")
    for what, value, least, most in (
        ("architecture", architecture, 1, 1 << 16),
        ("arguments", arguments, 0, MAX_ARGUMENTS),
        ("scratch", scratch, 0, MAX_SCRATCH),
        ("warps", warps, 1, MAX_WARPS),
        ("shared memory", shared, 0, 1 << 30),
    ):
        if type(value) is not int or not least <= value <= most:
            raise DecodeError(f"{what} {value!r:.20}, expected {least} to {most}")
    if not _SYMBOL.match(symbol):
        raise DecodeError(f"{symbol!r:.40} is no symbol")
    if any(type(index) is not int or not 0 <= index < arguments for index in passed):
        raise DecodeError(f"a kernel that takes argument {max(passed)!r:.20} of {arguments}")
    if len(letters) != len(passed) or not LETTERS.issuperset(letters):
        raise DecodeError(f"types {letters!r:.40} of {len(passed)} arguments")
    if len(grid) != 3:
        raise DecodeError(f"a grid of {len(grid)} dimensions")
    x, y, z = (_check_expression(value, arguments, len(temporaries)) for value in grid)
    return Launch(
        symbol,
        configuration,
        architecture,
        arguments,
        tuple(passed),
        letters,
        scratch,
        tuple(_check_expression(value, arguments, index) for index, value in enumerate(temporaries)),
        (x, y, z),
        warps,
        shared,
        kernel,
    )


def _plain(value: Any) -> Any:
    return [_plain(item) for item in value] if isinstance(value, tuple) else value


class LaunchCodec(Codec[Launch]):
    """The codec of launches; nothing decoded is loaded here."""

    kind = Kind.LAUNCH

    def encode(self, value: Launch, sink: Sink) -> bytes:
        """Return the fields; the kernel is a child."""
        if not isinstance(value, Launch):
            raise EncodeError(type(value).__name__, reason="not a Launch")
        fields = [_plain(field) for field in value[:-1]]
        try:
            _checked(fields, value.kernel)
        except (DecodeError, TypeError, ValueError) as error:
            raise EncodeError("Launch", str(value.symbol)[:80], str(error)) from None
        key = sink(Kind.TRITON, _TRITON.encode(value.kernel, sink), _TRITON.version)
        return pack([*fields, [_TRITON.version, key]], maps=False)

    def decode(self, data: bytes | memoryview, source: Source, version: int) -> Launch:
        """Rebuild a launch.

        Raises:
            DecodeError: these are not a launch's fields, or an index or number is out of range.
        """
        self.check_version(version)
        try:
            *fields, (kernel_version, key) = unpack(data, _LIMITS)
            launch = _checked(fields, TritonKernel("", ()))
            blob = child(source, key, Kind.TRITON)
            return launch._replace(kernel=_TRITON.decode(blob.data, source, kernel_version))
        except CodecError:
            raise
        except (TypeError, ValueError) as error:
            raise DecodeError(f"not a launch: {error}") from None


_LAUNCH = LaunchCodec()


def put_autotuned(kernels: Mapping[str, Autotuned], sink: Sink) -> list[Any]:
    """Return ``[name, source, device, descends, [[configuration, version, key], …]]`` per kernel, by name.

    Raises:
        EncodeError: a kernel has no configuration, a repeated one, or cannot be encoded.
    """
    fields = []
    for name, kernel in sorted(kernels.items()):
        launches = [
            [
                launch.configuration,
                _LAUNCH.version,
                sink(Kind.LAUNCH, _LAUNCH.encode(launch, sink), _LAUNCH.version),
            ]
            for launch in kernel.launches
        ]
        if not launches or len(set(kernel.choice.configurations)) < len(launches):
            raise EncodeError("Autotuned", name, f"{len(launches)} configurations, not all different")
        fields.append([name, kernel.source, kernel.device, kernel.descends, launches])
    return fields


def get_autotuned(fields: list[Any], source: Source, choose: Choose | None) -> dict[str, Autotuned]:
    """Rebuild kernels by name; with `choose` each has only the configuration to launch.

    Raises:
        DecodeError, TypeError, ValueError: the fields are invalid. `choose` may raise more.
    """
    kernels: dict[str, Autotuned] = {}
    for name, digest, device, descends, launches in fields:
        types = type(name), type(digest), type(device), type(descends)
        if types != (str, str, int, bool) or device < 0 or not launches:
            raise DecodeError(f"{name!r:.60} is no kernel with its configurations")
        if kernels and name <= max(kernels):
            raise DecodeError("kernels out of order, or twice")
        configurations = tuple(configuration for configuration, _, _ in launches)
        if len(set(configurations)) < len(launches) or {*map(type, configurations)} != {str}:
            raise DecodeError(f"configurations of {name:.60} that are not all different")

        def launch(configuration: str, version: int, key: bytes) -> Launch:
            blob = child(source, key, Kind.LAUNCH)
            decoded = _LAUNCH.decode(blob.data, source, version)
            if decoded.configuration != configuration:
                raise DecodeError("a launch of another configuration")
            return decoded

        if choose is None:
            chosen = tuple(launch(*entry) for entry in launches)
        else:
            found = choose(Choice(digest, device, descends, configurations))
            chosen = (found if isinstance(found, Launch) else launch(*launches[found]),)
        kernels[name] = Autotuned(digest, device, descends, chosen)
    return kernels
