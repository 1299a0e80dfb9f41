"""Guard programs: the closed language, what is known again, and what is refused by name."""

import collections.abc
import enum
import functools
import math
import re
import sys
import textwrap
import threading
import types
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
import torch._C._dynamo.guards as cpp
from torch._dynamo import guards

from firebrick.base.patches import Patches
from firebrick.codecs.guard_program import (
    FUNCTIONS,
    NUMBERS,
    OPERATIONS,
    GuardProgram,
    GuardProgramCodec,
    Operand,
    Term,
)
from firebrick.errors import DecodeError, EncodeError, NotLean, NotStorable
from firebrick.guards import manager as _guard_manager
from firebrick.guards.call_log import GuardCall, Log
from firebrick.guards.examples import example, sample
from firebrick.guards.function_names import function_of
from firebrick.guards.identity_guards import Describer, find
from firebrick.guards.record import GuardRecorder
from firebrick.guards.replay import Manager, build, on_dynamo_imported, stand_ins
from firebrick.guards.shapes import NotInLanguage, canonical, compile_guard
from firebrick.guards.values import same_value, term_of, value_of
from firebrick.guards.writer import Writer
from firebrick.reports.not_served import GuardsNotApplicable, ObjectChanged
from firebrick.storage.msgpack import pack
from firebrick.torch_api import compiler_free
from firebrick.validity.configuration import ambient_key
from support.places import ROOT, TESTS

pytestmark = pytest.mark.compiles

DOCUMENT = (ROOT / "docs" / "guards.md").read_text()
CODEC = GuardProgramCodec()


def no_source(key: Any) -> Any:
    raise LookupError(key)


# Recording and building in one process.


def record(function: Any, *args: Any, **options: Any) -> tuple[Any, GuardProgram]:
    """Compile a function and return torch's manager and the program of its frame."""
    found: list[Any] = []
    recorder, patches = GuardRecorder(), Patches()
    recorder.install(patches)
    original = guards.CheckFunctionManager.__init__

    def init(self: Any, code: Any, *rest: Any, **named: Any) -> None:
        original(self, code, *rest, **named)
        if code is function.__code__:
            try:
                found.append((self.guard_manager, recorder.program(self, function.__globals__, code)))
            except NotLean as error:
                found.append(error)

    patches.set(guards.CheckFunctionManager, "__init__", init)
    try:
        torch._dynamo.reset()
        torch.compile(function, backend="eager", **options)(*args)
    finally:
        patches.undo()
    if isinstance(found[0], NotLean):
        raise found[0]
    manager, program = found[0]
    return manager, CODEC.decode(CODEC.encode(program, lambda *_: None), no_source, 1)  # type: ignore[arg-type,return-value]


SUBJECT = """
    import functools
    RATE = 0.5
    ITEMS = [1, 2]
    class Thing:
        factor = 2.0
        def scaled(self, x):
            return x * self.factor
    def helper(x, by=2, *, more=1):
        return x * by * more
    def f(x, thing):
        return thing.scaled(x) + helper(x) * RATE + ITEMS[0]
"""


def subject(source: str) -> types.ModuleType:
    module = types.ModuleType("guarded_subject")
    sys.modules["guarded_subject"] = module
    exec(compile(textwrap.dedent(source), __file__, "exec"), module.__dict__)
    return module


@pytest.fixture(scope="module")
def program() -> Iterator[GuardProgram]:
    module = subject(SUBJECT)
    _, program = record(module.f, torch.ones(3), module.Thing())
    yield program
    del sys.modules["guarded_subject"]


def served(program: GuardProgram, source: str) -> bool | str:
    module = subject(source)
    f_locals = {"x": torch.ones(3), "thing": module.Thing()}
    try:
        return build(program, module.__dict__, module.f.__code__, f_locals).check(f_locals)
    except ObjectChanged as error:
        return str(error)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("factor = 2.0", "factor = 3.0"),
        ("factor = 2.0", "factor = 2"),
        ("by=2", "by=3"),
        ("more=1", "more=4"),
        ("by=2", "by=None"),
        ("RATE = 0.5", "RATE = 0.25"),
        ("RATE = 0.5", "RATE = '0.5'"),
        ("ITEMS = [1, 2]", "ITEMS = [1, 2, 3]"),
        ("ITEMS = [1, 2]", "ITEMS = [5, 2]"),
        ("ITEMS = [1, 2]", "ITEMS = (1, 2)"),
    ],
)
def test_a_changed_constant_or_default_fails_its_guard(program: GuardProgram, old: str, new: str) -> None:
    assert served(program, SUBJECT.replace(old, new)) is False


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("x * by * more", "x * by + more", "^code of global `helper` changed$"),
        ("x * self.factor", "x / self.factor", "guarded_subject:Thing.* with other code"),
        ("factor = 2.0", "factor = 2.0\n        def __eq__(self, other): return True", "Thing"),
        ("class Thing:", "class Base:\n        def g(self): ...\n    class Thing(Base):", "Thing"),
        ("class Thing:", "class Thing(dict):", "Thing"),
        ("def f(x, thing):", "helper = functools.lru_cache(helper)\n    def f(x, thing):", "__code__"),
    ],
)
def test_changed_code_is_told_from_what_it_was(
    program: GuardProgram, old: str, new: str, reason: str
) -> None:
    answer = served(program, SUBJECT.replace(old, new))
    assert isinstance(answer, str), answer
    assert re.search(reason, answer), answer


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("", ""),
        ("import functools", "import functools\n\n    # moved\n    MORE = 1"),
        ("def helper", "def another(): ...\n    def helper"),
    ],
)
def test_what_is_the_same_is_served(program: GuardProgram, old: str, new: str) -> None:
    assert served(program, SUBJECT.replace(old, new, 1)) is True


def test_another_local_variable_is_a_change(program: GuardProgram) -> None:
    module = subject(SUBJECT.replace("def f(x, thing):", "def f(y, thing):\n        x = y"))
    with pytest.raises(ObjectChanged, match="no local variable x"):
        build(program, module.__dict__, (lambda y, thing: None).__code__)


def test_a_missing_global_fails(program: GuardProgram) -> None:
    assert served(program, SUBJECT.replace("RATE = 0.5", "").replace("* RATE", "")) is False


def test_no_guard_is_built_under_another_default_device(program: GuardProgram) -> None:
    module = subject(SUBJECT)
    torch.set_default_device("meta")
    try:
        with pytest.raises(GuardsNotApplicable, match="default device"):
            build(program, module.__dict__, module.f.__code__)
    finally:
        torch.set_default_device(None)


def test_the_state_of_dispatch_at_building_does_not_count(program: GuardProgram) -> None:
    module = subject(SUBJECT)
    f_locals = {"x": torch.ones(3), "thing": module.Thing()}
    with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16):
        manager = build(program, module.__dict__, module.f.__code__, f_locals)
        assert not manager.check(f_locals)
    assert manager.check(f_locals)


def test_an_object_that_ends_takes_its_guards_along() -> None:
    def make() -> Any:
        class Short:
            value = 2

        return Short()

    def f(x: Any, thing: Any) -> Any:
        return x * thing.value

    thing = make()
    _, program = record(f, torch.ones(3), thing)
    f_locals = {"x": torch.ones(3), "thing": make()}
    manager = build(program, f.__globals__, f.__code__, f_locals)
    assert manager.check(f_locals)
    del f_locals["thing"]
    import gc

    gc.collect()
    assert not manager.check(f_locals | {"thing": thing})
    assert "deallocated" in str(manager.root.check_verbose({"x": torch.ones(3), "thing": thing}))


def test_without_locals_code_is_recognised_at_every_call() -> None:
    def f(x: Any, g: Any) -> Any:
        return g(x)

    def make(by: int) -> Any:
        return lambda x: x * by

    _, program = record(f, torch.ones(3), make(2))
    manager = build(program, f.__globals__, f.__code__)
    assert manager.check({"x": torch.ones(3), "g": make(2)})
    assert not manager.check({"x": torch.ones(3), "g": make(3)})
    assert not manager.check({"x": torch.ones(3), "g": lambda x: x + 2})
    assert not manager.check({"x": torch.ones(3), "g": len})


def test_locals_that_lead_nowhere_are_no_change() -> None:
    def f(x: Any, g: Any) -> Any:
        return g(x)

    _, program = record(f, torch.ones(3), lambda x: x * 2)
    with pytest.raises(GuardsNotApplicable, match="__code__"):
        build(program, f.__globals__, f.__code__, {"x": torch.ones(3), "g": 5})


# What is refused at recording.


class Odd:
    def __eq__(self, other: object) -> bool:
        return False

    __hash__ = None  # type: ignore[assignment]


def test_unseen_guards_have_no_program() -> None:
    recorder = GuardRecorder()
    with pytest.raises(NotLean, match="not seen"):
        recorder.program(cpp.RootGuardManager(), {}, test_unseen_guards_have_no_program.__code__)


def test_the_version_of_the_table_of_pytree_nodes_becomes_a_function() -> None:
    def f(x: Any) -> Any:
        return torch.func.vmap(torch.sin)(x)

    _, program = record(f, torch.ones(3))
    assert "pytree_nodes" in [name for name, *_ in program.functions]


def test_an_operation_without_a_word_is_named() -> None:
    root = cpp.RootGuardManager()
    log = Log()
    log.root = root
    log.calls.append(GuardCall("add_dict_version_guard", root, ({}, [""], None), {}))
    with pytest.raises(NotLean, match="add_dict_version_guard"):
        Writer(log, {}, test_an_operation_without_a_word_is_named.__code__).program()


def test_an_optimizer_is_known_by_its_address_which_tells_that_it_is_alive() -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(3))])

    def f(x: Any) -> Any:
        optimizer.step()
        return x + 1

    _, program = record(f, torch.ones(3))
    assert "torch.optim.sgd:SGD" in {name for kind, name, *_ in program.identities if kind == "object"}
    assert NUMBERS["add_not_none_guard"] not in {step[0] for step in program.steps}


def test_recording_ends_with_the_patches() -> None:
    before = {name: getattr(cpp.GuardManager, name) for name in vars(cpp.GuardManager)}
    recorder, patches = GuardRecorder(), Patches()
    recorder.install(patches)
    assert cpp.GuardManager.add_equals_match_guard is not before["add_equals_match_guard"]
    patches.undo()
    assert {name: getattr(cpp.GuardManager, name) for name in vars(cpp.GuardManager)} == before


def test_every_method_that_builds_is_recorded_or_known_to_read() -> None:
    known = {operation.name for operation in OPERATIONS}
    refused = {
        "add_dict_version_guard", "add_fake_script_type_match_guard", "global_weakref_manager",
        "indexed_manager", "set_local_state", "tensor_property_shape_manager",
        "tensor_property_size_manager", "tensor_property_stride_manager",
        "tensor_property_storage_offset_manager", "weakref_call_manager",
    }  # fmt: skip
    reads = re.compile(
        r"__.*|_pybind.*|check.*|get_.*|is_.*|has_.*|repr|fail_count|type_of.*|clone_.*|attach_.*"
    )
    for cls in (cpp.GuardManager, cpp.RootGuardManager, cpp.DictGuardManager):
        names = {name for name in vars(cls) if name not in known | refused}
        assert {name for name in names if not reads.fullmatch(name)} == set()


def test_a_python_function_that_is_not_known_is_refused() -> None:
    for function in (len, lambda value: value, functools.partial(int)):
        with pytest.raises(NotLean, match="Python function"):
            function_of(function, "add_lambda_guard", "L['x']")


# Identities.


def make_function(source: str) -> Any:
    names: dict[str, Any] = {"__name__": "made", "torch": torch}
    exec(textwrap.dedent(source), names)
    return names["f"]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("def f(x, y=1): return x", "def f(x, y=2): return x"),
        ("def f(x, *, y=1): return x", "def f(x, *, y='1'): return x"),
        ("def f(x): return x + 1", "def f(x): return x + 2"),
        ("def g(a):\n  def f(x): return x * a\n  return f\nf = g(1)",
         "def g(a):\n  def f(x): return x * a\n  return f\nf = g(2)"),
        ("def g(a):\n  def f(x): return a(x)\n  return f\nf = g(lambda x: 1)",
         "def g(a):\n  def f(x): return a(x)\n  return f\nf = g(lambda x: 2)"),
        ("class f:\n  def a(self): ...", "class f:\n  def a(self): return 1"),
        ("class f:\n  def a(self): ...", "class f:\n  @property\n  def a(self): return 1"),
        ("class f:\n  def a(self, x=1): ...", "class f:\n  def a(self, x=2): ..."),
        ("class f:\n  def a(self, *, x=1): ...", "class f:\n  def a(self, *, x='1'): ..."),
        ("def d(g): return lambda *a: g(*a)\nclass f:\n  @d\n  def a(self): return 1",
         "def d(g): return lambda *a: g(*a)\nclass f:\n  @d\n  def a(self): return 2"),
        ("class f: ...", "class f(int): ..."),
        ("class f: ...", "class f:\n  @staticmethod\n  def __getattr__(name): ..."),
    ],
)  # fmt: skip
def test_identities_differ(first: str, second: str) -> None:
    here, there = (Describer().describe(make_function(source)) for source in (first, second))
    assert here[:2] == there[:2]
    assert here[2] != there[2]
    assert Describer().describe(make_function("\n\n" + first)) == here


class Both(enum.Enum):
    ONE = 1


@pytest.mark.parametrize(
    "value",
    [None, True, ..., torch.float32, torch.strided, torch, len, torch.nn.Linear, dict.get, math.sin, Both,
     Both.ONE, torch.nn.functional.relu, types.FunctionType, torch._C._get_tracing_state],
    ids=lambda value: re.sub(r"0x[0-9a-f]+", "0x", repr(value)),
)  # fmt: skip
def test_named_objects_are_found_again(value: Any) -> None:
    kind, name, _ = Describer().describe(value)
    assert find(kind, name) is value


@pytest.mark.parametrize(
    "value",
    [3, "text", [].append, torch.ones(1), torch.nn.Linear(1, 1).forward, {}.get, (1,)],
    ids=["int", "str", "append", "tensor", "method", "get", "tuple"],
)
def test_objects_without_a_name_have_no_identity(value: Any) -> None:
    with pytest.raises(NotStorable):
        Describer().describe(value)


# Values.

VALUES = [
    None, True, 1, -(1 << 90), 1 << 64, 0.5, math.inf, 1 + 2j, "é\ud800", b"\0", ..., NotImplemented,
    (1, (2,)), [1, [2]], {1, "a"}, frozenset({(1, 2), "b"}), {"b": 1, "a": [2]}, slice(1, None, 2),
    range(1, 9, 3), torch.Size([2, 3]), torch.bfloat16, torch.sparse_coo, torch.channels_last,
    torch.device("cuda", 1), torch.device("cpu"), Both.ONE, torch.nn.Linear, len,
    np.float32(1.5), np.int64(7), np.bool_(True),
]  # fmt: skip


@pytest.mark.parametrize("value", VALUES, ids=range(len(VALUES)))
def test_values_come_back(value: Any) -> None:
    table: list[Any] = []

    def enter(found: Any) -> int:
        table.append(found)
        return len(table) - 1

    term = term_of(value, enter)
    pack(term)
    back = value_of(term, table.__getitem__)
    assert same_value(value, back)
    assert repr(value) == repr(back) or isinstance(value, set | frozenset)


def test_a_view_of_keys_comes_back() -> None:
    keys = {"a": 1, "b": 2}.keys()
    assert value_of(term_of(keys, id), id) == keys


@pytest.mark.parametrize(
    "value",
    [math.nan, (math.nan,), Odd(), torch.ones(1), object(), np.array([1]), iter(()), bytearray(b"a")],
    ids=lambda value: type(value).__name__,
)
def test_values_without_a_term_are_refused(value: Any) -> None:
    with pytest.raises(NotStorable):
        term_of(value, id)


# Shapes.

GOOD = [
    "if not (2 <= L['x'].size()[0]):\n    return False",
    "_var0 = L['x'].size\n_var1 = _var0()[0]\nif not (_var1 == L['n'] and _var1 % 2 == 0):\n    return False",
    "if not (L['a'] is G['b'].weights[0]):\n    return False",
    "if not (max(1, L['x'].stride()[0]) // 2 >= math.floor(L['f'] / 2)):\n    return False",
    "_var0 = math.isnan\nif not (not _var0(dict(type(L['s']).__dict__)['scale'])):\n    return False",
    "if not (L['f'].__closure__[0].cell_contents == 3):\n    return False",
]
BAD = [
    "import os",
    "x = 1",
    "_var0 = open('x')",
    "_var0: int = 1",
    "if L['x']:\n    return True",
    "if not L['x']:\n    return False\nelse:\n    pass",
    "if not __import__('os').system('x'):\n    return False",
    "if not ().__class__.__bases__:\n    return False",
    "if not L['x'].__reduce__():\n    return False",
    "if not L['x'].save():\n    return False",
    "if not L['x'].size(*L['y']):\n    return False",
    "if not (lambda: 1)():\n    return False",
    "if not [a for a in L['x']]:\n    return False",
    "if not f'{L}':\n    return False",
    "if not (_var0 := 1):\n    return False",
    "if not _var7:\n    return False",
    "if not L['x'].size(G['f'](1)):\n    return False",
    "if not math.fsum:\n    return False",
    "if not G['torch'].load('x'):\n    return False",
    "def f(): pass",
    "while True: pass",
    "if not b'x':\n    return False",
    "(",
]


@pytest.mark.parametrize("body", GOOD)
def test_guards_over_shapes_are_compiled(body: str) -> None:
    text, _ = canonical(body, {})
    assert canonical(text, {})[0] == text
    assert callable(compile_guard(text, {}))


@pytest.mark.parametrize("body", BAD)
def test_other_source_is_refused_when_recorded_and_when_built(body: str) -> None:
    with pytest.raises(NotInLanguage):
        canonical(body, {})
    with pytest.raises(NotInLanguage):
        compile_guard(body, {})


def test_a_compiled_guard_decides() -> None:
    text, names = canonical("if not (L['x'].size()[0] == G['n'] + 1):\n    return False", {})
    assert names == {"n"}
    guard = compile_guard(text, {"n": 2})
    assert guard({"x": torch.ones(3)}) is True
    assert guard({"x": torch.ones(4)}) is False


def test_modules_behind_the_compiler_are_named_directly() -> None:
    import operator

    polyfills = types.ModuleType("torch._dynamo.polyfills.x")
    polyfills.operator = operator  # type: ignore[attr-defined]
    polyfills.mine = 3  # type: ignore[attr-defined]
    body = "_var0 = G['p']\nif not (_var0.operator is G['o']):\n    return False"
    text, names = canonical(body, {"p": polyfills})
    assert names == {"o"}
    assert compile_guard(text, {"o": operator})({}) is True
    for left in ("G['p'].mine", "G['p']"):
        with pytest.raises(NotInLanguage, match="compiler"):
            canonical(f"if not ({left} is G['o']):\n    return False", {"p": polyfills})


# Examples.


@pytest.mark.parametrize("cls", [int, float, str, bool, tuple, types.CodeType, type(len), torch.Tensor, Both])
def test_examples_are_as_immutable_as_asked(cls: Any) -> None:
    kind = guards.GuardManagerType.GUARD_MANAGER
    for immutable in (True, False):
        root = cpp.RootGuardManager()
        value = example(cls, immutable, -1)
        manager = root.framelocals_manager(("x", 0), "L['x']", value, kind)
        if not immutable and cls in (int, float, str, bool, types.CodeType, type(len)):
            continue  # never
        assert manager.is_guarded_value_immutable() is immutable


def test_examples_of_dictionaries_run_nothing() -> None:
    class Loud(dict):  # type: ignore[type-arg]
        def __init__(self) -> None:
            raise AssertionError

        def __setitem__(self, key: Any, value: Any) -> None:
            raise AssertionError

    value = example(Loud, False, 3)
    assert type(value) is Loud
    assert dict.__len__(value) == 3


@pytest.mark.parametrize("rank", [0, 1, 3])
def test_a_sample_for_a_device_that_is_not_there(rank: int) -> None:
    value = sample("float16", "cuda", 7, True, rank)
    assert (value.dtype, str(value.device), value.requires_grad, value.dim()) == (
        torch.half,
        "cuda:7",
        True,
        rank,
    )


# Stand-ins.


@pytest.fixture
def no_dynamo(monkeypatch: pytest.MonkeyPatch) -> None:
    # C++ has torch's own type already, whatever is read from a stand-in here
    monkeypatch.setattr(_guard_manager, "_handed_out", _guard_manager._handed_out)
    for name in [
        name for name in sys.modules if name == "torch._dynamo" or name.startswith("torch._dynamo.")
    ]:
        monkeypatch.delitem(sys.modules, name)


@pytest.mark.usefixtures("no_dynamo")
def test_stand_ins_are_there_only_inside() -> None:
    with stand_ins(), stand_ins():
        stand_in = sys.modules["torch._dynamo.guards"]
        assert stand_in.GuardManagerType is _guard_manager.GuardManagerType
        _guard_manager.configure(False, 5)
        config = sys.modules["torch._dynamo.config"]
        assert config.skip_tensor_guards_with_matching_dict_tags is False
        assert config.max_saved_pointers_for_recursive_dict_tags_check == 5
        with pytest.raises(AttributeError):
            _ = stand_in.CheckFunctionManager
        assert "torch._dynamo" not in sys.modules
    assert not [name for name in sys.modules if name.startswith("torch._dynamo")]
    with pytest.raises(ZeroDivisionError), stand_ins():
        raise ZeroDivisionError
    assert "torch._dynamo.guards" not in sys.modules


@pytest.mark.usefixtures("no_dynamo")
def test_another_thread_waits_for_the_real_module(monkeypatch: pytest.MonkeyPatch) -> None:
    real = types.ModuleType("torch._dynamo.config")
    real.recompile_limit = 8  # type: ignore[attr-defined]
    seen: list[Any] = []
    with stand_ins():
        stand_in = sys.modules["torch._dynamo.config"]
        thread = threading.Thread(target=lambda: seen.append(stand_in.recompile_limit))
        thread.start()
        thread.join(0.05)
        assert seen == []
    monkeypatch.setitem(sys.modules, "torch._dynamo.config", real)
    thread.join(5)
    assert seen in ([8], [torch._dynamo.config.recompile_limit])


@pytest.mark.usefixtures("no_dynamo")
def test_firebrick_itself_takes_no_stand_in_for_the_module() -> None:
    seen: list[Any] = []

    def look() -> None:
        seen.extend((compiler_free.wants_own_precompile(), compiler_free.dynamo(), len(ambient_key({}))))

    with stand_ins():
        thread = threading.Thread(target=look)
        thread.start()
        thread.join(5)
        assert seen == [False, None, 64]
    assert not [name for name in sys.modules if name.startswith("torch._dynamo")]


@pytest.mark.usefixtures("no_dynamo")
def test_nothing_is_built_in_the_middle_of_the_import(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch._dynamo", types.ModuleType("torch._dynamo"))
    with pytest.raises(GuardsNotApplicable, match="being imported"), stand_ins():
        pass


def test_with_dynamo_nothing_stands_in(program: GuardProgram) -> None:
    with stand_ins():
        assert sys.modules["torch._dynamo.guards"] is guards
    module = subject(SUBJECT)
    manager = build(program, module.__dict__, module.f.__code__)
    assert type(manager) is guards.GuardManagerWrapper
    assert manager.diff_guard_root is not None
    on_dynamo_imported()
    wrapper = guards.GuardManagerWrapper()
    assert set(vars(wrapper)) <= set(vars(manager))
    assert set(vars(wrapper)) <= set(vars(Manager(cpp.RootGuardManager(), {}, [], [])))


def test_an_object_that_the_compiler_imported_is_named_where_it_comes_from() -> None:
    from torch._dynamo import polyfills

    body = "if not (G['p'].Iterable is G['mine'].Iterable):\n    return False"
    text, names = canonical(body, {"p": polyfills})
    assert "___module('collections.abc').Iterable" in text
    assert names == {"mine"}
    guard = compile_guard(text, {"mine": types.SimpleNamespace(Iterable=collections.abc.Iterable)})
    assert guard({})
    assert not compile_guard(text, {"mine": types.SimpleNamespace(Iterable=list)})({})
    with pytest.raises(NotInLanguage, match="the compiler's"):
        canonical("if not G['p'].all:\n    return False", {"p": polyfills})
    with pytest.raises(NotInLanguage, match="not imported"):
        compile_guard(text.replace("collections.abc", "turtledemo1"), {})


# The codec.


def test_a_program_that_contradicts_itself_is_not_encoded(program: GuardProgram) -> None:
    with pytest.raises(EncodeError, match="operand"):
        CODEC.encode(program._replace(parts=[]), no_source)  # type: ignore[arg-type]
    with pytest.raises(EncodeError, match="not a guard program"):
        CODEC.encode([], no_source)  # type: ignore[arg-type]


@pytest.mark.parametrize("body", [b"\xc0", pack([]), pack([1] * 13), pack({})])
def test_other_bytes_are_no_program(body: bytes) -> None:
    with pytest.raises(DecodeError):
        CODEC.decode(body, no_source, 1)


def test_programs_hold_nothing_of_this_process(program: GuardProgram) -> None:
    body = CODEC.encode(program, no_source)  # type: ignore[arg-type]
    text = body.decode("latin1")
    assert str(TESTS) not in text
    assert "0x" not in text
    assert not re.search(r"[0-9]{12}", " ".join(part for parts in program.parts for part in parts))


# The document.


def table(title: str) -> list[list[str]]:
    rows = DOCUMENT[DOCUMENT.index(f"| {title} |") :].partition("\n\n")[0].splitlines()[2:]
    return [[cell.strip(" `") for cell in row.strip("|").split("|")] for row in rows]


def test_the_document_names_every_operation_operand_term_and_function() -> None:
    described = table("operation")
    assert [row[0] for row in described] == [operation.name for operation in OPERATIONS]
    for row, operation in zip(described, OPERATIONS, strict=True):
        common = {"source", "example_value", "guard_manager_enum", "verbose_code_parts", "user_stack"}
        assert row[1] == ", ".join(f"{n}: {s}" for n, s in operation.operands if n not in common)
    assert [row[0] for row in table("operand")] == [
        text for name, text in vars(Operand).items() if name.isupper()
    ]
    assert [(row[0], int(row[1])) for row in table("term")] == [
        item for item in vars(Term).items() if item[0].isupper()
    ]
    assert [row[0] for row in table("function")] == list(FUNCTIONS)
