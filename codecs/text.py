"""Encode text."""

from __future__ import annotations

from typing import ClassVar

from firebrick.codecs.abc import Codec, Sink, Source
from firebrick.errors import DecodeError, EncodeError
from firebrick.storage.format import Kind


class TextCodec(Codec[str]):
    """The codec of str as UTF-8: every character and line end is kept, even lone surrogates."""

    kind = Kind.TEXT
    errors: ClassVar[str] = "surrogatepass"

    def encode(self, value: str, sink: Sink) -> bytes:
        """Return the text as UTF-8."""
        try:
            return value.encode("utf-8", self.errors)
        except UnicodeEncodeError as error:
            raise EncodeError("str", reason=str(error)) from None

    def decode(self, data: bytes | memoryview, source: Source, version: int) -> str:
        """Read UTF-8."""
        self.check_version(version)
        try:
            return str(data, "utf-8", self.errors)
        except UnicodeDecodeError as error:
            raise DecodeError(f"{self.kind.name} blob: {error}") from None
