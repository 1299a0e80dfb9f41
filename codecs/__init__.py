"""Encode torch.compile's products as blobs and decode them: one codec per kind.

The table below is the registration; no codec is discovered.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from typing import Any, Final

from firebrick.base.namedtuple import NamedTuple
from firebrick.codecs.abc import Codec, Source
from firebrick.errors import DecodeError, UnknownKind
from firebrick.storage.blob import Blob
from firebrick.storage.format import Kind
from firebrick.storage.keys import ContentKey, content_key

__all__ = ["CODECS", "Collector", "Encoded", "codec_for", "decode", "encode"]

# kind -> module and class
_TABLE: Final[dict[Kind, tuple[str, str]]] = {
    Kind.BACKEND: ("backend", "BackendCodec"),
    Kind.BUNDLE: ("bundle", "ManifestCodec"),
    Kind.CODE: ("code", "CodeCodec"),
    Kind.DYNAMO: ("dynamo", "DynamoCodec"),
    Kind.GRAPH: ("graph", "GraphCodec"),
    Kind.GUARDS: ("guards", "GuardsCodec"),
    Kind.GUARD_PROGRAM: ("guard_program", "GuardProgramCodec"),
    Kind.LAUNCH: ("launch", "LaunchCodec"),
    Kind.LEAN_BACKEND: ("lean_backend", "LeanBackendCodec"),
    Kind.LEAN_SPLIT: ("lean_split", "LeanSplitCodec"),
    Kind.LIBRARY: ("library", "LibraryCodec"),
    Kind.TENSOR: ("tensor", "TensorCodec"),
    Kind.TEXT: ("text", "TextCodec"),
    Kind.TRITON: ("triton", "TritonCodec"),
    Kind.WRAPPER: ("wrapper", "WrapperCodec"),
}


class _Codecs(Mapping[Kind, Codec[Any]]):
    """The codecs by kind; each module is imported on first use."""

    def __init__(self) -> None:
        self._made: dict[Kind, Codec[Any]] = {}

    def __getitem__(self, kind: Kind) -> Codec[Any]:
        if (codec := self._made.get(kind)) is None:
            module, name = _TABLE[kind]
            codec = getattr(importlib.import_module(f"firebrick.codecs.{module}"), name)()
            self._made[kind] = codec
        return codec

    def __iter__(self) -> Iterator[Kind]:
        return iter(_TABLE)

    def __len__(self) -> int:
        return len(_TABLE)


CODECS: Final[Mapping[Kind, Codec[Any]]] = _Codecs()


class Encoded(NamedTuple):
    """The blobs of one artifact; each child occurs once, before its parents."""

    root: Blob
    children: list[Blob]


class Collector:
    """A sink that collects child blobs. Use from one thread."""

    def __init__(self) -> None:
        self.blobs: dict[ContentKey, Blob] = {}

    def __call__(self, kind: Kind, data: bytes, version: int) -> ContentKey:
        """Add a blob and return its key."""
        key = content_key(kind, data, version)
        self.blobs.setdefault(key, Blob(kind, data, version))
        return key


def codec_for(kind: int) -> Codec[Any]:
    """Return the codec of a kind; raise UnknownKind if there is none."""
    try:
        return CODECS[Kind(kind)]
    except (KeyError, ValueError):
        raise UnknownKind(kind) from None


def encode(kind: Kind, value: Any) -> Encoded:
    """Encode a value with the codec of its kind.

    Raises:
        UnknownKind: No codec is registered for `kind`.
        CodecError: The value cannot be encoded.
    """
    codec, sink = codec_for(kind), Collector()
    data = codec.encode(value, sink)
    return Encoded(Blob(kind, data, codec.version), list(sink.blobs.values()))


def decode(kind: int, version: int, data: bytes | memoryview, source: Source) -> Any:
    """Decode a body with the codec of its kind.

    Args:
        kind: Kind of the blob.
        version: Version of the codec that wrote it.
        data: The body, already checked against its content key.
        source: Returns child blobs, checked likewise.

    Raises:
        UnknownKind, UnknownVersion: This Firebrick cannot read it.
        CodecError: The bytes are invalid.
    """
    try:
        return codec_for(kind).decode(data, source, version)
    except (MemoryError, RecursionError) as error:
        raise DecodeError(f"more than this process can hold: {type(error).__name__}") from None
