"""Dynamo entries: generated names are the caller's, texts of modules are read again."""

import dataclasses
import pickle
import sys
from typing import Any

import pytest
import torch._dynamo.package as package

from firebrick import codecs
from firebrick.codecs import dynamo
from firebrick.codecs.dynamo import DynamoCodec, generated_names, renamed
from firebrick.errors import DecodeError, EncodeError, ForbiddenGlobal
from firebrick.storage.format import Kind

BACKEND = "__compiled_fn_1_4f0d"
RESUME = "__resume_at_40_2"
BUILTINS = "__builtins_dict___3"
CANONICAL = {BACKEND: "__fn_0", RESUME: "__resume_0", BUILTINS: "__builtins_0"}
SOURCE = f"""
def f(x):
    def g():
        return {RESUME}
    return {BACKEND}(x), {BUILTINS}['len'], '{BACKEND}', g
"""


def code(source: str = SOURCE) -> Any:
    made = compile(source, "<firebrick>/made.py", "exec").co_consts[0]
    return package.SerializedCode.from_code_object(made)  # type: ignore[arg-type]


def made_entry() -> Any:
    state = pickle.dumps([f"G['{BUILTINS}']", BUILTINS], 4)
    plain = code("def f(x):\n    return x")
    guarded = package._GuardedCodeCacheEntry(state, code())
    first = package._DynamoCodeCacheEntry(
        plain, __name__, [], [guarded], {"__import_math": "math"}, [BACKEND], None, False
    )  # type: ignore[arg-type]
    second = package._DynamoCodeCacheEntry(plain, __name__, [RESUME], [], {}, [], None, True)  # type: ignore[list-item]
    source = package.InlinedSource(dataclasses.__name__, 1, 3, "sum", dynamo._module_source("dataclasses"))
    gone = package.InlinedSource("module_that_is_gone", 4, 5, "sum", "text")
    entry = package._DynamoCacheEntry([first, second], package.SourceInfo({source, gone}), "cpu")
    entry.fn_name = "f"
    return entry


def trip(entry: Any, names: dict[str, str] | None = None) -> Any:
    sink = codecs.Collector()
    names = names or {}
    body = DynamoCodec().encode(entry, sink, names)
    back = {canonical: name for name, canonical in names.items()}
    return DynamoCodec().decode(body, sink.blobs.__getitem__, 1, back)


def test_code_and_guards_are_children() -> None:
    encoded = codecs.encode(Kind.DYNAMO, made_entry())
    assert sorted(blob.kind.name for blob in encoded.children) == ["CODE", "CODE", "GUARDS"]


def test_an_entry_comes_back_equal_but_for_the_text_of_a_lost_module() -> None:
    entry = made_entry()
    back = trip(entry)
    texts = {source.module: source.content for source in back.source_info.inlined_sources}
    assert texts == {"dataclasses": dynamo._module_source("dataclasses"), "module_that_is_gone": ""}
    assert len(texts["dataclasses"]) > 1000
    back.source_info = entry.source_info
    assert back == entry
    assert type(back.system_info.torch_version) is type(entry.system_info.torch_version)


def test_the_text_of_a_module_that_changed_is_left_empty() -> None:
    entry = made_entry()
    source = package.InlinedSource("math", 1, 2, "sum", "another text")
    entry.source_info = package.SourceInfo({source})
    (back,) = trip(entry).source_info.inlined_sources
    assert dataclasses.replace(back, content="another text") == source
    assert back.content == ""
    encoded = codecs.encode(Kind.DYNAMO, entry)
    assert codecs.encode(Kind.DYNAMO, trip(entry)) == encoded


def test_texts_of_modules_are_not_in_the_bytes() -> None:
    encoded = codecs.encode(Kind.DYNAMO, made_entry())
    assert len(encoded.root.data) < 2000


def test_generated_names_are_listed_in_order_of_appearance() -> None:
    assert generated_names(made_entry()) == [BACKEND, BUILTINS, RESUME]


def test_generated_names_are_in_no_byte_and_come_back() -> None:
    entry, sink = made_entry(), codecs.Collector()
    body = DynamoCodec().encode(entry, sink, CANONICAL)
    for data in (body, *(blob.data for blob in sink.blobs.values())):
        assert not any(name.encode() in data for name in CANONICAL)
    back = trip(entry, CANONICAL)
    back.source_info = entry.source_info
    assert back == entry


def test_other_names_give_the_same_bytes() -> None:
    entry = made_entry()
    others = {
        BACKEND: "__compiled_fn_7_b2",
        RESUME: "__resume_at_40_9",
        BUILTINS: "__builtins_dict___12",
    }
    other = renamed(entry, others)
    assert generated_names(other) == [others[BACKEND], others[BUILTINS], others[RESUME]]
    canonical = {others[name]: fixed for name, fixed in CANONICAL.items()}
    first, second = codecs.Collector(), codecs.Collector()
    encode = DynamoCodec().encode
    assert encode(entry, first, CANONICAL) == encode(other, second, canonical)
    assert first.blobs == second.blobs


def test_renaming_leaves_the_entry_as_it_was() -> None:
    entry, untouched = made_entry(), made_entry()
    other = renamed(entry, CANONICAL)
    assert entry == untouched
    assert other.codes[0].backend_ids == ["__fn_0"]
    assert other.codes[1].function_names == ["__resume_0"]
    compiled = package.SerializedCode.to_code_object(other.codes[0].guarded_codes[0].dynamo_code)
    assert "__fn_0" in compiled.co_names  # type: ignore[union-attr]
    assert "__fn_0" in compiled.co_consts  # type: ignore[union-attr]
    assert pickle.loads(other.codes[0].guarded_codes[0].guards_state)[1] == "__builtins_0"


def test_only_entries_are_encoded_and_decoded() -> None:
    with pytest.raises(EncodeError):
        codecs.encode(Kind.DYNAMO, {})
    body = codecs.encode(Kind.GRAPH, [1]).root.data
    with pytest.raises(DecodeError, match="not a Dynamo entry"):
        codecs.decode(Kind.DYNAMO, 1, body, {}.__getitem__)


def test_a_field_of_another_type_is_refused_when_names_are_put_in() -> None:
    entry, sink = made_entry(), codecs.Collector()
    entry.codes = 5
    body = DynamoCodec().encode(entry, sink)
    with pytest.raises(DecodeError, match="not a Dynamo entry"):
        DynamoCodec().decode(body, sink.blobs.__getitem__, 1, {"a": "b"})


def test_an_entry_can_not_name_a_function() -> None:
    entry = made_entry()
    entry.hook = print
    with pytest.raises(ForbiddenGlobal) as caught:
        codecs.encode(Kind.DYNAMO, entry)
    assert caught.value.name == "builtins:print"
    assert caught.value.where.startswith(".hook")


def test_a_guard_state_that_can_hide_names_is_refused_with_its_place() -> None:
    entry = made_entry()
    entry.codes[0].guarded_codes[0].guards_state = pickle.dumps(1, 0)
    with pytest.raises(EncodeError) as caught:
        codecs.encode(Kind.DYNAMO, entry)
    assert caught.value.where == ".codes[0].guarded_codes[0].guards_state"


def test_a_module_is_looked_up_among_the_imported_ones_only() -> None:
    entry = made_entry()
    entry.source_info = package.SourceInfo({package.InlinedSource("this", 1, 2, "sum", "")})
    trip(entry)
    assert "this" not in sys.modules
