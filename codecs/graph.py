"""Encode graphs of Python objects: like pickle, but canonical, allow-listed and without running stored code.

`Policy` lists what may be named, built and called; both directions check it.
"""

from __future__ import annotations

from typing import Any

from firebrick.codecs._graph_decode import Decoder
from firebrick.codecs._graph_encode import Encoder
from firebrick.codecs._graph_format import PLAIN, VERSION, Op, Policy
from firebrick.codecs._graph_nodes import Leaf
from firebrick.codecs.abc import Codec, Sink, Source
from firebrick.codecs.code import CodeCodec
from firebrick.codecs.guards import GuardsCodec
from firebrick.codecs.library import LibraryCodec
from firebrick.codecs.tensor import TensorFlag
from firebrick.codecs.text import TextCodec
from firebrick.codecs.triton import TritonCodec
from firebrick.codecs.wrapper import WrapperCodec
from firebrick.storage.format import Kind

__all__ = [
    "PLAIN",
    "GraphCodec",
    "Leaf",
    "Op",
    "Policy",
    "TensorFlag",
    "decode_graph",
    "encode_graph",
]


class GraphCodec(Codec[Any]):
    """The codec of containers, scalars, code objects and tensors; nothing is named, built or called."""

    kind = Kind.GRAPH
    version = VERSION

    def encode(self, value: Any, sink: Sink) -> bytes:
        """Return the nodes of the graph."""
        return Encoder(PLAIN, sink).finish(value)

    def decode(self, data: bytes | memoryview, source: Source, version: int) -> Any:
        """Rebuild the graph."""
        self.check_version(version)
        return decode_graph(data, PLAIN, source)


_CODECS: tuple[Codec[Any], ...] = (
    CodeCodec(),
    GraphCodec(),
    GuardsCodec(),
    LibraryCodec(),
    LibraryCodec(),
    TextCodec(),
    TritonCodec(),
    WrapperCodec(),
)
LEAVES: dict[Kind, Codec[Any]] = {codec.kind: codec for codec in _CODECS}


def encode_graph(value: Any, policy: Policy, sink: Sink) -> tuple[bytes, list[Any]]:
    """Encode everything reachable from `value`.

    Returns:
        The body of a blob of kind GRAPH (or of a kind that consists of a graph), and the volatile values (the
        objects themselves) in the order met.

    Raises:
        EncodeError: Something has no faithful encoding; `where` is the path to it.
        ForbiddenGlobal: The policy does not admit something that is named, built or called.
        LimitExceeded: Too many objects, or nested too deeply for Python's stack.

    Runs the objects' own `__reduce_ex__`; they must not change meanwhile.
    """
    encoder = Encoder(policy, sink)
    return encoder.finish(value), encoder.volatile


def decode_graph(
    data: bytes | memoryview, policy: Policy, source: Source, volatile: list[Any] | None = None
) -> Any:
    """Rebuild a value that `encode_graph` encoded.

    Args:
        data: The body.
        policy: The names, instances and calls admitted; only modules already imported are consulted.
        source: Returns the child blobs.
        volatile: The values `encode_graph` set aside; None puts None in their places.

    Raises:
        CodecError: The bytes are not a valid encoding, or ask for something the policy does not admit.
    """
    return Decoder(policy, source, volatile, LEAVES).run(data)
