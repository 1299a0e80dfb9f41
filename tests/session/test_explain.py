"""Every miss names what is another, with the stored and the present value, and says what to do."""

import pathlib
import shutil
from typing import Any

import lmdb
import pytest

import firebrick
from firebrick.errors import UsageError
from firebrick.reports.advice import ADVICE
from firebrick.reports.events import CODES, Change, Event, Function
from firebrick.session.explain import Explanation, Explanations, _explained, worded
from firebrick.storage.keys import recipe_key
from firebrick.storage.store import Blob, Kind, Store
from support.places import PROGRAMS
from support.programs import run_cases

pytestmark = pytest.mark.compiles

PROGRAM = PROGRAMS / "reasons.py"
# case -> code, and what stands in the explanation, beside what the changes are
EXPECTED: dict[str, tuple[str, str, list[Any]]] = {
    "by_global": ("value", "global `SCALE` was 2, is 3", ["global `SCALE`", "2", "3"]),
    "by_item": ("value", "`G['TABLE']['b']` ", ["`G['TABLE']['b']`", "2", "3"]),
    "by_class": ("changed", "`reasons.py:Conf.factor` ", ["`reasons.py:Conf.factor`", "2", "3"]),
    "by_function": (
        "changed",
        "half",
        ["`reasons.CHOSEN`", "function reasons:double", "function reasons:half"],
    ),
    "by_stride": (
        "tensor",
        "`L['x'].stride()` stored (64, 1), now (1, 64)",
        ["`L['x'].stride()`", "(64, 1)", "(1, 64)"],
    ),
    "by_dtype": ("tensor", "now torch.float64", ["`L['x'].dtype`", "torch.float32", "torch.float64"]),
    "by_argument": ("value", "`L['n']` stored 3, now 4", ["`L['n']`", "3", "4"]),
    "by_threads": ("state", "2 → 1", ["threads (torch.set_num_threads)", "2", "1"]),
    "by_grad_mode": (
        "state",
        "True → False",
        ["grad mode (torch.no_grad, torch.enable_grad)", "True", "False"],
    ),
    "by_mode": (
        "state",
        "none → DeviceContext",
        ["modes of torch functions (a torch.device as a context is one)", "none", "DeviceContext"],
    ),
    "by_options": (
        "options",
        "→ {'max_fusion_size': 8}",
        ["`options` and `mode` of torch.compile", "{'max_fusion_size': 16}", "{'max_fusion_size': 8}"],
    ),
    "by_attribute": ("value", "Block.forward", ["`L['self'].n`", "2", "3"]),
    "by_code": ("code", "f_code` changed", ["`reasons:f_code`", "None", "None"]),
}


@pytest.fixture(scope="module")
def starts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    root = tmp_path_factory.mktemp("reasons")
    base, other = root / "base", {"OTHER": "1"}
    run_cases(PROGRAM, [*EXPECTED, "wrapped"], home=root / "home", store=base).case("by_global")
    for name in ("lean", "full"):
        shutil.copytree(base, root / name)
        (root / name).chmod(0o700)
    full = {**other, "FIREBRICK_LEAN": "0"}
    return {
        "lean": run_cases(PROGRAM, [*EXPECTED], home=root / "home", store=root / "lean", env=other),
        "full": run_cases(PROGRAM, [*EXPECTED], home=root / "home", store=root / "full", env=full),
        "same": run_cases(PROGRAM, ["wrapped", "nothing"], home=root / "home", store=base),
        "after": run_cases(PROGRAM, ["nothing"], home=root / "home", store=root / "full"),
    }


@pytest.mark.parametrize("lane", ["lean", "full"])
@pytest.mark.parametrize("name", EXPECTED)
class TestAMiss:
    def test_names_what_is_another_with_both_values(
        self, starts: dict[str, Any], lane: str, name: str
    ) -> None:
        code, said, change = EXPECTED[name]
        found = starts[lane].case(name)["value"][1]
        assert found[0] == code
        assert said in found[1]
        assert found[2] == change
        assert ADVICE[code] in found[1]

    def test_is_counted_under_a_reason_that_says_so(
        self, starts: dict[str, Any], lane: str, name: str
    ) -> None:
        (reason,) = starts[lane].case(name)["stats"]["misses"]
        assert reason not in ("guards", "not in the store")
        stored, here = EXPECTED[name][2][1:]
        assert stored == "None" or (stored in reason and here in reason)

    def test_is_counted_for_its_function(self, starts: dict[str, Any], lane: str, name: str) -> None:
        functions = starts[lane].case(name)["stats"]["functions"]
        assert list(functions.values()) == [{"misses": 1, "stored": 1}]


class TestWithoutAnArgument:
    def test_the_misses_of_this_process_are_explained(self, starts: dict[str, Any]) -> None:
        assert "no misses and no bypasses" not in starts["after"].case("nothing")["value"]

    def test_those_of_the_last_process_are_where_there_are_none(self, starts: dict[str, Any]) -> None:
        text = starts["after"].case("nothing")["value"]
        assert "which ended at" in text
        assert "global `SCALE` was 2, is 3" in text
        assert text.count(": miss, full lane") == len(EXPECTED)


def test_a_module_that_torch_wraps_goes_by_its_class(starts: dict[str, Any]) -> None:
    case = starts["same"].case("wrapped")
    assert list(case["stats"]["functions"].values()) == [{"hits": 1, "lean": 1}]
    assert list(case["stats"]["functions"]) == ["Sequential"]
    assert case["value"][1][1].startswith("Sequential: hit, lean lane")


def test_what_was_never_called_is_said_to_be() -> None:
    def never() -> None: ...

    found = firebrick.explain(never)
    assert isinstance(found, Explanation)
    assert (found.outcome, found.code, found.changes) == ("none", "", ())
    assert "not enabled" in str(found)


def test_something_else_is_an_error() -> None:
    with pytest.raises(UsageError, match="function, a module or an event, not int"):
        firebrick.explain(3)


def test_an_event_is_explained_without_a_store() -> None:
    change = Change("`triton`", "3.6.0", "3.7.1")
    event = Event(Function("m", "f", "f", "model.py"), "full", "miss", "platform", "another", (change,))
    found = firebrick.explain(event)
    assert isinstance(found, Explanation)
    assert "`triton` 3.6.0 → 3.7.1" in str(found)
    assert str(found).startswith("f (model.py:f): miss, full lane")


def test_several_print_as_one_text() -> None:
    event = Event(Function("m", "f"), "full", "bypass", "not-storable", "a reason")
    both = Explanations("this process", [Explanation(event.function, event, event.reason)] * 2)
    assert len(both) == len(both[:]) == 2
    assert str(both).count("a reason") == 2


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (Change("global `SCALE`", "2", "3"), "global `SCALE` was 2, is 3"),
        (Change("`L['x'].stride()`", "(64, 1)", "(1, 64)"), "`L['x'].stride()` stored (64, 1), now (1, 64)"),
        (Change("`model.py:Attention.forward`", None, None), "`model.py:Attention.forward` changed"),
        (Change("threads", "2", "1"), "threads 2 → 1"),
        (Change("option", None, "1"), "option nothing → 1"),
    ],
)
def test_changes_are_said_in_the_users_words(change: Change, text: str) -> None:
    assert worded(change) == text


def test_every_reason_but_those_of_success_has_advice() -> None:
    assert set(CODES) - set(ADVICE) == {"served", "stored", "known"}


def test_a_store_without_an_index_is_searched_for_an_explanation(tmp_path: pathlib.Path) -> None:
    old, new = ({"function.module": "m", "function.name": "f", "platform.torch": v} for v in "12")
    with Store.open(tmp_path / "store") as store:
        for parts in (old, new):
            store.publish(recipe_key(parts), parts, Blob(Kind.BUNDLE, b"a"), [])
    with lmdb.open(str(tmp_path / "store"), max_dbs=32) as env, env.begin(write=True) as txn:
        txn.drop(env.open_db(b"names", txn), delete=False)
    event = Event(Function("m", "f"), "full", "miss", "unknown", "not in the store")
    with Store.open(tmp_path / "store") as store:
        assert store.recipes_of("m", "f") == []
        found = _explained(event._replace(recipe=recipe_key(new).hex()), store)
        assert (found.code, found.nearest) == ("platform", recipe_key(old).hex())
        assert found.changes == (Change("`torch`", "1", "2"),)
        gone = _explained(event._replace(function=Function("m", "g"), recipe="00" * 32), store)
        assert (gone.code, gone.nearest) == ("unknown", None)


class TestAMissIsCheap:
    """The recipes of other functions are not looked at."""

    def test_and_never_lists_the_recipes(
        self, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from firebrick.bundle.recipe import make_recipe
        from firebrick.reports.absence import absence

        def stored(x: int) -> int:
            return x

        with Store.open(tmp_path / "store") as store:
            old = make_recipe(stored.__code__, "m", {"inductor": "{}"}, {"torch": "1"})
            store.publish(old.key, old.components, Blob(Kind.BUNDLE, b"a"), [])
            monkeypatch.setattr(Store, "recipes", lambda _: pytest.fail("all recipes were listed"))
            new = make_recipe(stored.__code__, "m", {"inductor": "{}"}, {"torch": "2"})
            found = absence(store, new, Function("m", "stored"))
            assert found.code == "platform"
            assert found.changes == (Change("`torch`", "1", "2"),)
            other = make_recipe(stored.__code__, "n", {}, {})
            assert absence(store, other, Function("n", "stored")).code == "unknown"
