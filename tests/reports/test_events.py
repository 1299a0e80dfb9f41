"""Events say what became of every frame; a few of them are kept in the store for those who ask later."""

import logging
import pathlib
import re
import threading
from collections.abc import Mapping
from typing import Any

import pytest

import firebrick
from firebrick.codecs import encode
from firebrick.reports import runs
from firebrick.reports.counters import Stats
from firebrick.reports.detectors import divergent, volatile
from firebrick.reports.events import CODES, Change, Event, Events, Function, function_of, name_of
from firebrick.reports.log import to_stderr
from firebrick.reports.not_served import Miss
from firebrick.reports.refusals import Refusal, joined, miss, nearest, refusal_of
from firebrick.storage.keys import ContentKey, recipe_key
from firebrick.storage.manifest import Compiled, Manifest, NoLeanForm, Reached
from firebrick.storage.msgpack import pack
from firebrick.storage.store import Blob, Kind, Store
from support.places import PROGRAMS, ROOT
from support.programs import run_cases, start

pytestmark = pytest.mark.compiles

PROGRAM = PROGRAMS / "reasons.py"
DOCUMENT = (ROOT / "docs" / "explain.md").read_text()
F = Function("m", "f", "f", "m.py")


def event(outcome: str = "miss", code: str = "value", reason: str = "why", **fields: Any) -> Event:
    return Event(F, fields.pop("lane", "full"), outcome, code, reason, **fields)


class TestAnEvent:
    def test_survives_as_plain_values(self) -> None:
        made = event(changes=(Change("x", "1", None),), seconds=0.5, recipe="ab", others=("o",), when=3.0)
        assert Event.of_plain(made.plain()) == made

    @pytest.mark.parametrize("value", [None, [], ["m", 1], [[], 1, 2, 3, 4, 5, 6, 7, 8, 9]])
    def test_is_not_made_of_something_else(self, value: Any) -> None:
        with pytest.raises((TypeError, ValueError, IndexError)):
            Event.of_plain(value)

    def test_names_the_place_of_its_function(self) -> None:
        assert F.place == "m.py:f"
        assert Function("m", "f", "f", "<string>").place == "m:f"
        assert Function("torch", "wrap_inline.<locals>.inner", "Sequential", "x.py").place == "Sequential"


class TestTheRing:
    def test_keeps_the_last_ones(self) -> None:
        ring = Events(3)
        for number in range(5):
            ring.add(event(reason=str(number)))
        assert [e.reason for e in ring.all()] == ["2", "3", "4"]

    def test_may_be_used_by_threads(self) -> None:
        stats = Stats()

        def work() -> None:
            for _ in range(200):
                stats.record(event("hit", "served"))
                stats.events.all()

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert stats.hits == len(stats.events.all()) == 800

    def test_hands_the_lean_miss_over_once_and_for_its_frame_only(self) -> None:
        ring, code, other = Events(), (lambda: 0).__code__, (lambda: 1).__code__
        ring.handing_over(code, event())
        assert ring.handed_over(other) is None
        assert ring.handed_over(code) == event()
        assert ring.handed_over(code) is None


class TestTheCounters:
    def test_count_for_each_function(self) -> None:
        stats = Stats()
        for made in (event("hit", lane="lean"), event(), event("bypass"), event("stored"), event("left")):
            stats.record(made, saved=2.0)
        assert stats.as_dict()["functions"] == {
            "f": {"hits": 1, "lean": 1, "misses": 1, "bypasses": 1, "stored": 1}
        }
        assert (stats.hits, stats.lean, stats.seconds_saved) == (1, 1, 2.0)

    def test_leave_a_miss_of_the_lean_lane_to_the_full_lane(self) -> None:
        stats = Stats()
        stats.record(event(lane="lean"))
        assert not stats.misses
        assert not stats.functions

    def test_say_in_one_line_what_was_not_stored(self) -> None:
        stats = Stats()
        assert stats.not_stored() == ""
        stats.record(event("hit"))
        stats.record(Event(Function("m", "g", "g"), "full", "bypass", "not-storable", "an identity"))
        assert stats.not_stored() == "1 of 2 functions were not stored: an identity (1)"


class TestReasons:
    def test_of_a_plain_miss_are_its_text(self) -> None:
        assert refusal_of(Miss("text")) == Refusal("error", "text")

    def test_of_a_structured_one_are_all_of_it(self) -> None:
        error = Miss("text", code="hooks", changes=[("hooks", "1", "2")])
        assert refusal_of(error) == Refusal("hooks", "text", (Change("hooks", "1", "2"),))

    def test_are_those_of_the_bundle_that_came_nearest(self) -> None:
        refusals = [Refusal("value", "a"), Refusal("value", "b"), Refusal("platform", "c")]
        assert nearest(refusals).reason == "b"
        made = miss(F, "full", refusals)
        assert (made.code, made.reason, made.others) == ("value", "b", ("a", "c"))

    @pytest.mark.parametrize(
        ("lean", "full", "kept"),
        [
            (event(reason="lean", lane="lean"), event(code="lane", reason="full"), "lean"),
            (event(reason="lean", lane="lean"), event(code="unknown", reason="full"), "lean"),
            (event(code="lane", reason="lean", lane="lean"), event(reason="full"), "full"),
            (
                event(reason="lean", lane="lean"),
                event(reason="full", changes=(Change("x", "1", "2"),)),
                "full",
            ),
            (None, event(reason="full"), "full"),
        ],
    )
    def test_of_the_lean_lane_are_kept_where_they_say_more(
        self, lean: Event | None, full: Event, kept: str
    ) -> None:
        assert joined(full, lean).reason == kept


class TestNames:
    def test_of_a_method_and_of_what_torch_wraps(self) -> None:
        class Outer:
            def forward(self) -> None: ...

        def inner(fn: Any) -> None: ...

        module, code = __name__, Outer.forward.__code__
        assert function_of(code, module, {"self": Outer()}).file == "test_events.py"
        wrapped = inner.__code__.replace(co_qualname="wrap_inline.<locals>.inner")
        assert function_of(wrapped, "torch", {"fn": Outer()}).name.endswith("Outer")
        assert name_of(len) == "len"


class TestRuns:
    def kept(self, folder: pathlib.Path) -> Mapping[str, runs.Run]:
        with Store.open(folder, readonly=True) as store:
            return runs.read(store)

    def test_keep_what_is_no_hit(self, tmp_path: pathlib.Path) -> None:
        stats = Stats()
        for made in (event("hit", "served"), event(), event("bypass", "not-storable")):
            stats.record(made)
        with Store.open(tmp_path / "s") as store:
            runs.keep(store, stats)
        (run,) = self.kept(tmp_path / "s").values()
        assert [e.outcome for e in run.events] == ["miss", "bypass"]

    def test_of_hits_alone_are_not_kept(self, tmp_path: pathlib.Path) -> None:
        stats = Stats()
        stats.record(event("hit", "served"))
        with Store.open(tmp_path / "s") as store:
            runs.keep(store, stats)
        assert not self.kept(tmp_path / "s")

    def test_write_nothing_into_a_store_for_reading(self, tmp_path: pathlib.Path) -> None:
        Store.open(tmp_path / "s").close()
        before = (tmp_path / "s" / "data.mdb").read_bytes()
        stats = Stats()
        stats.record(event())
        with Store.open(tmp_path / "s", readonly=True) as store:
            runs.keep(store, stats)
        assert (tmp_path / "s" / "data.mdb").read_bytes() == before

    def test_are_bounded_in_number_and_size(self, tmp_path: pathlib.Path) -> None:
        with Store.open(tmp_path / "s", durable=False) as store:
            for number in range(runs.KEPT_RUNS + 3):
                stats = Stats()
                for _ in range(300):
                    stats.record(event(reason=f"{number} " + "x" * 1000))
                runs.keep(store, stats)
            found = list(runs.read(store).values())
            assert max(len(data) for data in store.registry(runs.RUNS).values()) <= 64 << 10
        assert len(found) == runs.KEPT_RUNS
        assert [run.events[0].reason.split()[0] for run in found] == [str(n + 3) for n in range(len(found))]

    def test_that_can_not_be_read_are_left_out(self, tmp_path: pathlib.Path) -> None:
        with Store.open(tmp_path / "s") as store:
            store.registry_update(
                runs.RUNS,
                {("run", "1"): b"\xc1", ("run", "2"): pack([1, 2]), ("run", "3"): pack([1.0, 2, []])},
            )
            assert list(runs.read(store)) == ["3"]


def platform_miss(value: str, **fields: Any) -> Event:
    return event(code="platform", changes=(Change("`torch`", "1", value),), recipe=value, **fields)


class TestVolatileKeys:
    def test_are_told_once(self, tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture) -> None:
        said = []
        with Store.open(tmp_path / "s") as store:
            for number in range(5):
                stats = Stats()
                stats.record(platform_miss(str(number)))
                with caplog.at_level(logging.WARNING, "firebrick"):
                    runs.keep(store, stats)
                said.append([e.code for e in stats.events.all()])
        assert said == [["platform"], ["platform"], ["platform", "volatile-key"], ["platform"], ["platform"]]
        assert [record.levelname for record in caplog.records] == ["WARNING"]
        assert "`torch` was another at each of 3 starts" in caplog.text

    def test_are_not_those_that_come_back(self) -> None:
        assert volatile([[platform_miss("1")], [platform_miss("2")]], [platform_miss("1")]) == []

    def test_are_not_those_of_guards(self) -> None:
        made = [[event(changes=(Change("x", "0", str(n)),))] for n in range(3)]
        assert volatile(made[:2], made[2]) == []


class TestDivergence:
    def published(self, store: Store, **fields: Any) -> Blob:
        key, reach = ContentKey(b"k" * 32), fields.pop("reach", None)
        compiled = Compiled(key, {}, {}, {}, {}, key, "", None)._replace(**fields)
        reached = None if reach is None else Reached(reach, key, key)
        parts = {"function.module": "m", "function.name": "f"}
        blob = encode(Kind.BUNDLE, Manifest(key, key, [], "", reached, compiled, NoLeanForm("off"))).root
        store.publish(recipe_key(parts), parts, blob, [])
        return blob

    @pytest.mark.parametrize(
        ("fields", "said"),
        [
            ({"backends": {"a": ContentKey(b"2" * 32)}}, "backends"),
            ({"backends": {"a": ContentKey(b"2" * 32)}, "guards": ContentKey(b"o" * 32)}, ""),
            ({"backends": {"a": ContentKey(b"2" * 32)}, "reach": ContentKey(b"o" * 32)}, ""),
        ],
    )
    def test_is_equal_inputs_with_other_bytes(
        self, tmp_path: pathlib.Path, fields: dict[str, Any], said: str
    ) -> None:
        with Store.open(tmp_path / "s") as store:
            first = self.published(store, backends={"a": ContentKey(b"1" * 32)})
            recipe = next(store.recipes())
            assert divergent(store, recipe, first) == ""
            found = divergent(store, recipe, self.published(store, **fields))
        assert bool(found) == bool(said)
        assert said in found


class TestTheIndex:
    def test_finds_the_recipes_of_a_function(self, tmp_path: pathlib.Path) -> None:
        with Store.open(tmp_path / "s") as store:
            for number in range(5):
                parts = {"function.module": "m", "function.name": f"f{number % 2}", "n": str(number)}
                store.publish(recipe_key(parts), parts, Blob(Kind.BUNDLE, b"x"), [])
            assert len(store.recipes_of("m", "f0")) == 3
            assert len(store.recipes_of("m", "f0", limit=2)) == 2
            assert store.recipes_of("m", "g") == store.recipes_of("n", "f0") == []
            assert store.indexed
            assert store.check().clean
            store.publish(recipe_key({"a": "b"}), {"a": "b"}, Blob(Kind.BUNDLE, b"x"), [])
            assert not store.indexed


class TestTheLog:
    def test_goes_to_standard_error_on_request(self, capfd: pytest.CaptureFixture[str]) -> None:
        log, stats = logging.getLogger("firebrick"), Stats()
        undo = to_stderr("info")
        stats.record(event())
        stats.record(event("hit", "served", "served"))
        undo()
        stats.record(event(reason="later"))
        assert capfd.readouterr().err == "firebrick: f: miss (full): why\n"
        assert not log.handlers

    def test_of_a_process_ends_with_what_was_not_stored(self, tmp_path: pathlib.Path) -> None:
        env = {"FIREBRICK_LOG": "info"}
        done = run_cases(PROGRAM, ["refused"], home=tmp_path / "h", store=tmp_path / "s", env=env)
        assert done.case("refused")["value"][1][-1] == ["bypass", "failed"]
        assert re.search(r"^firebrick: 1 of 1 functions were not stored: torch could not", done.stderr, re.M)


class TestEveryCompiledFrame:
    def test_of_another_backend_is_named(self, tmp_path: pathlib.Path) -> None:
        done = run_cases(PROGRAM, ["other_backend"], home=tmp_path / "h", store=tmp_path / "s")
        assert "other-backend" in [code for code, _ in done.case("other_backend")["value"]]
        assert not done.report["stats"]["misses"]


def test_the_public_face_needs_no_torch(tmp_path: pathlib.Path) -> None:
    code = "import sys, firebrick; print(firebrick.explain()); assert 'torch' not in sys.modules"
    done = start(["-c", code], home=tmp_path / "h")
    assert done.returncode == 0, done.stderr
    assert "no misses and no bypasses" in done.stdout
    assert callable(firebrick.explain)


def test_the_document_has_every_code() -> None:
    rows = re.findall(r"^\| `([a-z-]+)` \| (.+) \|$", DOCUMENT, re.MULTILINE)
    assert dict(rows) == dict(CODES)
