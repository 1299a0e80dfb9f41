"""Encode backend artifacts of torch's PrecompileContext: AOTAutograd's and Inductor's output for one graph.

The body is an object graph under the policy of `_torch_policy`. Wrappers, Triton kernels, tensors and long
texts are children. The artifact's key, which holds a uuid, is left out.
"""

from __future__ import annotations

import copy
from typing import Any

from firebrick.codecs import _torch_policy
from firebrick.codecs._graph_format import VERSION
from firebrick.codecs.abc import Codec, Sink, Source
from firebrick.codecs.graph import decode_graph, encode_graph
from firebrick.errors import DecodeError, EncodeError
from firebrick.storage.format import Kind


def encode_backend(artifact: Any, sink: Sink) -> tuple[bytes, list[Any]]:
    """Encode a BackendCacheArtifact without its key.

    Returns:
        The body, and the volatile values (times, debugging texts) in the order met.

    Raises:
        CodecError: As for `encode_graph`; the message names the part that cannot be stored.
    """
    if not isinstance(getattr(artifact, "key", None), str):
        raise EncodeError(type(artifact).__name__, reason="not a backend artifact")
    body = copy.copy(artifact)
    del body.key
    return encode_graph(body, _torch_policy.policy(), sink)


def decode_backend(
    data: bytes | memoryview, source: Source, *, key: str, volatile: list[Any] | None = None
) -> Any:
    """Rebuild a BackendCacheArtifact, ready for `after_deserialization`.

    Args:
        data: The body.
        source: Returns the child blobs.
        key: This process's name for the artifact.
        volatile: The values `encode_backend` set aside; None leaves None in those attributes.

    Raises:
        CodecError: As for `decode_graph`. torch's modules must be imported already.
    """
    artifact = decode_graph(data, _torch_policy.policy(), source, volatile)
    if not hasattr(artifact, "after_deserialization"):
        raise DecodeError(f"a {type(artifact).__name__} is not a backend artifact")
    state = vars(artifact)
    attributes = {"key": key, **state}  # the key comes first in every artifact
    state.clear()
    state.update(attributes)
    return artifact


class BackendCodec(Codec[Any]):
    """The codec of backend artifacts without volatile values and key; `encode_backend` keeps them."""

    kind = Kind.BACKEND
    version = VERSION

    def encode(self, value: Any, sink: Sink) -> bytes:
        """Return the object graph of an artifact."""
        return encode_backend(value, sink)[0]

    def decode(self, data: bytes | memoryview, source: Source, version: int) -> Any:
        """Rebuild an artifact with an empty key."""
        self.check_version(version)
        return decode_backend(data, source, key="")
