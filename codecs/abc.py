"""Define what a codec is.

A codec turns one kind of value into the body of a blob and back. Parts that are worth sharing
become blobs of their own: the encoder hands them to a sink, which answers with their content key,
and the decoder asks a source for them.

Bodies are canonical: equal values give equal bytes, in any process. Decoding calls nothing that the
bytes name, except what the codec's allow-list admits. Codecs hold no state; any thread may use
them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar, Generic, Protocol, TypeVar

from firebrick.errors import DecodeError, UnknownVersion
from firebrick.format import Kind
from firebrick.keys import ContentKey

T = TypeVar("T")


class Stored(Protocol):
    """Show a blob as a source gives it; a view must stay valid until `decode` returns."""

    @property
    def kind(self) -> Kind:
        """Tell the kind of the blob."""

    @property
    def version(self) -> int:
        """Tell the version of the codec that wrote the blob."""

    @property
    def data(self) -> bytes | memoryview:
        """Give the body, verified and not compressed."""


Sink = Callable[[Kind, bytes, int], ContentKey]  # adds a child blob (kind, body, codec version)
Source = Callable[[ContentKey], Stored]


class Codec(ABC, Generic[T]):
    """Turn values of one kind into bytes and back."""

    kind: ClassVar[Kind]
    version: ClassVar[int] = 1

    @abstractmethod
    def encode(self, value: T, sink: Sink) -> bytes:
        """Give the canonical body of `value`; children go to `sink` before it returns.

        Raises:
            CodecError: The value has no faithful encoding (EncodeError), names what is not allowed,
                or exceeds a limit.
        """

    @abstractmethod
    def decode(self, data: bytes | memoryview, source: Source, version: int) -> T:
        """Rebuild the value from a body that `version` of this codec wrote.

        The result owns its memory: nothing in it refers to `data` or to what `source` returned.

        Raises:
            CodecError: The bytes are not a valid encoding; nothing else is raised for bad bytes.
        """

    def check_version(self, version: int) -> None:
        """Raise UnknownVersion unless this codec reads `version`."""
        if version != self.version:
            raise UnknownVersion(self.kind, version)


def child(source: Source, key: bytes, kind: Kind) -> Stored:
    """Fetch a child blob and check that it is of the kind that its parent expects."""
    blob = source(ContentKey(bytes(key)))
    if blob.kind != kind:
        raise DecodeError(
            f"child {bytes(key).hex()[:12]} is a {Kind(blob.kind).name} blob, expected {kind.name}"
        )
    return blob
