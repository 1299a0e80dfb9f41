"""An audit traces what is served afresh: equal in every process for a program that did not change."""

import os
import select
import signal
import socket
import types
from collections import Counter

import pytest
import torch

import firebrick
from firebrick.capture.audited import Names, code_lines, graph_lines
from firebrick.errors import AuditError, DecodeError, UsageError
from firebrick.reports.runs import read
from firebrick.session import session as attach
from firebrick.session.auditor import SessionAuditor, auditor_of, let_go
from firebrick.storage.store import Store
from firebrick.validity.audit import VERSION, Texts, diff, differing, text_of, texts_of, whole
from support.places import PROGRAMS
from support.programs import run_cases

pytestmark = [pytest.mark.compiles, pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")]
PROGRAM = PROGRAMS / "audited.py"
CASES = (
    "function", "training", "breaks", "dynamic", "all_dynamic", "specialisations", "cells", "sets", "effects",
    "nested_graphs", "leaves_nothing",
)  # fmt: skip
TEXTS = Texts(("a = placeholder\nb = sin(a)",), ("L['x'] TENSOR_MATCH: 1",), "0 RESUME", {"L['x']": [3]})


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    root = tmp_path_factory.mktemp("recorded")
    env = {"PYTHONHASHSEED": "1"}
    return root / "store", run_cases(PROGRAM, CASES, home=root / "home", store=root / "store", env=env)


@pytest.fixture(scope="module", params=["lean", "full"])
def audited(request, recorded, tmp_path_factory):
    """All cases audited in one process, with another hash seed, folder and order; and its lane."""
    home = tmp_path_factory.mktemp(request.param)
    env = {
        "PYTHONHASHSEED": "2",
        "FIREBRICK_AUDIT": "1",
        "FIREBRICK_RECORD": "0",
        "FIREBRICK_LEAN": str(int(request.param == "lean")),
    }
    return request.param, run_cases(PROGRAM, CASES[::-1], home=home, store=recorded[0], env=env)


class TestAnUnchangedProgram:
    @pytest.mark.parametrize("name", CASES)
    def test_passes_the_audit_of_every_hit(self, name, recorded, audited):
        stats = audited[1].case(name)["stats"]
        assert recorded[1].case(name)["stats"]["stored"] >= 1
        assert stats["hits"] >= 1
        assert stats["audited"] == stats["hits"]
        assert not stats.get("not_audited")
        assert not stats.get("misses")

    @pytest.mark.parametrize("name", [name for name in CASES if name != "leaves_nothing"])
    def test_gives_the_bits_that_it_gave_when_it_was_stored(self, name, recorded, audited):
        assert audited[1].case(name)["value"] == recorded[1].case(name)["value"]

    def test_is_served_by_the_lane_that_is_audited(self, audited):
        lane, finished = audited
        assert bool(finished.case("function")["stats"].get("lean")) == (lane == "lean")

    def test_finds_dynamo_its_globals_and_random_numbers_as_they_were(self, audited):
        assert audited[1].case("leaves_nothing")["value"][1] == [[], []]


def test_no_audit_is_not_even_imported(recorded, tmp_path):
    env = {"FIREBRICK_RECORD": "0"}
    case = run_cases(PROGRAM, ["state_of_audits"], home=tmp_path, store=recorded[0], env=env).case(
        "state_of_audits"
    )
    assert case["stats"]["lean"] == 1
    assert case["value"][1] == []
    assert case["modules"] == []


@pytest.fixture
def doubled(tmp_path):
    """A function that a store has, in this process; Firebrick is enabled on it anew."""

    def double(x):
        return x * 2 + 1

    def call():
        torch.compiler.reset()
        options = {"fallback_by_default": True}
        return torch.compile(double, options=options)(torch.ones(3))

    with firebrick.enabled(tmp_path / "store", self_test=False):
        call()
        assert firebrick.stats().stored == 1
    with firebrick.enabled(tmp_path / "store", self_test=False):
        yield call
    torch.compiler.reset()


class TestTheBlock:
    def test_audits_what_is_served_in_it(self, doubled):
        with firebrick.audit() as found:
            doubled()
        assert (found.same, found.differed, found.not_audited) == (1, [], Counter())
        doubled()
        assert (firebrick.stats().hits, firebrick.stats().audited, found.same) == (2, 1, 1)
        assert [e.code for e in firebrick.stats().events.all() if e.outcome == "audited"] == ["audited"]

    def test_raises_before_a_stale_result_is_used(self, doubled, stale):
        with firebrick.audit() as found, pytest.raises(AuditError) as raised:
            doubled()
        error = raised.value
        assert found.differed == [error]
        assert error.parts == ("graph",)
        assert "-mul = stale" in error.diff.splitlines()
        assert any(line.startswith("+mul = call_function _operator.mul(") for line in error.diff.splitlines())
        assert "mul = stale" in error.stored.splitlines()
        assert "test_audit.py:doubled.<locals>.double" in str(error)
        assert firebrick.stats().differed == {error.function: 1}

    def test_only_tells_where_it_is_asked_to(self, doubled, stale):
        with firebrick.audit(raises=False) as found:
            assert doubled().tolist() == [3.0] * 3
        assert [error.parts for error in found.differed] == [("graph",)]
        assert [e.code for e in firebrick.stats().events.told()] == ["differs"]
        assert "-mul = stale" in str(firebrick.explain())

    def test_names_why_a_frame_was_not_audited(self, doubled, monkeypatch):
        def fails(*args, **kwargs):
            raise RuntimeError("no way to trace it\nand more")

        monkeypatch.setattr(firebrick.torch_api.load(), "retrace", fails)
        with firebrick.audit() as found:
            doubled()
        assert found.not_audited == {"torch cannot trace it: RuntimeError: no way to trace it": 1}
        assert firebrick.stats().not_audited == found.not_audited
        assert firebrick.stats().audited == 0

    @pytest.mark.parametrize(
        ("text", "why"),
        [
            ("", "keeps nothing to compare"),
            ("[]", "not what an audit compares"),
            ("[0,[],[],0,{}]", "form 0;"),
        ],
    )
    def test_names_what_a_bundle_lacks(self, doubled, monkeypatch, text, why):
        monkeypatch.setattr("firebrick.loader.bundles.Bundles.audit_text", lambda *_: text)
        with firebrick.audit() as found:
            doubled()
        (reason,) = found.not_audited
        assert why in reason

    def test_asks_for_a_session(self):
        assert attach.session() is None
        with pytest.raises(UsageError, match=r"firebrick\.enable"), firebrick.audit():
            pass


@pytest.fixture
def stale(monkeypatch):
    """Let what bundles keep be another graph than they have."""
    from firebrick.loader.bundles import Bundles

    original = Bundles.audit_text

    def audit_text(self, key):
        kept = texts_of(original(self, key))
        lines = ["mul = stale" if line.startswith("mul =") else line for line in kept.graphs[0].splitlines()]
        assert "mul = stale" in lines
        return text_of(kept._replace(graphs=("\n".join(lines),)))

    monkeypatch.setattr(Bundles, "audit_text", audit_text)


class TestAShareOfStarts:
    @pytest.fixture
    def forking(self, doubled, monkeypatch):
        """Gives what audits in forks recorded, once the last of them has ended, and what the store keeps."""
        session = attach.session()
        session.auditor = SessionAuditor(session, raises=False, forks=True)
        reading, writing = os.pipe()
        original, parent = SessionAuditor._record, os.getpid()

        def record(self, event):
            original(self, event)
            if os.getpid() != parent:
                os.write(writing, f"{event.code}\n".encode())

        monkeypatch.setattr(SessionAuditor, "_record", record)
        monkeypatch.setattr("firebrick.session.auditor.let_go", lambda: None)
        monkeypatch.setattr("threading.active_count", lambda: 1)

        def ended():
            os.close(writing)
            with os.fdopen(reading) as pipe:
                recorded = pipe.read().split()
            kept = [event for run in read(session.store).values() for event in run.events]
            return recorded, [event for event in kept if event.code in ("differs", "not-audited", "audited")]

        return ended

    def test_is_audited_in_a_fork_that_tells_the_store(self, doubled, stale, forking):
        assert doubled().tolist() == [3.0] * 3
        recorded, (event,) = forking()
        assert recorded == ["differs"]
        assert (event.outcome, event.code) == ("notice", "differs")
        assert "-mul = stale" in event.reason.splitlines()
        assert firebrick.stats().differed == {}  # nobody waits for it

    def test_leaves_nothing_to_tell_where_all_is_the_same(self, doubled, forking):
        assert doubled().tolist() == [3.0] * 3
        assert forking() == (["audited"], [])
        assert not firebrick.stats().not_audited

    def test_is_not_forked_with_several_threads(self, doubled, stale, forking, monkeypatch):
        monkeypatch.setattr("threading.active_count", lambda: 2)
        doubled()
        assert forking() == ([], [])
        assert firebrick.stats().not_audited == {"the process has several threads, and is not forked": 1}

    def test_is_not_forked_once_cuda_is_initialised(self, doubled, forking, monkeypatch):
        monkeypatch.setattr("torch.cuda.is_initialized", lambda: True)
        doubled()
        assert forking() == ([], [])
        assert list(firebrick.stats().not_audited) == ["CUDA is initialised, and the process is not forked"]

    def test_keeps_nobody_waiting_for_its_forks(self):
        pipe, (here, there) = os.pipe(), socket.socketpair()
        child = os.fork()
        if child == 0:
            let_go()
            signal.pause()
            os._exit(1)
        os.close(pipe[1])
        there.close()
        try:
            assert select.select([pipe[0]], [], [], 60)[0]
            assert select.select([here], [], [], 60)[0]
            assert (os.read(pipe[0], 1), here.recv(1)) == (b"", b"")
            assert os.waitpid(child, os.WNOHANG) == (0, 0)
        finally:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            os.close(pipe[0])
            here.close()

    def test_is_chosen_by_chance(self, doubled, monkeypatch):
        numbers = iter([0.009, 0.011])
        monkeypatch.setattr("random.SystemRandom.random", lambda self: next(numbers))
        session = types.SimpleNamespace(settings=types.SimpleNamespace(audit=0.01))
        assert auditor_of(session) is not None
        assert auditor_of(session) is None


class TestTheTexts:
    def test_come_back_as_they_were_kept(self):
        assert texts_of(text_of(TEXTS)) == TEXTS

    @pytest.mark.parametrize("text", ["", "{", "[]", "7", f"[{VERSION + 1},[],[],0,{{}}]"])
    def test_of_another_form_are_an_error(self, text):
        with pytest.raises(DecodeError):
            texts_of(text)

    @pytest.mark.parametrize(
        ("part", "other"),
        [
            ("graph", TEXTS._replace(graphs=("a = placeholder\nb = cos(a)",))),
            ("guards", TEXTS._replace(guards=())),
            ("bytecode", TEXTS._replace(code="0 NOP")),
        ],
    )
    def test_differ_by_their_parts(self, part, other):
        assert differing(TEXTS, other) == (part,)
        assert diff(TEXTS, other).startswith("--- stored\n+++ traced afresh\n")

    def test_do_not_differ_by_what_was_known_of_sizes(self):
        assert differing(TEXTS, TEXTS._replace(sizes={})) == ()
        assert diff(TEXTS, TEXTS._replace(sizes={})) == ""

    def test_are_shown_whole(self):
        assert whole(TEXTS).splitlines()[:3] == ["graph 0:", "a = placeholder", "b = sin(a)"]


class TestCanonicalNames:
    def test_are_numbered_in_the_order_in_which_they_are_met(self):
        uuid = "_0f0e0d0c_1111_2222_3333_444455556666"
        names = Names()
        assert names(f"__compiled_fn_7{uuid}") == "__compiled_fn#0"
        assert names("__resume_at_30_9") == "__resume_at#0"
        assert names("__resume_at_52_10") == "__resume_at#1"
        assert names("__resume_at_30_9") == "__resume_at#0"
        assert names("__resume_at_" + "ab" * 16) == "__resume_at#2"
        assert names("torch_dynamo_resume_in_f_at_17") == "torch_dynamo_resume_in_f_at"
        assert names("G['module_140234_c3'].x") == "G['module#0'].x"

    @pytest.mark.parametrize("name", ["weight_1", "x", "l_self_modules_0_weight_", "_c0", "f_at_3"])
    def test_leave_those_of_the_program_alone(self, name):
        assert Names()(name) == name


def lines_of(source, name, file):
    scope = {}
    exec(compile(source, file, "exec"), scope)
    return code_lines(scope[name].__code__, Names())


class TestBytecode:
    def test_does_not_hang_on_where_it_stands(self):
        source = "def f(x):\n    return [lambda y: x in {'a', 'b', 'c'}, (1.5, -0.0, None, 'a')]\n"
        one, other = lines_of(source, "f", "/one/a.py"), lines_of("\n\n\n" + source, "f", "/other/b.py")
        assert one == other
        assert not any("0x7" in line or "/one" in line for line in one)

    def test_shows_each_constant_as_it_is(self):
        found = [
            lines_of(f"def f(): return {value}", "f", "a.py")
            for value in ("0.0", "-0.0", "0", "False", "(0,)")
        ]
        assert len(set(map(tuple, found))) == len(found)


class TestGraphs:
    def graph(self, *, other=False, size=3):
        graph = torch.fx.Graph()
        x = graph.placeholder("x")
        x.meta["example_value"] = torch.zeros(size)
        made = graph.call_function(torch.add, (x, 0.5), {"alpha": -0.0 if other else 0.0})
        constant = graph.get_attr("kept")
        graph.output((graph.call_method("relu", (made,)), constant, slice(None, 2)))
        root = torch.nn.Module()
        root.kept = torch.tensor([1.0, 2.0])
        return torch.fx.GraphModule(root, graph)

    def test_say_targets_arguments_and_forms(self):
        lines = graph_lines(self.graph(), Names())
        assert lines[0] == "x = placeholder x() -> float32[3] strides (1) cpu"
        assert lines[1].startswith("add = call_function ")
        assert lines[1].endswith("add(%x, 0.5, alpha=0.0)")
        assert lines[-1] == "output = output output((%relu, %kept, slice(None, 2, None)))"

    def test_tell_values_apart_that_compare_equal(self):
        assert graph_lines(self.graph(), Names()) != graph_lines(self.graph(other=True), Names())

    def test_tell_forms_of_inputs_apart(self):
        assert graph_lines(self.graph(), Names()) != graph_lines(self.graph(size=4), Names())

    def test_have_the_bytes_of_their_constants(self):
        module = self.graph()
        before = graph_lines(module, Names())
        module.kept[1] = 7.0
        assert graph_lines(module, Names()) != before


def test_the_store_keeps_the_texts_beside_the_bundle(recorded):
    from firebrick.storage.msgpack import unpack

    with Store.open(recorded[0], readonly=True) as store:
        manifests = [unpack(store.bundle(key)) for recipe in store.recipes() for key in store.bundles(recipe)]
        kept = [m["audit"] for m in manifests if not m["skip"]]
        sizes = [len(store.get(key).data) for key in kept]
    assert kept
    assert all(sizes)
