"""Every codec, with everything: round trips, one form only, and no way to make it fail untyped."""

import contextlib
import dataclasses
import functools
import gc
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch._dynamo.package
import torch._functorch._aot_autograd.aot_autograd_result  # noqa: F401
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from firebrick import codecs
from firebrick.codecs._graph_format import LEAF_BYTES, MAX_NODES
from firebrick.codecs.graph import Op, Policy
from firebrick.codecs.library import MAX_HEADERS, MAX_NEEDED
from firebrick.codecs.triton import MAX_FILES
from firebrick.errors import BlobMissing, CodecError, UnknownKind, UnknownVersion
from firebrick.storage.blob import Blob, StoredBlob
from firebrick.storage.format import MAX_BLOB_BYTES, Kind
from firebrick.storage.keys import ContentKey
from firebrick.storage.manifest import Compiled, LeanForm, Manifest, Placement, Reached
from support.places import ROOT
from support.strategies import everything, same

KINDS = sorted(codecs.CODECS)
every_kind = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
quick = settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


def source(encoded: codecs.Encoded) -> Callable[[ContentKey], StoredBlob]:
    blobs = {blob.key: StoredBlob(*_fields(blob)) for blob in encoded.children}
    return blobs.__getitem__


def _fields(blob: Blob) -> tuple[Kind, int, Any]:
    return blob.kind, blob.version, memoryview(bytes(blob.data)).toreadonly()


@functools.cache
def strategy(kind: Kind) -> st.SearchStrategy[Any]:
    return everything(kind)


@every_kind
@quick
@given(data=st.data())
def test_what_is_decoded_is_what_was_encoded(kind: Kind, data: st.DataObject) -> None:
    value = data.draw(strategy(kind))
    encoded = codecs.encode(kind, value)
    body = memoryview(bytes(encoded.root.data)).toreadonly()
    decoded = codecs.decode(kind, encoded.root.version, body, source(encoded))
    if kind is Kind.DYNAMO:  # an inlined module's text comes from this process
        (inlined,) = decoded.source_info.inlined_sources
        assert inlined.content == ""
        decoded.source_info = value.source_info
    assert same(decoded, value)


@every_kind
@quick
@given(data=st.data())
def test_encoding_again_gives_the_same_bytes(kind: Kind, data: st.DataObject) -> None:
    value = data.draw(strategy(kind))
    first = codecs.encode(kind, value)
    assert codecs.encode(kind, value) == first
    decoded = codecs.decode(kind, first.root.version, bytes(first.root.data), source(first))
    assert codecs.encode(kind, decoded) == first


@every_kind
@quick
@given(body=st.binary(max_size=200))
def test_arbitrary_bytes_are_refused_or_decoded(kind: Kind, body: bytes) -> None:
    missing: list[object] = []

    def source(key: ContentKey) -> StoredBlob:
        missing.append(key)
        raise BlobMissing(key)

    with contextlib.suppress(CodecError, BlobMissing):
        codecs.decode(kind, codecs.codec_for(kind).version, body, source)
    assert all(isinstance(key, bytes) for key in missing)


@every_kind
@quick
@given(data=st.data())
def test_damaged_bytes_are_refused_or_decoded(kind: Kind, data: st.DataObject) -> None:
    encoded = codecs.encode(kind, data.draw(strategy(kind)))
    body = bytearray(encoded.root.data)
    assume(body)
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(body) - 1))
        how = data.draw(st.sampled_from(["flip", "cut", "grow", "copy"]))
        if how == "flip":
            body[at] ^= data.draw(st.integers(1, 255))
        elif how == "cut":
            del body[at : at + data.draw(st.integers(1, 4))]
        elif how == "grow":
            body[at:at] = data.draw(st.binary(min_size=1, max_size=4))
        else:
            body[at:at] = body[: at + 1]
        assume(body)

    def child(key: ContentKey) -> StoredBlob:
        try:
            return source(encoded)(key)
        except KeyError:
            raise MissingChild from None

    try:
        codecs.decode(kind, encoded.root.version, bytes(body), child)
    except (CodecError, MissingChild):
        pass
    finally:
        gc.collect(0)  # a damaged object would show here


class MissingChild(Exception):
    """What a source raises is not the codec's."""


@every_kind
def test_an_unknown_version_is_refused(kind: Kind) -> None:
    with pytest.raises(UnknownVersion) as caught:
        codecs.decode(kind, 99, b"", {}.__getitem__)
    assert (caught.value.kind, caught.value.version) == (kind, 99)


@pytest.mark.parametrize("kind", [0, 99, Kind.REVISION])
def test_a_kind_without_a_codec_is_refused(kind: int) -> None:
    with pytest.raises(UnknownKind) as caught:
        codecs.decode(kind, 1, b"", {}.__getitem__)
    assert caught.value.kind == kind


def test_the_table_names_each_codec_by_its_own_kind() -> None:
    assert [codec.kind for codec in codecs.CODECS.values()] == list(codecs.CODECS)
    assert set(codecs.CODECS) == set(Kind) - {Kind.REVISION}


def test_children_come_before_what_refers_to_them_and_once() -> None:
    text = "x" * 5000
    encoded = codecs.encode(Kind.GRAPH, [text, {"again": text}, text[:-1]])
    assert [blob.kind for blob in encoded.children] == [Kind.TEXT, Kind.TEXT]
    assert all(bytes(blob.key) in bytes(encoded.root.data) for blob in encoded.children)


def test_importing_the_codecs_imports_no_framework() -> None:
    import subprocess

    code = (
        "import sys, firebrick.codecs; print({'torch', 'triton', 'sympy', 'lmdb', 'numpy'} & {*sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


DOCUMENT = (ROOT / "docs" / "codecs.md").read_text()


def rows(title: str) -> list[list[str]]:
    """Read the table of docs/codecs.md whose first heading is `title`."""
    table = DOCUMENT[DOCUMENT.index(f"| {title} |") :].partition("\n\n")[0].splitlines()[2:]
    return [[cell.strip(" `") for cell in row.strip("|").split("|")] for row in table]


def test_the_document_names_every_kind_operation_and_field() -> None:
    assert {row[0] for row in rows("kind")} == {kind.name for kind in KINDS}
    assert [(name, int(number)) for name, number, _ in rows("operation")] == [
        (op.name, op.value) for op in Op
    ]
    assert [row[0] for row in rows("field")] == [
        *(field.name for field in dataclasses.fields(Policy)),
    ]


def test_the_document_names_the_limits() -> None:
    limits = dict(rows("what"))
    assert limits["body, storage"] == f"MAX_BLOB_BYTES`, {MAX_BLOB_BYTES >> 30} GiB"
    assert limits["nodes of a graph; items of a tuple if nothing were shared"] == str(MAX_NODES)
    assert limits["files of a kernel"] == str(MAX_FILES)
    assert limits["program headers, needed libraries of an ELF file"] == f"{MAX_HEADERS}, {MAX_NEEDED}"
    assert f"of {LEAF_BYTES} or more" in DOCUMENT


def test_the_document_names_every_entry_of_a_manifest() -> None:
    named = {name.strip(" `") for row in rows("entry") for name in row[0].split(",")}
    lean = {*LeanForm._fields, *Placement._fields} - {"place"}
    plain = {*Manifest._fields, *Reached._fields, *Compiled._fields, "version", "skip", "reach"}
    assert named == (plain - {"reached", "compiled", "digest"}) | {f"lean.{name}" for name in lean}
