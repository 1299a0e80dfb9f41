"""Encode backend functions for the compiler-free loader.

A lean backend implements one ``__compiled_fn_…`` of Dynamo's bytecode: the code of Inductor's wrapper
modules, kernels, constants, and a *program*: AOTAutograd's steps around them, as plain values.

The body is msgpack: ``[program, forward, backward or None, libraries]``. A graph is ``[[version, key] of its
CODE, kernels, constants, check, restore]`` with kernels ``[[name, digest of the request], …]`` and constants
``[[name, version, key], …]`` sorted by name. Up to three fields follow, as needed: its Triton kernels, as
`put_autotuned` returns them; the fields of `CudaGraphs` or None; the index of its GPU. Libraries are
``[[digest, version, key], …]`` sorted by digest. The fields of a program and of CUDA graphs are those of
their classes, in order; trailing defaults are omitted.
"""

import functools
import types
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from firebrick.base.namedtuple import NamedTuple
from firebrick.codecs._typed import plain, rebuilt, typed
from firebrick.codecs.abc import Codec, Sink, Source, child
from firebrick.codecs.code import CodeCodec
from firebrick.codecs.lean_program import Program, check_program
from firebrick.codecs.library import Library, LibraryCodec
from firebrick.errors import DecodeError, EncodeError
from firebrick.storage.format import Kind
from firebrick.storage.msgpack import Limits, pack, unpack

if TYPE_CHECKING:
    from firebrick.codecs.launch import Autotuned, Choose
    from firebrick.codecs.tensor import TensorCodec


_LIMITS = Limits(size=64 << 20, depth=12)
_NO_LAUNCHES: "Mapping[str, Autotuned]" = types.MappingProxyType({})
_CODE, _LIBRARY = CodeCodec(), LibraryCodec()


class CudaGraphs(NamedTuple):
    """The parts of a wrapper to capture in CUDA graphs.

    Args:
        device: index of the device.
        static: for each partition of the wrapper, the arguments with fixed addresses.
    """

    device: int
    static: tuple[tuple[int, ...], ...]


class LeanGraph(NamedTuple):
    """One graph compiled by Inductor.

    Args:
        code: code of a module that defines ``call(args)`` in terms of the runtime's names.
        kernels: global name -> digest (hex) of the request of its library.
        constants: global name -> tensor.
        check: inputs to copy if misaligned.
        restore: those of them that the graph mutates.
        launches: global name -> Triton kernel.
        cuda_graphs: None if every kernel is launched individually.
        device: index of the GPU it was compiled for, if it can move to another of the same kind.
    """

    code: types.CodeType
    kernels: Mapping[str, str]
    constants: Mapping[str, Any]
    check: tuple[int, ...] = ()
    restore: tuple[int, ...] = ()
    launches: "Mapping[str, Autotuned]" = _NO_LAUNCHES
    cuda_graphs: CudaGraphs | None = None
    device: int | None = None


class LeanBackend(NamedTuple):
    """A backend function; `libraries` by the digest (hex) of the request that loads them."""

    program: Program
    forward: LeanGraph
    backward: LeanGraph | None
    libraries: Mapping[str, Library]


class LeanBackendCodec(Codec[LeanBackend]):
    """The codec of lean backends. Nothing decoded is run or loaded here."""

    kind = Kind.LEAN_BACKEND

    def encode(self, value: LeanBackend, sink: Sink) -> bytes:
        """Return the body; code, libraries and constants are children.

        Raises:
            EncodeError: a part has no faithful encoding, or a kernel has no library.
        """
        if not isinstance(value, LeanBackend):
            raise EncodeError(type(value).__name__, reason="not a LeanBackend")
        try:
            check_program(value.program)
        except DecodeError as error:
            raise EncodeError("Program", reason=error.reason) from None
        graphs = [graph for graph in (value.forward, value.backward) if graph is not None]
        if (value.backward is None) != (value.program.training is None):
            raise EncodeError("LeanBackend", reason="a backward without its program, or the other way round")
        for digest in {digest for graph in graphs for digest in graph.kernels.values()}:
            if digest not in value.libraries:
                raise EncodeError("LeanBackend", reason=f"no library for {digest[:12]}")
        libraries = [
            [digest, _LIBRARY.version, sink(Kind.LIBRARY, _LIBRARY.encode(library, sink), _LIBRARY.version)]
            for digest, library in sorted(value.libraries.items())
        ]
        forward = _put_graph(value.forward, sink)
        backward = None if value.backward is None else _put_graph(value.backward, sink)
        return pack([plain(value.program), forward, backward, libraries], maps=False)

    def decode(self, data: bytes | memoryview, source: Source, version: int) -> LeanBackend:
        """Rebuild a lean backend with every configuration of its Triton kernels."""
        return self.choosing(data, source, version, None)

    def choosing(
        self, data: bytes | memoryview, source: Source, version: int, choose: "Choose | None"
    ) -> LeanBackend:
        """Rebuild a lean backend.

        Args:
            data, source, version: as for `decode`.
            choose: decides which configuration of a Triton kernel is fetched; its exceptions propagate.

        Raises:
            DecodeError: these are not a lean backend's fields, or an index is out of range.
        """
        self.check_version(version)
        try:
            program, forward, backward, libraries = unpack(data, _LIMITS)
            decoded = LeanBackend(
                rebuilt(Program, program),
                _get_graph(forward, source, choose),
                None if backward is None else _get_graph(backward, source, choose),
                {
                    digest: _LIBRARY.decode(_child(source, key, Kind.LIBRARY), source, v)
                    for digest, v, key in _named(libraries)
                },
            )
        except (TypeError, ValueError) as error:
            raise DecodeError(f"not a lean backend: {error}") from None
        check_program(decoded.program)
        if (decoded.backward is None) != (decoded.program.training is None):
            raise DecodeError("a backward without its program, or the other way round")
        for graph in (decoded.forward, decoded.backward):
            if graph is not None and not decoded.libraries.keys() >= set(graph.kernels.values()):
                raise DecodeError("a kernel without its library")
        return decoded


def _put_graph(graph: LeanGraph, sink: Sink) -> list[Any]:
    code = sink(Kind.CODE, _CODE.encode(graph.code, sink), _CODE.version)
    constants = []
    for name, value in sorted(graph.constants.items()):
        codec = _tensor_codec()
        key = sink(Kind.TENSOR, codec.encode(value, sink), codec.version)
        constants.append([name, codec.version, key])
    kernels = [list(item) for item in sorted(graph.kernels.items())]
    fields = [[_CODE.version, code], kernels, constants, list(graph.check), list(graph.restore)]
    launches: list[Any] = []
    if graph.launches:
        from firebrick.codecs.launch import put_autotuned

        launches = put_autotuned(graph.launches, sink)
    more = [launches, None if graph.cuda_graphs is None else plain(graph.cuda_graphs), graph.device]
    while more and more[-1] in (None, []):
        more.pop()
    return fields + more


def _get_graph(fields: Any, source: Source, choose: "Choose | None") -> LeanGraph:
    (version, key), kernels, constants, check, restore, *more = fields
    if len(more) > 3 or (more and more[-1] in (None, [])):
        raise DecodeError(f"{len(fields)} fields of a graph, or nothing where something belongs")
    put, graphs, device = [*more, None, None, None][:3]
    launches: Mapping[str, Autotuned] = _NO_LAUNCHES
    if put:
        from firebrick.codecs.launch import get_autotuned  # not needed for a start on a CPU

        launches = get_autotuned(put, source, choose)
    cuda_graphs = None if graphs is None else rebuilt(CudaGraphs, graphs)
    places = [device, None if cuda_graphs is None else cuda_graphs.device]
    for place in places:
        if place is not None and (type(place) is not int or place < 0):
            raise DecodeError(f"a graph for device {place!r:.20}")
    return LeanGraph(
        _CODE.decode(_child(source, key, Kind.CODE), source, version),
        {name: typed(digest, str) for name, digest in _named(kernels)},
        {
            name: _tensor_codec().decode(_child(source, key, Kind.TENSOR), source, version)
            for name, version, key in _named(constants)
        },
        typed(check, tuple[int, ...]),
        typed(restore, tuple[int, ...]),
        launches,
        cuda_graphs,
        device,
    )


@functools.cache
def _tensor_codec() -> "TensorCodec":
    from firebrick.codecs.tensor import TensorCodec  # few graphs have constants

    return TensorCodec()


def _child(source: Source, key: Any, kind: Kind) -> bytes | memoryview:
    return child(source, typed(key, bytes), kind).data


def _named(items: list[Any]) -> list[Any]:
    """Check that lists begin with unique, sorted names."""
    names = [typed(name, str) for name, *_ in items]
    if names != sorted(set(names)):
        raise DecodeError("names out of order, or twice")
    return items
