"""Code objects: portable, without marshal, and a digest of what they do."""

import importlib.util
import opcode
import os
import subprocess
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from firebrick import codecs
from firebrick.codecs.code import CodeCodec, code_digest, module_files, rename
from firebrick.errors import CodecError, DecodeError, EncodeError, LimitExceeded, UnknownVersion
from firebrick.storage.format import Kind
from firebrick.storage.msgpack import pack, unpack
from support.strategies import Shade

SOURCE = '''
def work(items, *rest, scale=2.5, **more):
    """Text."""
    def inner(x):
        nonlocal total
        total += x * scale
        return total
    total = 0
    try:
        with open("/dev/null") as stream:
            return [inner(i) for i in items if i not in {1, 2}], stream.name
    finally:
        more.clear()
'''


def compiled(source: str = SOURCE, file: str = "made.py") -> types.CodeType:
    return compile(source, file, "exec")


def function(source: str = SOURCE, file: str = "made.py") -> types.CodeType:
    return next(c for c in compiled(source, file).co_consts if isinstance(c, types.CodeType))


def trip(code: types.CodeType, codec: CodeCodec | None = None) -> types.CodeType:
    codec = codec or CodeCodec()
    return codec.decode(codec.encode(code, codecs.Collector()), {}.__getitem__, 1)


def test_a_function_works_after_the_round_trip() -> None:
    code = trip(function())
    made = types.FunctionType(code, {"__builtins__": __builtins__}, argdefs=())
    made.__kwdefaults__ = {"scale": 2.0}
    assert made([1, 3, 4]) == ([6.0, 14.0], "/dev/null")
    assert made.__doc__ in ("Text.", None)
    assert code == function()


@pytest.mark.parametrize("version", ["co_linetable", "co_exceptiontable", "co_qualname", "co_lines"])
def test_positions_and_names_are_kept(version: str) -> None:
    def facts(code: types.CodeType) -> Any:
        value = getattr(code, version)
        return list(value()) if callable(value) else value

    assert facts(trip(function())) == facts(function())


def constant(value: Any) -> types.CodeType:
    return (lambda: None).__code__.replace(co_consts=(None, value))


@pytest.mark.parametrize(
    "value",
    [
        float("nan"), float("inf"), -0.0, 1 << 90, -(1 << 90), 1j, complex(-0.0, float("nan")),
        ..., (1, (2, ("a", b"b"))), frozenset({(1, "a", b"a")}), "\ud800", slice(1, None),
        torch.float32, torch.device("cuda", 2), torch.Size([1, 2]), torch.contiguous_format,
        Shade.LIGHT, dict, True, None,
    ],
    ids=repr,
)  # fmt: skip
def test_every_constant_comes_back_exactly(value: Any) -> None:
    back = trip(constant(value)).co_consts[1]
    assert type(back) is type(value)
    assert repr(back) == repr(value)


@pytest.mark.parametrize("value", [object(), [1], lambda: 1, 1 + torch.ones(1)], ids=type)
def test_another_constant_is_refused(value: Any) -> None:
    with pytest.raises(EncodeError) as caught:
        CodeCodec().encode(constant(value), codecs.Collector())
    assert caught.value.where.startswith("a constant of ")


def test_constants_nested_too_deeply_are_a_limit() -> None:
    value: Any = ()
    for _ in range(5000):
        value = (value,)
    with pytest.raises(LimitExceeded):
        CodeCodec().encode(constant(value), codecs.Collector())
    shallow: Any = ()
    for _ in range(200):
        shallow = (shallow,)
    with pytest.raises(LimitExceeded):
        trip(constant(shallow))


def test_a_specialised_function_has_the_bytes_of_a_fresh_one() -> None:
    made = types.FunctionType(function(), {"__builtins__": __builtins__})
    made.__kwdefaults__ = {"scale": 2}
    fresh, digest = codecs.encode(Kind.CODE, function()), code_digest(function())
    for _ in range(200):
        made([1, 3, 4])
    assert codecs.encode(Kind.CODE, made.__code__) == fresh
    assert code_digest(made.__code__) == digest


@pytest.mark.skipif(sys.version_info < (3, 12), reason="sys.monitoring came with Python 3.12")
def test_an_instrumented_function_has_the_bytes_of_a_fresh_one() -> None:
    monitoring = sys.monitoring  # type: ignore[attr-defined,unused-ignore]
    made = types.FunctionType(function(), {"__builtins__": __builtins__})
    made.__kwdefaults__ = {"scale": 2}
    fresh = codecs.encode(Kind.CODE, function())
    monitoring.use_tool_id(3, "test")
    try:
        monitoring.register_callback(3, monitoring.events.LINE, lambda *_: None)
        monitoring.set_local_events(3, made.__code__, monitoring.events.LINE)
        made([1, 3])
        assert codecs.encode(Kind.CODE, made.__code__) == fresh
    finally:
        monitoring.free_tool_id(3)


def test_a_file_of_an_imported_module_is_named_by_the_module() -> None:
    code = function(file=os.__file__)
    body = CodeCodec().encode(code, codecs.Collector())
    assert os.__file__.encode() not in body
    assert trip(code).co_filename == os.__file__
    assert trip(code).co_consts[1].co_filename == os.__file__  # type: ignore[union-attr]


def test_another_file_keeps_its_last_component_only() -> None:
    elsewhere = trip(function(file="/somewhere/private/made.py"))
    assert elsewhere.co_filename == "<firebrick>/made.py"
    assert trip(function(file="<string>")).co_filename == "<firebrick>/<string>"


def test_the_same_program_in_another_directory_has_the_same_bytes() -> None:
    here = CodeCodec({"/a/made.py": "made"}).encode(function(file="/a/made.py"), codecs.Collector())
    there = CodeCodec({"/b/made.py": "made"}).encode(function(file="/b/made.py"), codecs.Collector())
    assert here == there
    lost = CodeCodec().decode(here, {}.__getitem__, 1)
    assert lost.co_filename == "<firebrick module made>"
    assert CodeCodec().encode(lost, codecs.Collector()) == here


def test_a_module_is_found_by_its_file_also_after_more_imports(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = module_files()
    assert before[os.__file__] == "os"
    path = tmp_path / "made_for_firebrick.py"
    path.write_text("x = 1")
    monkeypatch.syspath_prepend(tmp_path)
    importlib.import_module("made_for_firebrick")
    assert module_files()[str(path)] == "made_for_firebrick"
    monkeypatch.delitem(sys.modules, "made_for_firebrick")


def test_the_code_of_another_python_is_refused() -> None:
    tag, magic, fields = unpack(codecs.encode(Kind.CODE, function()).root.data)
    for body in ([tag + "t", magic, fields], [tag, b"\0" + magic[1:], fields]):
        with pytest.raises(UnknownVersion) as caught:
            codecs.decode(Kind.CODE, 1, pack(body), {}.__getitem__)
        assert caught.value.kind == Kind.CODE


def damage(change: Callable[[list[Any]], None]) -> bytes:
    tag, magic, fields = unpack(codecs.encode(Kind.CODE, function()).root.data)
    change(fields)
    return pack([tag, magic, fields])


CACHED = next(
    number
    for number in range(256)
    if (
        opcode._inline_cache_entries.get(opcode.opname[number], 0)  # type: ignore[attr-defined]
        if isinstance(opcode._inline_cache_entries, dict)  # type: ignore[attr-defined]
        else opcode._inline_cache_entries[number]  # type: ignore[attr-defined]
    )
)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        pytest.param(lambda f: f.pop(), "not a code object", id="too few fields"),
        pytest.param(
            lambda f: f.__setitem__(1, f[1][:-1]), "inside an instruction", id="half an instruction"
        ),
        pytest.param(
            lambda f: f.__setitem__(1, f[1] + bytes([CACHED, 0])),
            "inside an instruction",
            id="caches missing",
        ),
        pytest.param(lambda f: f.__setitem__(1, b""), "inside an instruction", id="no bytecode"),
        pytest.param(lambda f: f.__setitem__(1, "text"), "not a code object", id="text for bytecode"),
        pytest.param(lambda f: f[0].__setitem__(3, 99), "not a code object", id="wrong count of locals"),
        pytest.param(lambda f: f[0].__setitem__(0, -1), "not a code object", id="negative count"),
        pytest.param(lambda f: f[3][0].append(5), "not a code object", id="a number for a name"),
        pytest.param(lambda f: f.__setitem__(4, ["x", "made.py"]), "kind of file", id="unknown kind of file"),
        pytest.param(lambda f: f[2].append(["?"]), "not a code object", id="unknown tag"),
        pytest.param(lambda f: f[2].append(["c", 1, 2]), "two floats", id="integers for a complex number"),
        pytest.param(
            lambda f: f[2].append(["E", "builtins:dict", "a"]),
            "not an enumeration",
            id="no enumeration",
        ),
    ],
)
def test_a_damaged_code_object_is_refused(change: Callable[[Any], None], reason: str) -> None:
    with pytest.raises(DecodeError, match=reason):
        codecs.decode(Kind.CODE, 1, damage(change), {}.__getitem__)


def test_a_constant_that_names_a_module_not_imported_is_refused() -> None:
    body = damage(lambda fields: fields[2].append(["g", "this:s"]))
    with pytest.raises(CodecError, match="not imported"):
        codecs.decode(Kind.CODE, 1, body, {}.__getitem__)
    assert "this" not in sys.modules


def test_only_code_is_encoded() -> None:
    with pytest.raises(EncodeError):
        codecs.encode(Kind.CODE, "text")


def test_the_digest_does_not_see_where_a_function_stands() -> None:
    digest = code_digest(function())
    assert len(digest) == 32
    moved = function(
        "\n\n# comment\nclass C: pass\n" + SOURCE.replace("\n    total = 0", "\n\n    total = 0")
    )
    moved = next(
        c for c in compiled("#\n\n" + SOURCE, "elsewhere.py").co_consts if isinstance(c, types.CodeType)
    )
    assert code_digest(moved) == digest
    inside = compiled("class C:\n" + "\n".join("    " + line for line in SOURCE.splitlines()))
    body = next(c for c in inside.co_consts if isinstance(c, types.CodeType))
    method = next(c for c in body.co_consts if isinstance(c, types.CodeType))
    assert method.co_qualname == "C.work"
    assert code_digest(method) == digest


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("x * scale", "x + scale"),
        ("total = 0", "total = 0.0"),
        ("total = 0", "total = False"),
        ("{1, 2}", "{1, 3}"),
        ("/dev/null", "/dev/zero"),
        ("stream.name", "stream.mode"),
        ("*rest, ", ""),
        ("(items,", "(items, /,"),
        ("more.clear()", "more.copy()"),
        ("def inner(x)", "async def inner(x)"),
        ("rest", "others"),
    ],
)
def test_the_digest_sees_every_change_of_behaviour(old: str, new: str) -> None:
    assert SOURCE.count(old) >= 1
    assert code_digest(function(SOURCE.replace(old, new))) != code_digest(function())


def test_the_digest_is_the_same_in_every_process() -> None:
    program = (
        "import sys; from firebrick.codecs.code import code_digest;"
        "print(code_digest(compile(sys.argv[1], 'f', 'exec')).hex())"
    )
    source = "x = {'b', 'a', 'c'}\nif x in {'q', 'r', 's', (1, 'z')}: pass\n"
    seen = {
        subprocess.run(
            [sys.executable, "-c", program, source],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert seen == {code_digest(compile(source, "g", "exec")).hex() + "\n"}


def test_names_and_constants_are_renamed_in_nested_code_too() -> None:
    code = compiled(
        "def f():\n    __gen_1(('__gen_1', frozenset(['x'])))\n    return '__gen_12', __gen_1.__gen_1"
    )
    back = rename(code, {"__gen_1": "__other"})
    inner = next(c for c in back.co_consts if isinstance(c, types.CodeType))
    assert "__gen_1" not in inner.co_names
    assert "__other" in inner.co_names
    assert "__other" in str(inner.co_consts)
    assert "__gen_12" in inner.co_consts
    assert rename(back, {"__other": "__gen_1"}) == code


def test_code_without_such_names_stays_the_same_object() -> None:
    code = function()
    assert rename(code, {"absent": "x"}) is code
    assert rename(code, {}) is code
