"""Texts and wrappers keep every character."""

import pytest

from firebrick import codecs
from firebrick.errors import DecodeError, EncodeError
from firebrick.storage.format import Kind


def trip(kind: Kind, text: str) -> object:
    root = codecs.encode(kind, text).root
    return codecs.decode(kind, root.version, memoryview(root.data), {}.__getitem__)


@pytest.mark.parametrize("kind", [Kind.TEXT, Kind.WRAPPER], ids=lambda kind: kind.name)
def test_line_ends_and_characters_are_kept(kind: Kind) -> None:
    text = "a\r\nb\rc\n\x0c\x00\u2028é\U0001f9f1\ufeff"
    assert trip(kind, text) == text
    assert codecs.encode(kind, text).root.data == text.encode()


def test_a_text_may_hold_lone_surrogates_and_a_wrapper_may_not() -> None:
    assert trip(Kind.TEXT, "\udcff") == "\udcff"
    with pytest.raises(EncodeError, match="surrogates"):
        codecs.encode(Kind.WRAPPER, "\udcff")
    surrogate = "\udcff".encode("utf-8", "surrogatepass")
    with pytest.raises(DecodeError, match="WRAPPER blob"):
        codecs.decode(Kind.WRAPPER, 1, surrogate, {}.__getitem__)


@pytest.mark.parametrize("kind", [Kind.TEXT, Kind.WRAPPER], ids=lambda kind: kind.name)
def test_what_is_not_utf8_is_refused(kind: Kind) -> None:
    with pytest.raises(DecodeError, match="invalid start byte"):
        codecs.decode(kind, 1, b"\xff", {}.__getitem__)
