"""Encode the Python source that Inductor generates around its kernels."""

from __future__ import annotations

from firebrick.codecs.text import TextCodec
from firebrick.storage.format import Kind


class WrapperCodec(TextCodec):
    """The codec of wrappers as strict UTF-8, because Python must be able to read them from a file."""

    kind = Kind.WRAPPER
    errors = "strict"
