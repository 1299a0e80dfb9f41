"""A bundle that was compiled for one GPU runs on another of the same kind: only indices change."""

import ast

import pytest
import torch

from firebrick.capture.wrapper_devices import take_device
from firebrick.codecs.guard_program import NUMBERS, GuardProgram
from firebrick.errors import NotLean
from firebrick.loader.device_remap import DeviceRemap, moved_code, moved_name, moved_program, remaps_of
from firebrick.reports.not_served import Miss
from firebrick.storage.keys import ContentKey
from firebrick.storage.manifest import Fact, LeanForm, Placement
from support.places import PROGRAMS
from support.programs import run_cases

pytestmark = pytest.mark.compiles

MOVE = DeviceRemap(0, 1)


# Wrappers.


def taken(body):
    function = ast.parse(f"def call(args):\n    {body}").body[0]
    return take_device([function]), ast.unparse(function.body)


@pytest.mark.parametrize(
    ("body", "index", "expected"),
    [
        ("torch.cuda.set_device(0)", 0, "torch.cuda.set_device(device_index)"),
        ("s = get_raw_stream(3)", 3, "s = get_raw_stream(device_index)"),
        ("f(device=device(type='cuda', index=1), n=1)", 1,
         "f(device=device(type='cuda', index=device_index), n=1)"),
        ("torch.cuda._DeviceGuard(0); get_raw_stream(0)", 0,
         "torch.cuda._DeviceGuard(device_index)\nget_raw_stream(device_index)"),
        ("f(0, device(type='cpu'), device(type='meta', index=0))", None,
         "f(0, device(type='cpu'), device(type='meta', index=0))"),
        ("get_raw_stream(0); get_raw_stream(1)", None, "get_raw_stream(0)\nget_raw_stream(1)"),
        ("f(get_raw_stream(0), 'cuda:0')", None, "f(get_raw_stream(0), 'cuda:0')"),
    ],
)  # fmt: skip
def test_the_one_device_of_a_wrapper_becomes_a_name(body, index, expected):
    assert taken(body) == (index, expected)


def test_a_wrapper_that_has_the_name_is_refused():
    with pytest.raises(NotLean, match="uses device_index"):
        taken("device_index = get_raw_stream(0)")


# Guards.


def program():
    guard = NUMBERS["add_tensor_match_guard"]
    text = "check_tensor(x, Tensor, torch.float32, device=0, requires_grad=False, size=[0])"
    return GuardProgram(
        True, 0, "", [], None, ["x"], [[text], ["x.device=0, as it is"]], [["no term"]], [], [],
        [["float32", "cuda", 0, False, 0], ["float32", "cuda", 2, False, 0], ["int64", "cpu", None, True, 1]],
        [], [[guard, 0, 0, 0, 0, 0, 0, 0], [NUMBERS["add_none_match_guard"], 0, 1]],
    )  # fmt: skip


def test_guards_look_at_the_other_device():
    before = program()
    after = moved_program(before, MOVE)
    assert after.tensors == [
        ["float32", "cuda", 1, False, 0], ["float32", "cuda", 2, False, 0], ["int64", "cpu", None, True, 1],
    ]  # fmt: skip
    assert after.parts == [[before.parts[0][0].replace("device=0", "device=1")], before.parts[1]]
    assert after._replace(tensors=before.tensors, parts=before.parts) == before == program()


# Bytecode.


def test_code_holds_the_other_device_and_calls_the_other_functions():
    zero, one, host = torch.device("cuda:0"), torch.device("cuda:1"), torch.device("cpu")
    inner = compile("f(1)", "inner", "eval").replace(co_consts=(zero,))
    code = compile("f(1)", "outer", "eval")
    code = code.replace(co_names=("backend", "other"), co_consts=(0, "cuda:0", host, (zero, 1), inner, zero))
    moved = moved_code(code, {"backend": b"key"}, MOVE)
    assert moved.co_names == (moved_name("backend", MOVE), "other")
    assert moved.co_consts[:4] == (0, "cuda:0", host, (one, 1)) and moved.co_consts[5] == one
    assert moved.co_consts[4].co_consts == (one,)
    assert moved_name("backend", MOVE) != moved_name("backend", DeviceRemap(0, 2))


# Which way a bundle is tried.


def manifest(*, pinned="", relies=None, gpu=0):
    process = [["torch.distributed.get_rank", [], "0"]]
    process += [] if relies is None else [["current GPU", [], str(relies)]]
    place = None if gpu is None else Placement(gpu, pinned)
    return LeanForm(ContentKey(b"g" * 32), {}, {}, [], place), [Fact(*fact) for fact in process]


@pytest.fixture
def current(monkeypatch):
    def choose(index):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "current_device", lambda: index)

    return choose


@pytest.mark.parametrize(
    ("made", "here", "expected"),
    [
        (manifest(gpu=None), 1, [None]),
        (manifest(gpu=None, relies=1), 1, [None]),
        (manifest(), 0, [None]),
        (manifest(relies=0), 0, [None]),
        (manifest(), 1, [MOVE, None]),
        (manifest(relies=0), 1, [MOVE]),
        (manifest(pinned="why"), 1, [None]),
        (manifest(pinned="why", relies=1), 1, [None]),
    ],
)
def test_a_bundle_goes_to_the_current_gpu_first(current, made, here, expected):
    current(here)
    assert remaps_of(*made) == expected


@pytest.mark.parametrize(
    ("made", "reason"),
    [
        (manifest(pinned="why", relies=0), "stored 0, here 1; it cannot be moved: why"),
        (manifest(gpu=None, relies=0), "stored 0, here 1; it cannot be moved: no tensor"),
    ],
)
def test_what_relies_on_the_current_gpu_and_can_not_be_moved_has_no_way(current, made, reason):
    current(1)
    with pytest.raises(Miss, match=reason):
        remaps_of(*made)


# In a process. The GPU is only said to be one: the functions run on the CPU.

PROGRAM = PROGRAMS / "moved.py"


def test_a_moved_bundle_is_served_beside_what_stays_where_it_is(tmp_path):
    def start(number, **env):
        run = run_cases(PROGRAM, ["function"], home=tmp_path / str(number), store=tmp_path / "store", env=env)
        return run.case("function")

    first, there, here = (start(n, GPU=gpu) for n, gpu in enumerate("010"))
    for case, gpu in ((there, "1"), (here, "")):
        assert case["value"][:2] == first["value"][:2]
        assert case["value"][2] == [gpu]
        assert case["work"] == {}
        assert case["stats"]["lean"] == 1
        assert not {"misses", "stored", "faults"} & set(case["stats"])
