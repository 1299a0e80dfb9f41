"""Guard states: looked into without running them, renamed, and unpickled under a list."""

import collections
import contextlib
import os
import pickle
import pickletools
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from firebrick import codecs
from firebrick.codecs.guards import GuardsCodec, GuardUnpickler, replace, scan
from firebrick.errors import DecodeError, EncodeError, ForbiddenGlobal
from firebrick.storage.format import Kind
from firebrick.storage.msgpack import pack, unpack
from support.strategies import Node, Shade, pickles

GLOBALS = [collections.OrderedDict, Shade, os.path.join, len, Node]
NAMES = sorted(f"{value.__module__}:{value.__qualname__}" for value in GLOBALS)  # type: ignore[attr-defined]
STATE = pickle.dumps([GLOBALS, "text", GLOBALS, Node()], 4)


class Evil:
    """Runs a command where it is unpickled."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> Any:
        return os.system, (self.command,)


def globals_by_running(data: bytes) -> set[str]:
    seen = set()

    class Watching(pickle.Unpickler):
        def find_class(self, module: str, name: str) -> Any:
            seen.add(f"{module}:{name}")
            return super().find_class(module, name)

    import io

    Watching(io.BytesIO(data)).load()
    return seen


def test_all_globals_are_found() -> None:
    assert scan(STATE) == NAMES
    assert scan(memoryview(STATE)) == NAMES
    assert scan(pickletools.optimize(STATE)) == NAMES


@settings(max_examples=100, deadline=None)
@given(pickles())
def test_a_scan_finds_what_unpickling_would_ask_for(data: bytes) -> None:
    assert set(scan(data)) == globals_by_running(data)


@settings(max_examples=300, deadline=None)
@given(pickles(), st.data())
def test_a_damaged_pickle_never_reaches_more_than_the_scan_says(data: bytes, draw: st.DataObject) -> None:
    damaged = bytearray(data)
    at = draw.draw(st.integers(0, len(damaged) - 1))
    damaged[at] = draw.draw(st.integers(0, 255))
    try:
        named = set(scan(bytes(damaged)))
    except DecodeError:
        return
    asked = set()

    class Watching(GuardUnpickler):
        def find_class(self, module: str, name: str) -> Any:
            asked.add(f"{module}:{name}")
            return Harmless

    with contextlib.suppress(Exception):  # a damaged pickle may fail in any way
        Watching(bytes(damaged), ()).load()
    assert asked <= named


class Harmless:
    """Take whatever a pickle does to an object."""

    def __init__(self, *args: Any, **keywords: Any) -> None: ...

    def __getattr__(self, name: str) -> Any:
        return lambda *args: None

    def __setitem__(self, key: Any, value: Any) -> None: ...


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        pytest.param(b"", "no end", id="nothing"),
        pytest.param(STATE[:-1], "no end", id="no end"),
        pytest.param(STATE + b".", "behind the pickle", id="more behind it"),
        pytest.param(b"\x80\x04\x8c\xffa.", "behind the pickle", id="a string too long"),
        pytest.param(b"\x80\x04\x8c\x01\xff.", "a string of", id="no UTF-8"),
        pytest.param(pickle.dumps(len, 0), "opcode 0x63", id="GLOBAL"),
        pytest.param(b"(ios\nsystem\n.", "opcode 0x69", id="INST"),
        pytest.param(b"\x80\x04(N\x6f.", "opcode 0x6f", id="OBJ"),
        pytest.param(b"\x80\x04\x82\x01.", "opcode 0x82", id="EXT1"),
        pytest.param(b"\x80\x04\x83\x01\0.", "opcode 0x83", id="EXT2"),
        pytest.param(b"\x80\x04\x84\x01\0\0\0.", "opcode 0x84", id="EXT4"),
        pytest.param(b"\x80\x04Pid\n.", "opcode 0x50", id="PERSID"),
        pytest.param(b"\x80\x04NQ.", "opcode 0x51", id="BINPERSID"),
        pytest.param(b"\x80\x05\x97.", "opcode 0x97", id="NEXT_BUFFER"),
        pytest.param(b"\x80\x04NN\x93.", "two plain strings", id="computed name"),
        pytest.param(b"\x80\x04\x8c\x02os\x8c\x01xN0\x93.", "two plain", id="hidden by POP"),
        pytest.param(b"\x80\x04\x8c\x02os\x8c\x01x2\x93.", "two plain", id="hidden by DUP"),
        pytest.param(b"\x80\x04N\x94h\x00h\x00\x93.", "two plain", id="from the memo"),
        pytest.param(b"\x80\x04Nq\x07.", "opcode 0x71", id="BINPUT"),
        pytest.param(b"\x80\x04Nr\xff\xff\xff\x7f.", "opcode 0x72", id="LONG_BINPUT"),
    ],
)
def test_a_pickle_that_could_hide_a_name_is_refused(data: bytes, reason: str) -> None:
    with pytest.raises(DecodeError, match=reason):
        scan(data)
    with pytest.raises(EncodeError, match=reason):
        codecs.encode(Kind.GUARDS, data)


def test_names_through_the_memo_are_followed_as_unpickling_does() -> None:
    state = b"\x80\x04\x8c\x02os\x94\x8c\x06system\x940" + b"0h\x00h\x01\x93."
    assert scan(state) == ["os:system"]


def test_a_guard_state_comes_back_with_its_list_beside_it() -> None:
    root = codecs.encode(Kind.GUARDS, STATE).root
    assert codecs.decode(Kind.GUARDS, 1, memoryview(root.data), {}.__getitem__) == STATE
    assert GuardsCodec().open(root.data) == (NAMES, STATE)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        pytest.param([NAMES[1:], STATE], "names other globals", id="one too few"),
        pytest.param([[*NAMES, "os:system"], STATE], "names other globals", id="one too many"),
        pytest.param([NAMES[::-1], STATE], "names other globals", id="not sorted"),
        pytest.param([NAMES, STATE, 1], "is .names, pickle", id="one field more"),
        pytest.param([5, STATE], "is .names, pickle", id="no list"),
        pytest.param([NAMES, "text"], "is .names, pickle", id="no bytes"),
        pytest.param([[5], STATE], "not text", id="a number for a name"),
    ],
)
def test_a_body_that_contradicts_itself_is_refused(body: Any, reason: str) -> None:
    with pytest.raises(DecodeError, match=reason):
        codecs.decode(Kind.GUARDS, 1, pack(body), {}.__getitem__)


def test_encoding_and_decoding_run_nothing(tmp_path: Any) -> None:
    made = tmp_path / "made"
    state = pickle.dumps(Evil(f"touch {made}"), 4)
    root = codecs.encode(Kind.GUARDS, state).root
    assert codecs.decode(Kind.GUARDS, 1, root.data, {}.__getitem__) == state
    assert GuardsCodec().open(root.data)[0] == [f"{os.system.__module__}:system"]
    with pytest.raises(ForbiddenGlobal) as caught:
        GuardUnpickler(state, {"builtins:len"}, ["collections"]).load()
    assert caught.value.name == f"{os.system.__module__}:system"
    assert not made.exists()


def test_unpickling_admits_names_and_prefixes() -> None:
    back = GuardUnpickler(STATE, NAMES).load()
    assert back[0] == GLOBALS
    assert type(back[3]) is Node
    prefixes = ["collections", "firebrick.testing", "support", "posixpath", "builtins"]
    assert GuardUnpickler(STATE, (), prefixes).load()[0] == GLOBALS
    with pytest.raises(ForbiddenGlobal):
        GuardUnpickler(STATE, (), ["collection", "firebrick.testin", "posixpath", "builtins"]).load()


def test_a_prefix_does_not_admit_what_its_modules_import() -> None:
    for module, name in (("support.strategies", "pickle.loads"), (__name__, "os.system")):
        state = b"\x80\x04"
        for text in (module, name):
            state += b"\x8c" + bytes([len(text)]) + text.encode()
        with pytest.raises(ForbiddenGlobal) as caught:
            GuardUnpickler(state + b"\x93.", (), [module]).load()
        assert "another module" in caught.value.where


def test_a_module_is_imported_only_if_it_is_admitted() -> None:
    state = b"\x80\x04\x8c\x04this\x8c\x01s\x93."
    with pytest.raises(ForbiddenGlobal):
        GuardUnpickler(state, NAMES).load()
    assert "this" not in sys.modules


def test_a_persistent_reference_is_refused() -> None:
    with pytest.raises(DecodeError, match="persistent"):
        GuardUnpickler(b"\x80\x04NQ.", NAMES).load()


@pytest.mark.parametrize("value", [torch.float16, torch.channels_last, torch.strided], ids=str)
def test_constants_of_torch_are_unpickled(value: Any) -> None:
    state = pickle.dumps([value, torch.Size([1])], 4)
    back = GuardUnpickler(state, scan(state)).load()
    assert back == [value, torch.Size([1])]


LONG = "__builtins_dict___" + "7" * 300


@pytest.mark.parametrize("new", ["b", "__builtins_dict___?1", LONG, "é" * 200], ids=len)
@pytest.mark.parametrize("protocol", [4, 5])
def test_names_are_replaced_inside_strings_and_back(new: str, protocol: int) -> None:
    old = "__builtins_dict___12"
    others = [f"{old}3", f"x{old}", {"bytes": old.encode()}, "y" * 70_000, ("",)]
    value = [old, {f"G['{old}']['len']": old}, *others, "a" * (255 - len(old)) + " " + old]
    data = pickle.dumps(value, protocol)
    changed = replace(data, {old: new})
    assert pickle.loads(changed) == [
        new, {f"G['{new}']['len']": new}, *others, "a" * (255 - len(old)) + " " + new
    ]  # fmt: skip
    assert sum(1 for code, _, _ in pickletools.genops(changed) if code.name == "FRAME") == sum(
        1 for code, _, _ in pickletools.genops(data) if code.name == "FRAME"
    )
    if new.isidentifier() or "?" in new:
        assert replace(changed, {new: old}) == data


def test_a_pickle_without_the_names_stays_the_same_object() -> None:
    assert replace(STATE, {"absent": "x"}) is STATE
    assert replace(STATE, {}) is STATE


def test_replacing_in_a_string_that_is_no_text_is_refused() -> None:
    with pytest.raises(DecodeError, match="a string of"):
        replace(b"\x80\x04\x8c\x04__a\xff.", {"__a": "b"})


def test_two_names_can_change_places() -> None:
    data = pickle.dumps(["__a", "__b", "__a + __b"], 4)
    assert pickle.loads(replace(data, {"__a": "__b", "__b": "__a"})) == ["__b", "__a", "__b + __a"]


@pytest.mark.parametrize("call", [scan, lambda data: replace(data, {"text": "x"})])
def test_text_opcodes_are_refused(call: Callable[[bytes], object]) -> None:
    with pytest.raises(DecodeError):
        call(pickle.dumps("text", 0))


def test_the_list_is_in_front_of_the_pickle() -> None:
    names, state = unpack(codecs.encode(Kind.GUARDS, STATE).root.data)
    assert (names, state) == (NAMES, STATE)
