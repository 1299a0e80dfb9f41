"""A guard state is read without running what it names."""

import collections
import copyreg
import enum
import functools
import io
import logging
import os
import pickle
import pickletools
import re
import sys
import types
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
import torch._dynamo.guards

from firebrick.errors import DecodeError, ForbiddenGlobal
from firebrick.guards.unpickler import _Unpickler, read_guard_state, reads_back
from firebrick.torch_api.minors import has
from support.programs import start

DISPATCHED = """
import contextlib, json, linecache, torch, firebrick
SOURCE = "def f(x): return x.sin() + 1"
linecache.cache["dispatched.py"] = len(SOURCE), None, [SOURCE], "dispatched.py"
exec(compile(SOURCE, "dispatched.py", "exec"))
compiled = torch.compile(f)
for mode in {modes}:
    with torch.inference_mode() if mode == "yes" else contextlib.nullcontext():
        compiled(torch.ones(3))
firebrick.flush()
print(json.dumps({{"hits": firebrick.stats().hits, "all": firebrick.stats().summary()}}))
"""


VMAPPED = """
import json, linecache, torch, torch.utils._pytree as pytree, firebrick
SOURCE = "def f(x): return torch.func.vmap(torch.sin)(x) + 1"
linecache.cache["vmapped.py"] = len(SOURCE), None, [SOURCE], "vmapped.py"
exec(compile(SOURCE, "vmapped.py", "exec"))
if {registered}:
    class Node: pass
    pytree.register_pytree_node(Node, lambda node: ([], None), lambda children, context: Node())
torch.compile(f)(torch.ones(3, 3))
firebrick.flush()
print(json.dumps({{"hits": firebrick.stats().hits, "misses": list(firebrick.stats().misses)}}))
"""


class Trap:
    """A class of a user's program whose every entry point tells when it runs."""

    sprung: list[str] = []

    def __new__(cls) -> "Trap":
        Trap.sprung.append("new")
        return super().__new__(cls)


class Quiet:
    def __init__(self) -> None:
        Trap.sprung.append("init")

    def __setstate__(self, state: object) -> None:
        Trap.sprung.append("setstate")


class Plain:
    def method(self) -> None: ...


class Calls:
    def __init__(self, function: object, *args: object) -> None:
        self.reduced = function, args

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return self.reduced


def load(data: bytes) -> object:
    return _Unpickler(io.BytesIO(data)).load()


@pytest.fixture(autouse=True)
def quiet() -> None:
    Trap.sprung.clear()


@pytest.mark.parametrize(
    "function",
    [os.system, print, eval, exec, getattr, pickle.loads, __import__, sys.exit, breakpoint],
)
def test_a_call_that_is_not_allowed_does_not_happen(
    function: object, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ForbiddenGlobal):
        load(pickle.dumps(Calls(function, "print('run')")))
    assert capsys.readouterr().out == ""


def test_naming_a_function_or_class_is_allowed() -> None:
    assert load(pickle.dumps([os.system, Trap, torch.nn.Linear])) == [
        os.system,
        Trap,
        torch.nn.Linear,
    ]


def test_a_module_that_is_not_imported_is_not_imported() -> None:
    data = pickle.dumps(collections.OrderedDict).replace(b"\x8c\x0bcollections", b"\x8c\x0bturtledemo1")
    with pytest.raises(ForbiddenGlobal):
        load(data)
    assert "turtledemo1" not in sys.modules


def test_an_object_of_a_user_class_is_made_without_running_its_code() -> None:
    quiet = Quiet.__new__(Quiet)
    quiet.depth = 3  # type: ignore[attr-defined]
    made = load(pickle.dumps(quiet))
    assert type(made) is Quiet and made.depth == 3  # type: ignore[attr-defined]
    assert Trap.sprung == []


def test_a_user_class_with_a_new_of_its_own_is_refused() -> None:
    trap = object.__new__(Trap)
    with pytest.raises(ForbiddenGlobal, match="Trap"):
        load(pickle.dumps(trap))
    assert Trap.sprung == []


def test_calling_a_user_class_is_refused_or_makes_it_bare() -> None:
    with pytest.raises(ForbiddenGlobal, match="Trap"):
        load(pickle.dumps(Calls(Trap)))
    assert type(load(pickle.dumps(Calls(Quiet)))) is Quiet
    assert Trap.sprung == []


def test_a_copyreg_reconstruction_can_not_smuggle_a_class() -> None:
    with pytest.raises(ForbiddenGlobal):
        load(pickle.dumps(Calls(copyreg._reconstructor, Trap, object, None)))  # type: ignore[attr-defined]
    assert Trap.sprung == []


def test_a_partial_is_never_called_while_it_is_read() -> None:
    made = load(pickle.dumps(functools.partial(os.system, "exit 1")))
    assert isinstance(made, functools.partial) and made.func is os.system


@pytest.mark.parametrize("data", [b"", b"\x80\x04", b"garbage", pickle.dumps(7), pickle.dumps([1])[:-1]])
def test_other_bytes_are_a_decode_error(data: bytes) -> None:
    with pytest.raises(DecodeError):
        read_guard_state(data)


def test_old_opcodes_that_call_are_refused() -> None:
    data = b"(S'exit 1'\nios\nsystem\n."
    assert any(op.name == "INST" for op, *_ in pickletools.genops(data))
    with pytest.raises(ForbiddenGlobal):
        read_guard_state(data)


class Pair(NamedTuple):
    left: int
    right: int


class Trapped(Pair):
    def __new__(cls, *items: int) -> "Trapped":
        Trap.sprung.append("new")
        return tuple.__new__(cls, items)


class Colour(enum.Enum):
    RED = "r"

    @classmethod
    def _missing_(cls, value: object) -> None:
        Trap.sprung.append("missing")


def test_named_tuples_enumerations_and_namespaces_are_read_without_their_constructors() -> None:
    values = [Pair(1, 2), Trapped(3, 4), Colour.RED, types.SimpleNamespace(a=1, b=Pair(5, 6))]
    values += [Pair._make, tuple.__new__, torch._C.DispatchKey.CPU]
    data = pickle.dumps(values)
    Trap.sprung.clear()
    back = load(data)
    assert back == values
    assert list(map(type, back)) == list(map(type, values))
    assert back[2] is Colour.RED
    assert Trap.sprung == []


class Prepared(Pair):
    def __reduce__(self) -> tuple[object, ...]:
        return Pair, (1, 2)


class Registered: ...


copyreg.pickle(Registered, lambda _: (Plain, ()))  # type: ignore[arg-type]


class Proxy:
    inner = 1

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


class Hashed:
    def __hash__(self) -> int:
        return hash(self.name)  # type: ignore[attr-defined]


class Stateful:
    def __getstate__(self) -> list[int]:
        return [1, 2]


class Immutable:
    __slots__ = ("x",)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError("immutable")


def marked(tensor: torch.Tensor) -> torch.Tensor:
    tensor.tag = 1  # type: ignore[attr-defined]
    return tensor


CERTAIN = [
    os.system, len, Trap, Quiet, Calls, Plain(), types.SimpleNamespace(a=1), functools.partial(len, ()),
    collections.OrderedDict(a=1), torch.float32, torch.device("cpu"), torch.Size([2]),
    torch._dynamo.guards.GuardsStatePickler._unpickle_module, torch.empty(2, device="meta"),
    torch.nn.Linear(1, 1, device="meta"),
]  # fmt: skip
UNCERTAIN = [
    [].append, Plain().method, Pair(1, 2), Prepared(1, 2), Colour.RED, object.__new__(Trap), Quiet(),
    Calls(print), logging.getLogger("quiet"), collections.OrderedDict.fromkeys, re.compile("x"), int | str,
    Registered(), type(None), torch.strided, Proxy(), Hashed(), Stateful(), Immutable(),
    marked(torch.empty(1)), marked(torch.nn.Parameter(torch.empty(1))),
]  # fmt: skip


@pytest.mark.parametrize("value", CERTAIN)
def test_what_is_certain_to_be_read_back_is_read_back(value: object) -> None:
    classes: dict[type, bool] = {}
    assert reads_back(value, NotImplemented, classes)
    assert type(load(pickle.dumps(value))) is type(value)
    assert reads_back(value, NotImplemented, classes)


@pytest.mark.parametrize("value", UNCERTAIN)
def test_what_is_not_certain_to_be_read_back_has_to_be_tried(value: object) -> None:
    assert not reads_back(value, NotImplemented, {})


def test_what_a_pickler_reduces_otherwise_is_judged_by_what_is_called() -> None:
    pickler = torch._dynamo.guards.GuardsStatePickler
    assert reads_back(object(), (pickler._unpickle_module, ({},)), {})
    assert not reads_back(object(), (os.system, ("true",)), {})
    made_up = types.ModuleType("made_up")
    assert reads_back(os, (pickler._unpickle_python_module, ("os",)), {})
    assert not reads_back(made_up, (pickler._unpickle_python_module, ("made_up",)), {})
    for module, certain in ((__name__, True), ("made_up", False), (None, False)):
        assert reads_back(load, (pickler._unpickle_nested_function, (load.__code__, module)), {}) == certain


def text(name: str) -> bytes:
    """Write a text in the oldest protocol."""
    return b"S'%b'\n" % name.encode()


def named(module: str, name: str) -> bytes:
    return b"c%b\n%b\n" % (module.encode(), name.encode())


SYSTEM, TOUCH = named("posix", "system"), text("touch ran")
NAMESPACE = named("types", "SimpleNamespace") + b")R"


@pytest.mark.parametrize(
    "data",
    [
        # an attribute in place of a container's method
        NAMESPACE + b"(d" + text("append") + SYSTEM + b"sb" + TOUCH + b"a.",
        NAMESPACE + b"(d" + text("extend") + SYSTEM + b"sb(" + TOUCH + b"e.",
        b"\x80\x04" + NAMESPACE + b"(d" + text("update") + SYSTEM + b"sb(" + TOUCH + b"\x90.",
        # a callable under another's name
        named("functools", "partial") + b"(" + SYSTEM + b"tR(" + SYSTEM + b"(" + TOUCH + b"t(d(d"
        + text("__module__") + text("builtins") + b"s" + text("__qualname__") + text("list") + b"stb)R.",
        # a class under another's name
        named("os", "_wrap_close") + b"(N(d" + text("__module__") + text("torch._guards") + b"stb.",
    ],
)  # fmt: skip
def test_nothing_is_called_by_a_detour(data: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    before = os._wrap_close.__module__  # type: ignore[attr-defined]
    with pytest.raises(ForbiddenGlobal):
        read_guard_state(data)
    assert list(tmp_path.iterdir()) == []
    assert os._wrap_close.__module__ == before  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "data",
    [
        named("sys", "path") + text("/elsewhere") + b"a.",
        named("sys", "modules") + text("kiln") + b"Ns.",
        named("sys", "modules") + b"(" + text("kiln") + b"Nu.",
        named("torch._dynamo", "config") + b"(d" + text("kiln") + b"Nsb.",
        named("logging", "root") + b"(d" + text("kiln") + b"Nsb.",
        named("enum", "Enum") + b"(d" + text("kiln") + b"Nsb.",
    ],
)
def test_nothing_of_the_process_is_changed(data: bytes) -> None:
    before = list(sys.path), set(sys.modules)
    with pytest.raises(ForbiddenGlobal, match=r"changes it|filled by"):
        read_guard_state(data)
    assert before == (list(sys.path), set(sys.modules))
    assert not hasattr(logging.root, "kiln") and not hasattr(torch._dynamo.config, "kiln")


def test_a_function_is_changed_by_the_pickle_that_made_it_alone() -> None:
    def made() -> None: ...

    unpickler = _Unpickler(io.BytesIO(b""))
    assert unpickler._made(made) is made
    found = unpickler.find_class(__name__, "load")
    with pytest.raises(ForbiddenGlobal, match="changes it"):
        unpickler._made(found)


@pytest.mark.parametrize("state", ["{", "{}", "[]", "", '{"grad_mode": 1}', None, 3])
def test_a_global_state_that_torch_did_not_write_is_a_decode_error(state: object) -> None:
    made = pickle.dumps(Calls(torch._C._dynamo.guards.GlobalStateGuard))
    with pytest.raises(DecodeError, match="global state"):
        read_guard_state(made[:-1] + pickle.dumps(state, 2)[2:-1] + b"b.")


@pytest.mark.skipif(not has("torch._C._dynamo.guards:LocalState"), reason="since torch 2.14")
class TestTheStateOfDispatch:
    def test_comes_back(self) -> None:
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
            made = torch._C._dynamo.guards.RootGuardManager().get_local_state()
        state = made.__getstate__()
        assert load(pickle.dumps(made)).__getstate__() == state  # type: ignore[attr-defined]
        assert torch._C._dynamo.guards.RootGuardManager().get_local_state().__getstate__() != state

    @pytest.mark.parametrize(
        "state",
        [
            (), None, "state", [1, 2, 0, True, True], (1, 2, 0, True), (1, 2, 0, 1, True),
            (1, 2, 0, True, True, 0), (1.0, 2, 0, True, True), (-1, 2, 0, True, True),
            (1, 1 << 64, 0, True, True), (True, 2, 0, True, True),
        ],
    )  # fmt: skip
    def test_that_torch_did_not_write_is_a_decode_error(self, state: object) -> None:
        made = pickle.dumps(Calls(torch._C._dynamo.guards.LocalState))
        with pytest.raises(DecodeError, match="state of dispatch"):
            read_guard_state(made[:-1] + pickle.dumps(state, 2)[2:-1] + b"b.")

    def test_under_which_guards_are_loaded_does_not_count(self, tmp_path: Path) -> None:
        """The first call builds the guards in inference mode; they fit the second one, outside of it."""
        for hits, modes in ((0, "no"), (1, "yes no")):
            code = DISPATCHED.format(modes=modes.split())
            finished = start(
                ["-c", code],
                home=tmp_path / f"home{hits}",
                store=tmp_path / "store",
                env={"FIREBRICK_LEAN": "0"},
            )
            assert finished.returncode == 0, finished.stderr
            assert finished.report["hits"] == hits, finished.report


@pytest.mark.skipif(not has("torch._guards:Guard._force_dict_keys_match"), reason="since torch 2.14")
def test_a_guard_on_the_table_of_pytree_nodes_compares_its_keys(tmp_path: Path) -> None:
    """What calls ``vmap`` has one. Dynamo compares the table's version, but not in guards that are stored."""
    outcomes = []
    for number, registered in enumerate((False, False, True)):
        code = VMAPPED.format(registered=registered)
        home, env = tmp_path / f"home{number}", {"FIREBRICK_LEAN": "0"}
        finished = start(["-c", code], home=home, store=tmp_path / "store", env=env)
        assert finished.returncode == 0, finished.stderr
        outcomes.append((finished.report["hits"], *finished.report["misses"]))
    *same, (hits, why) = outcomes
    assert same == [(0, "not in the store"), (1,)]
    assert hits == 0 and "`len(__import__('torch').utils._pytree.SUPPORTED_NODES)`: stored " in why


@pytest.mark.parametrize("args", [(Trap, "sprung"), (Pair, "left"), ([1], "append"), (Pair, "_make", 1), ()])
def test_getattr_gives_nothing_else_than_such_methods(args: tuple[object, ...]) -> None:
    with pytest.raises(ForbiddenGlobal, match="getattr"):
        load(pickle.dumps(Calls(getattr, *args)))


def test_getattr_gives_methods_of_immutable_values_which_are_not_called() -> None:
    method = frozenset("a").__contains__
    loaded = load(pickle.dumps(method))
    assert callable(loaded) and loaded("a")
    with pytest.raises(ForbiddenGlobal):
        load(pickle.dumps(Calls(method, "a")))


@pytest.mark.parametrize("args", [("blue",), ([],), ("r", "r"), ()])
def test_a_member_that_an_enumeration_lacks_is_refused(args: tuple[object, ...]) -> None:
    with pytest.raises(ForbiddenGlobal, match="Colour"):
        load(pickle.dumps(Calls(Colour, *args)))
    assert Trap.sprung == []
