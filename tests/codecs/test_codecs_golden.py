"""The golden corpus: bytes of today must be read, and written, for ever."""

import importlib.util
import json
import sys
from collections.abc import Callable
from typing import Any

import pytest

from firebrick import codecs, errors
from firebrick.storage.blob import StoredBlob
from firebrick.storage.format import Kind
from firebrick.storage.keys import ContentKey, content_key
from firebrick.storage.msgpack import pack, unpack
from support.places import GOLDEN
from support.strategies import same

FOLDER = GOLDEN
INDEX: dict[str, Any] = json.loads((FOLDER / "index.json").read_text())
TAG = f".{sys.implementation.cache_tag}."
VALUES = sorted(name for name in INDEX if name.endswith(".bin"))
ERRORS = sorted(name for name in INDEX if name.endswith(".bad"))


def made() -> Any:
    spec = importlib.util.spec_from_file_location("golden_make", FOLDER / "make.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


make = made()


def of_this_python(name: str) -> bool:
    return ".cpython-" not in name or TAG in name


def source(children: list[dict[str, Any]]) -> Callable[[ContentKey], StoredBlob]:
    blobs = {}
    for child in children:
        data = (FOLDER / child["file"]).read_bytes()
        blob = StoredBlob(Kind[child["kind"]], child["version"], data)
        assert content_key(blob.kind, data, blob.version).hex() == child["key"]
        blobs[ContentKey(bytes.fromhex(child["key"]))] = blob
    return blobs.__getitem__


def test_the_corpus_is_not_empty_and_has_every_kind() -> None:
    assert {INDEX[name]["kind"] for name in VALUES} == {kind.name for kind in codecs.CODECS}
    assert {INDEX[name]["kind"] for name in ERRORS} == {kind.name for kind in codecs.CODECS}
    assert {INDEX[name]["error"] for name in ERRORS} == {
        "DecodeError",
        "ForbiddenGlobal",
        "LimitExceeded",
        "UnknownVersion",
    }
    assert len(VALUES) >= 15
    assert len(ERRORS) >= 20


def test_every_file_is_in_the_index_and_there() -> None:
    children = {child["file"] for name in VALUES for child in INDEX[name]["children"]}
    found = {path.name for path in FOLDER.iterdir() if path.suffix in (".bin", ".bad")}
    assert found == {*VALUES, *ERRORS, *children}


@pytest.mark.parametrize("name", VALUES)
def test_a_value_has_its_key(name: str) -> None:
    facts, data = INDEX[name], (FOLDER / name).read_bytes()
    assert content_key(Kind[facts["kind"]], data, facts["version"]).hex() == facts["key"]


@pytest.mark.parametrize("name", [name for name in VALUES if of_this_python(name)])
def test_a_value_is_read_and_written_the_same(name: str) -> None:
    facts, data = INDEX[name], (FOLDER / name).read_bytes()
    kind, build = make.VALUES[name.removesuffix(".bin").removesuffix(TAG[:-1])]
    decoded = codecs.decode(Kind[facts["kind"]], facts["version"], data, source(facts["children"]))
    encoded = codecs.encode(kind, decoded)
    assert bytes(encoded.root.data) == data
    assert [blob.key.hex() for blob in encoded.children] == [c["key"] for c in facts["children"]]
    expected = build()
    if kind is Kind.CODE:
        assert decoded.co_filename == "<firebrick>/made.py"
        expected = expected.replace(co_filename=decoded.co_filename)
    if kind is Kind.GUARD_PROGRAM:  # numbers for the names of terms
        expected = type(expected)(*unpack(pack(list(expected), maps=False)))
    if kind is Kind.DYNAMO:
        (inlined,) = decoded.source_info.inlined_sources
        assert inlined.content == ""
        decoded.source_info = expected.source_info
    assert same(decoded, expected)


@pytest.mark.parametrize("name", [name for name in VALUES if not of_this_python(name)])
def test_a_value_of_another_python_is_refused_as_such(name: str) -> None:
    facts, data = INDEX[name], (FOLDER / name).read_bytes()
    with pytest.raises(errors.UnknownVersion):
        codecs.decode(Kind[facts["kind"]], facts["version"], data, source(facts["children"]))


@pytest.mark.parametrize("name", ERRORS)
def test_a_defect_is_refused_with_its_error(name: str) -> None:
    facts, data = INDEX[name], (FOLDER / name).read_bytes()
    with pytest.raises(errors.CodecError) as caught:
        codecs.decode(Kind[facts["kind"]], facts["version"], data, {}.__getitem__)
    assert type(caught.value).__name__ == facts["error"]
    assert facts["reason"] in str(caught.value)


def test_the_script_makes_the_same_corpus() -> None:
    files = make.build()
    index = json.loads(files.pop("index.json"))
    assert index == {name: facts for name, facts in INDEX.items() if of_this_python(name)}
    stored = {name: (FOLDER / name).read_bytes() for name in files}
    assert files == stored
