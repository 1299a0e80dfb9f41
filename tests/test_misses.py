"""What is missing, damaged or foreign is a miss with its reason, and the program runs on."""

import contextlib
import os
import shutil
from concurrent.futures import ThreadPoolExecutor

import lmdb
import pytest

from firebrick.loader.bundles import parts_digest
from firebrick.storage.format import HEADER, LMDB_MAJOR, MARGIN_BYTES, META_FORMAT, Kind
from firebrick.storage.keys import recipe_key
from firebrick.storage.store import Blob, Store
from support.places import PROGRAMS
from support.programs import run_cases

pytestmark = pytest.mark.compiles

SMALL = PROGRAMS / "small.py"
EAGER = {"TORCH_COMPILE_DISABLE": "1"}


def keys(folder):
    with Store.open(folder, readonly=True) as store:
        return {info.key for info in store.list()}


@pytest.fixture(scope="module")
def specialised(tmp_path_factory):
    root = tmp_path_factory.mktemp("specialisation")
    store, grown = root / "store", []
    starts = []
    for names, compilers in (
        (["single"], True),
        (["single", "double"], True),
        (["double", "single"], False),
    ):
        starts.append(
            run_cases(
                SMALL,
                names,
                home=root / f"home-{len(starts)}",
                store=store,
                compilers=compilers,
            )
        )
        grown.append(keys(store))
    eager = run_cases(SMALL, ["single", "double"], home=root / "eager", env=EAGER)
    return starts, grown, eager


class TestASecondSpecialisation:
    """float32 is stored; the second start needs float64 too; the third has both."""

    def test_the_stored_one_is_a_hit_that_adds_nothing(self, specialised):
        first, second, _ = specialised[0]
        case = second.case("single")
        assert case["work"] == {}
        assert case["stats"]["hits"] >= 4
        assert "stored" not in case["stats"]
        assert case["value"] == first.case("single")["value"]

    def test_the_other_one_is_compiled_after_a_guard_miss(self, specialised):
        case = specialised[0][1].case("double")
        assert case["work"]["traces"] >= 4
        assert case["stats"]["stored"] >= 4
        assert case["stats"]["misses"]
        assert not {"hits", "faults", "bypasses"} & set(case["stats"])

    @pytest.mark.parametrize("name", ["single", "double"])
    def test_the_third_start_has_both(self, specialised, name):
        _, second, third = specialised[0]
        assert third.case(name)["work"] == {}
        assert third.case(name)["value"] == second.case(name)["value"]

    @pytest.mark.parametrize("name", ["single", "double"])
    def test_the_values_are_right(self, specialised, name):
        values, eager = specialised[0][2].case(name)["value"], specialised[2].case(name)["value"]
        for value, expected in zip(values, eager, strict=True):
            assert value["type"].split()[0] == expected["type"].split()[0]
            assert value["elements"] == pytest.approx(expected["elements"], rel=1e-5)

    def test_blobs_are_only_added_and_the_third_start_adds_none(self, specialised):
        one, two, three = specialised[1]
        assert one < two == three


class TestTwoFirstStartsAtOnce:
    def test_leave_what_one_would_have_left(self, tmp_path):
        shared, alone = tmp_path / "shared", tmp_path / "alone"
        with ThreadPoolExecutor() as pool:
            runs = [
                pool.submit(run_cases, SMALL, ["single"], home=tmp_path / f"h{i}", store=store)
                for i, store in enumerate((shared, shared, alone))
            ]
            results = [run.result().case("single") for run in runs]
        assert results[0]["value"] == results[1]["value"] == results[2]["value"]
        assert keys(shared) == keys(alone)


class TestWarmCachesOfTorch:
    def test_what_torch_found_in_its_own_caches_is_stored_whole(self, tmp_path):
        """Torch compiles alone; then with Firebrick, from its caches; then they are empty."""
        store = tmp_path / "store"
        first = run_cases(SMALL, ["single"], home=tmp_path / "home")
        warm = run_cases(SMALL, ["single"], home=tmp_path / "home", store=store)
        assert "lowerings" not in warm.case("single")["work"]
        last = run_cases(SMALL, ["single"], home=tmp_path / "new", store=store, compilers=False)
        assert last.case("single")["work"] == {}
        assert last.case("single")["value"] == first.case("single")["value"]


@contextlib.contextmanager
def raw(folder):
    """Give cursors on the databases of a store, by name, past the store."""
    with (
        lmdb.Environment(str(folder), max_dbs=32, map_size=1 << 32, lib_version=LMDB_MAJOR) as env,
        env.begin(write=True) as txn,
    ):
        yield lambda name: txn.cursor(env.open_db(name.encode(), txn, create=False))


def change_byte(value, at):
    return value[:at] + bytes([value[at] ^ 1]) + value[at + 1 :]


DAMAGES = {
    "gone": lambda value: None,
    "flipped": lambda value: change_byte(value, len(value) - 1),
    "cut": lambda value: value[:-4],
    "longer": lambda value: value + b"more",
    "emptied": lambda value: b"",
    "other_kind": lambda value: change_byte(value, 4),
    "other_version": lambda value: change_byte(value, 5),
    "other_length": lambda value: change_byte(value, HEADER.size - 1),
}
KINDS = (Kind.GUARDS, Kind.CODE, Kind.BACKEND, Kind.LIBRARY, Kind.WRAPPER)
DAMAGED = [(kind, what) for kind in KINDS for what in ("gone", "flipped")]
DAMAGED += [(Kind.BUNDLE, what) for what in DAMAGES]
DAMAGED += [(Kind.BACKEND, what) for what in ("cut", "emptied", "other_kind", "other_length")]
FOREIGN = {
    "other_torch": "platform.torch",
    "other_python": "platform.python",
    "other_machine": "platform.machine",
    "other_options": "options.inductor",
    "other_code": "function.code",
}
UNKNOWN = {f"unknown_{kind.name}": kind for kind in (Kind.BUNDLE, Kind.GUARDS, Kind.CODE, Kind.BACKEND)}
NAMES = [f"{what}_{kind.name}" for kind, what in DAMAGED] + [*FOREIGN, *UNKNOWN, "swapped", "whole"]
DAMAGED_LEAN = [
    (kind, what) for kind in (Kind.GUARD_PROGRAM, Kind.LEAN_BACKEND) for what in ("gone", "flipped")
]
LEAN = [f"{what}_{kind.name}" for kind, what in DAMAGED_LEAN]


def write_program(folder):
    """Write a program whose cases are alike but for names and constants, so few blobs are shared.

    `swapped` and `whole` have equal guards: nothing but the recipe tells their bundles apart.
    """
    lines = ["import torch"]
    for number, name in enumerate([*NAMES, *LEAN]):
        x = "x" if name in ("swapped", "whole") else f"x_{name}"
        lines.append(f"def f_{name}({x}):\n    return ({x}.sin() + {number}.5).cos() * {number + 1}.5")
        lines.append(f"def {name}():\n    return torch.compile(f_{name})(torch.ones(4) / 3)")
    (folder / "alike.py").write_text("\n\n\n".join(lines))
    return folder / "alike.py"


class Inventory:
    """What a store has for each function of the program."""

    def __init__(self, folder):
        with Store.open(folder) as store:
            self.recipe = {}
            for recipe in store.recipes():
                self.recipe[store.components(recipe)["function.name"].removeprefix("f_")] = recipe
            self.bundle = {name: store.bundles(key)[0] for name, key in self.recipe.items()}
            self.parts = {name: store.parts(key) for name, key in self.bundle.items()}
            self.kinds = {info.key: info.kind for info in store.list()}

    def key(self, name, kind):
        """Return a blob of this kind that no other function needs."""
        if kind is Kind.BUNDLE:
            return self.bundle[name]
        others = {key for other in self.parts if other != name for key in self.parts[other]}
        own = [key for key in self.parts[name] if self.kinds[key] is kind and key not in others]
        assert own, f"{name} has no {kind.name} of its own: {self.kinds}"
        return own[0]


def damage(folder):
    have = Inventory(folder)
    for name, component in FOREIGN.items():
        with Store.open(folder) as store:
            there = {**store.components(have.recipe[name]), component: "another"}
            manifest = Blob(Kind.BUNDLE, store.bundle(have.bundle[name]))
            store.publish(recipe_key(there), there, manifest, have.parts[name])
    for name, kind in UNKNOWN.items():
        with Store.open(folder) as store:
            old, body = have.key(name, kind), store.bundle(have.bundle[name])
            parts, blobs, version = have.parts[name], [], 200
            if kind is not Kind.BUNDLE:
                blobs, version = [Blob(kind, store.get(old).data, 200)], 1
                changed = sorted(blobs[0].key if key == old else key for key in parts)
                body = body.replace(old, blobs[0].key)
                body = body.replace(parts_digest(parts), parts_digest(changed))
                parts = changed
            manifest, there = Blob(Kind.BUNDLE, body, version), store.components(have.recipe[name])
            store.publish(have.recipe[name], there, manifest, parts, blobs)
    with raw(folder) as cursor:
        for kind, what in (*DAMAGED, *DAMAGED_LEAN):
            at = cursor("bundles" if kind is Kind.BUNDLE else "blobs")
            key = have.key(f"{what}_{kind.name}", kind)
            value = DAMAGES[what](at.get(key))
            assert at.delete() if value is None else at.put(key, value)
        for name in (*FOREIGN, *UNKNOWN, "swapped"):
            at = cursor("recipes")
            assert at.set_key_dup(have.recipe[name], have.bundle[name])
            assert at.delete()
        for name in FOREIGN:
            at = cursor("components")
            assert at.set_key(have.recipe[name])
            assert at.delete()
        assert cursor("recipes").put(have.recipe["swapped"], have.bundle["whole"])


@pytest.fixture(scope="module")
def damaged(tmp_path_factory):
    root = tmp_path_factory.mktemp("damage")
    program, store, home = write_program(root), root / "store", root / "home"
    first = run_cases(program, [*NAMES, *LEAN], home=home, store=store)
    damage(store)
    lean = run_cases(program, LEAN, home=root / "lean", store=store, compilers=False)
    second = run_cases(program, NAMES, home=home, store=store, env={"FIREBRICK_LEAN": "0"})
    third = run_cases(program, NAMES, home=root / "new", store=store, compilers=False)
    return first, second, third, lean


class TestADamagedStore:
    @pytest.mark.parametrize("name", NAMES[:-1])
    def test_is_a_miss_with_its_reason_and_the_value_is_right(self, damaged, name):
        first, second, *_ = damaged
        case = second.case(name)
        assert case["value"] == first.case(name)["value"]
        assert "hits" not in case["stats"]
        assert case["work"]["traces"] == 1
        (reason,) = case["stats"]["misses"]
        expected = "missing" if name.startswith("gone") and name != "gone_BUNDLE" else "damaged"
        if name in UNKNOWN:
            expected = "version"
        assert FOREIGN.get(name, "" if name == "swapped" else expected) in reason

    @pytest.mark.parametrize("name", LEAN)
    def test_of_the_lane_without_the_compiler_is_served_by_the_other(self, damaged, name):
        first, *_, lean = damaged
        case = lean.case(name)
        assert case["value"] == first.case(name)["value"]
        assert case["work"] == {}
        assert case["stats"]["hits"] == 1
        assert "lean" not in case["stats"]

    def test_is_said_once_and_counted(self, damaged):
        for finished, names in (
            (damaged[1], ["flipped_CODE", "cut_BUNDLE"]),
            (damaged[3], ["flipped_LEAN_BACKEND"]),
        ):
            assert finished.stderr.count("passing over what is damaged: DamagedError") == 1
            for name in names:
                assert finished.case(name)["stats"]["faults"]["DamagedError"] >= 1

    def test_what_is_whole_is_a_hit(self, damaged):
        assert damaged[1].case("whole")["work"] == {}

    @pytest.mark.parametrize("name", NAMES)
    def test_is_healed_for_the_next_start(self, damaged, name):
        first, _, third, _ = damaged
        assert third.case(name)["work"] == {}
        assert third.case(name)["value"] == first.case(name)["value"]


def spoil_version(store):
    with raw(store) as cursor:
        value = cursor("meta").get(META_FORMAT)
        cursor("meta").put(META_FORMAT, value[:-1] + b"9")


def as_file(store):
    shutil.rmtree(store)
    store.write_text("not a folder")


def as_link(store):
    store.rename(store.with_name("target"))
    store.symlink_to(store.with_name("target"))


def foreign(store):
    shutil.rmtree(store)
    store.mkdir(mode=0o700)
    with lmdb.open(str(store)) as env, env.begin(write=True) as txn:
        txn.put(b"key", b"of somebody else")


def cut(store):
    data = store / "data.mdb"
    os.truncate(data, (data.stat().st_size - MARGIN_BYTES) // 2)


FAULTS = {
    "a_newer_format": (spoil_version, {}),
    "a_file_for_the_folder": (as_file, {}),
    "a_link_for_the_folder": (as_link, {}),
    "a_folder_open_to_all": (lambda store: store.chmod(0o777), {}),
    "a_folder_that_can_not_be_made": (
        lambda store: None,
        {"FIREBRICK_CACHE_DIR": "/proc/none/store"},
    ),
    "random_bytes": (lambda store: (store / "data.mdb").write_bytes(os.urandom(1 << 16)), {}),
    "half_of_the_file": (cut, {}),
    "a_file_of_another_program": (foreign, {}),
    "nothing_to_read": (shutil.rmtree, {"FIREBRICK_READONLY": "1"}),
    "a_wrong_setting": (lambda store: None, {"FIREBRICK_DURABLE": "perhaps"}),
}


@pytest.fixture(scope="module")
def ready(tmp_path_factory):
    """A store and warm caches of torch, so that what is compiled again costs little."""
    root = tmp_path_factory.mktemp("faults")
    first = run_cases(SMALL, ["one"], home=root / "home", store=root / "store")
    return root, first.case("one")["value"]


class TestAStoreThatCanNotBeUsed:
    def run(self, ready, tmp_path, spoil, env, name="one"):
        root, value = ready
        store = tmp_path / "store"
        shutil.copytree(root / "store", store)
        store.chmod(0o700)
        spoil(store)
        finished = run_cases(
            SMALL, [name], home=root / "home", env={"FIREBRICK_CACHE_DIR": str(store), **env}
        )
        assert finished.returncode == 0
        return finished, value, store

    @pytest.mark.parametrize("fault", FAULTS)
    def test_gives_one_warning_and_the_program_runs(self, ready, tmp_path, fault):
        finished, value, _ = self.run(ready, tmp_path, *FAULTS[fault])
        case = finished.case("one")
        assert case["value"] == value
        assert "hits" not in case["stats"]
        assert finished.stderr.count("FirebrickWarning") == 1, finished.stderr

    def test_a_store_for_reading_only_serves_and_stays_as_it_is(self, ready, tmp_path):
        finished, value, store = self.run(ready, tmp_path, lambda store: None, {"FIREBRICK_READONLY": "1"})
        assert finished.case("one")["value"] == value
        assert finished.case("one")["work"] == {}
        assert (store / "data.mdb").read_bytes() == (ready[0] / "store" / "data.mdb").read_bytes()
        assert "FirebrickWarning" not in finished.stderr

    def test_a_store_of_a_newer_format_is_left_as_it_is(self, ready, tmp_path):
        _, _, store = self.run(ready, tmp_path, spoil_version, {})
        with raw(store) as cursor:
            assert cursor("meta").get(META_FORMAT).endswith(b"9")

    def test_a_store_that_vanishes_does_not_matter(self, ready, tmp_path):
        finished, value, _ = self.run(ready, tmp_path, lambda store: None, {}, "vanishing")
        first, second = finished.case("vanishing")["value"]
        assert first == value
        assert second["elements"] == pytest.approx([-1.682942, -0.654389, 0.654389, 1.682942], rel=1e-5)


def test_code_that_only_aotautograd_sees_never_does_what_it_did(tmp_path):
    """Operators whose parts or gradients are traced, and functions that are allowed in graphs.

    Of these a ``custom_op`` is stored with its gradient, whose code is compared.
    """
    program = SMALL.with_name("composite.py")
    refused = {
        "parts": "operator kiln.parts",
        "traced": "composite.allowed",
    }

    def start(home, body):
        options = {"home": tmp_path / home, "store": tmp_path / "store", "env": {"BODY": body}}
        return run_cases(program, [*refused, "gradient", "called", "whole_then_parts"], **options)

    first, second = start("1", "2"), start("2", "3")
    for run, factor in ((first, 2.0), (second, 3.0)):
        values = {name: run.case(name)["value"]["elements"] for name in (*refused, "gradient", "called")}
        assert values["parts"] == values["called"] == [0.0, factor, 2 * factor]
        assert values["gradient"] == [factor] * 3
        assert values["traced"] == [1.0, factor + 1, 2 * factor + 1]
        assert run.case("whole_then_parts")["value"]["elements"] == [factor] * 3
    assert first.case("gradient")["stats"]["stored"] == 1
    for name in (*refused, "gradient"):
        assert "hits" not in second.case(name)["stats"]
    for name, reason in refused.items():
        assert any(reason in found for found in first.case(name)["stats"]["bypasses"])
    assert second.case("called")["stats"]["hits"] == 1
