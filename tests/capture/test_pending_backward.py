"""Inference with gradients enabled: the backward graph is compiled when the recording process ends."""

import pytest

from support.places import PROGRAMS
from support.programs import run_cases, start

pytestmark = pytest.mark.compiles

PROGRAM = PROGRAMS / "pending.py"


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    root = tmp_path_factory.mktemp("pending")
    cold = run_cases(PROGRAM, ["infer"], home=root / "cold", env={"BACKWARD": "1"}).case("infer")["value"]
    return root / "store", cold, run_cases(PROGRAM, ["infer"], home=root / "1", store=root / "store")


def test_the_call_itself_compiles_no_backward(recorded):
    case = recorded[2].case("infer")
    assert case["work"]["lowerings"] == 1
    assert "stored" not in case["stats"]
    assert recorded[2].report["counts"]["lowerings"] == 2
    assert recorded[2].report["stats"]["stored"] == 1
    assert not recorded[2].report["stats"].get("bypasses")


@pytest.mark.parametrize("env", [{}, {"BACKWARD": "1"}, {"BACKWARD": "1", "FIREBRICK_LEAN": "0"}])
def test_later_starts_have_both_graphs(recorded, tmp_path, env):
    store, (out, gradients), _ = recorded
    case = run_cases(PROGRAM, ["infer"], home=tmp_path, store=store, env=env).case("infer")
    assert case["work"] == {}
    assert case["value"] == ([out, gradients] if "BACKWARD" in env else out)
    assert case["stats"].get("lean", 0) == ("FIREBRICK_LEAN" not in env)


def test_the_exit_of_a_process_stores_it(tmp_path):
    """At a real exit, where Python starts no thread; the bundle is tested there too."""
    script = f"import sys; sys.path.insert(0, {str(PROGRAM.parent)!r}); import pending; pending.infer()"
    options = {"store": tmp_path / "store", "env": {"FIREBRICK_SELF_TEST": "1"}}
    ended = start(["-P", "-c", script], home=tmp_path / "1", **options)
    assert ended.returncode == 0
    assert "Error" not in ended.stderr
    case = run_cases(PROGRAM, ["infer"], home=tmp_path / "2", **options).case("infer")
    assert case["stats"]["lean"] == 1
    assert case["work"] == {}


def test_flush_stores_before_the_end(tmp_path):
    case = run_cases(PROGRAM, ["flushed"], home=tmp_path, store=tmp_path / "store").case("flushed")
    assert case["stats"]["stored"] == 1
    assert case["work"]["lowerings"] == 2


@pytest.mark.parametrize(
    ("name", "env", "reason"),
    [
        ("fails_later", {}, "backward: "),
        ("flushed", {"FIREBRICK_COMPILE_BACKWARD": "0"}, "no artifact of its backend"),
    ],
)
def test_what_is_left_out_says_why(tmp_path, name, env, reason):
    ran = run_cases(PROGRAM, [name], home=tmp_path, store=tmp_path / "store", env=env)
    assert "stored" not in ran.case(name)["stats"]
    (bypass,) = ran.report["stats"]["bypasses"]
    assert bypass.startswith(reason)
    assert not ran.report["stats"]["faults"]
