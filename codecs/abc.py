"""The interface of codecs.

A codec turns one kind of value into the body of a blob and back. Parts worth sharing become separate blobs:
the encoder passes them to a sink, which returns their content key, and the decoder asks a source for them.

Bodies are canonical: equal values give equal bytes, in any process. Decoding calls nothing the bytes name
unless the codec's allow-list admits it. Codecs hold no state; any thread may use them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from typing import Any, ClassVar, Final, Generic, Protocol, TypeVar

from firebrick.errors import DecodeError, LimitExceeded, UnknownVersion
from firebrick.storage.format import KEY_BYTES, Kind
from firebrick.storage.keys import ContentKey

T = TypeVar("T")
MAX_COUNT: Final = 1 << 20  # of values that a number in an encoding may demand


class Stored(Protocol):
    """A blob as returned by a source; a view must stay valid until `decode` returns."""

    @property
    def kind(self) -> Kind:
        """The kind of the blob."""

    @property
    def version(self) -> int:
        """The version of the codec that wrote the blob."""

    @property
    def data(self) -> bytes | memoryview:
        """The body, verified and uncompressed."""


Sink = Callable[[Kind, bytes, int], ContentKey]  # adds a child blob (kind, body, codec version)
Source = Callable[[ContentKey], Stored]


class Codec(ABC, Generic[T]):
    """A converter of values of one kind to bytes and back."""

    kind: ClassVar[Kind]
    version: ClassVar[int] = 1

    @abstractmethod
    def encode(self, value: T, sink: Sink) -> bytes:
        """Return the canonical body of `value`; children go to `sink` before it returns.

        Raises:
            CodecError: The value has no faithful encoding (EncodeError), names something forbidden, or
                exceeds a limit.
        """

    @abstractmethod
    def decode(self, data: bytes | memoryview, source: Source, version: int) -> T:
        """Rebuild the value from a body written by `version` of this codec.

        The result owns its memory: nothing in it refers to `data` or to blobs from `source`.

        Raises:
            CodecError: The bytes are not a valid encoding; nothing else is raised for bad bytes.
        """

    def check_version(self, version: int) -> None:
        """Raise UnknownVersion unless this codec reads `version`."""
        if version != self.version:
            raise UnknownVersion(self.kind, version)


def child(source: Source, key: Any, kind: Kind) -> Stored:
    """Fetch a child blob and check that it is of the kind its parent expects.

    Args:
        source: Returns the blob.
        key: The key in the parent: 32 bytes, or the parent is invalid.
        kind: The expected kind.

    Raises:
        DecodeError: The key is invalid, or the blob is of another kind. `source` may raise more.
    """
    if type(key) is not bytes or len(key) != KEY_BYTES:
        raise DecodeError(f"{key!r:.40} is not a content key")
    blob = source(ContentKey(key))
    if blob.kind != kind:
        raise DecodeError(f"child {key.hex()[:12]} is a {Kind(blob.kind).name} blob, expected {kind.name}")
    return blob


def check_count(what: str, count: int) -> None:
    """Raise DecodeError for a number of things to make outside 0 to `MAX_COUNT`."""
    if not 0 <= count <= MAX_COUNT:
        raise DecodeError(f"{what} is {count}, expected 0 to {MAX_COUNT}")


def check_arguments(arguments: Iterable[Any]) -> None:
    """Refuse arguments from which a constructor makes far more than was encoded, such as a long range."""
    for argument in arguments:
        if type(argument) is range and argument[MAX_COUNT:]:
            length = (argument[-1] - argument[0]) // argument.step + 1
            raise LimitExceeded("length of a range", length, MAX_COUNT)
