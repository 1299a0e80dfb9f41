"""Firebrick joins torch without being noticed, and leaves it as it was."""

import re
from pathlib import Path

import pytest

from support.places import PROGRAMS
from support.programs import run_cases, start

pytestmark = pytest.mark.compiles

UNUSUAL = PROGRAMS / "unusual.py"
CASES = tuple(re.findall(r"^def (\w+)\(\):", UNUSUAL.read_text(), re.MULTILINE))
OTHER_BACKENDS = ("own_backend", "eager_backend", "aot_eager_backend")
LIMITED = ("many_recompiles",)  # torch gives up at its limit, and then no longer asks
NO_GRAPH = ("generator_argument", "error_inside", "fullgraph_error")
HEAVY = {"lmdb", "msgpack", "blake3", "zstandard"}
MODULES = "import json, sys; print(json.dumps({'modules': sorted(sys.modules)}))"


def modules(code, home, **options):
    finished = start(["-c", f"{code}; {MODULES}"], home=home, **options)
    assert finished.returncode == 0, finished.stderr
    return set(finished.report["modules"]), finished


class TestImports:
    def test_firebrick_imports_neither_torch_nor_its_own_store(self, tmp_path):
        found, _ = modules("import firebrick", tmp_path)
        assert "firebrick" in found
        assert not found & (HEAVY | {"torch", "firebrick.storage.store"})

    def test_torch_alone_loads_the_entry_point_and_no_more(self, tmp_path):
        found, finished = modules("import torch", tmp_path)
        assert {n for n in found if n.startswith("firebrick")} == {
            "firebrick",
            "firebrick._autoload",
        }
        assert not found & (HEAVY | {"torch._dynamo"})
        assert finished.stderr == ""

    def test_torch_with_a_folder_opens_the_store_but_not_the_compiler(self, tmp_path):
        found, _ = modules("import torch", tmp_path / "home", store=tmp_path / "store")
        assert {"firebrick.storage.store", "lmdb"} <= found
        assert not found & {"torch._dynamo", "torch._inductor"}
        assert (tmp_path / "store" / "data.mdb").exists()

    def test_torchs_switch_turns_it_off(self, tmp_path):
        found, _ = modules(
            "import torch, torch._dynamo",
            tmp_path / "home",
            store=tmp_path / "store",
            env={"TORCH_DEVICE_BACKEND_AUTOLOAD": "0"},
        )
        assert not {n for n in found if n.startswith("firebrick")}
        assert not (tmp_path / "store").exists()

    @pytest.mark.parametrize("options", [[], ["-W", "error::RuntimeWarning"]])
    def test_nonsense_in_every_variable_does_not_stop_torch(self, tmp_path, options):
        code = (
            "import os, torch, firebrick._autoload as a, firebrick.settings as s\n"
            "names = ['FIREBRICK_' + name.upper() for name in s.Settings._fields]\n"
            "for name in names:\n"
            "    for text in ('nonsense', '-1', '\\udcff', '/dev/null/x', ' ', '9' * 5000):\n"
            "        os.environ.update({'FIREBRICK_CACHE_DIR': 'good', name: text})\n"
            "        a.autoload()\n"
            "        del os.environ[name]\n"
            "print(len(names))"
        )
        nonsense = ("CONTEXT", "LOAD", "RECORD", "READONLY", "STRICT", "DURABLE", "MAP_SIZE")
        env = {f"FIREBRICK_{name}": "x" * 300 for name in nonsense}
        finished = start([*options, "-c", code], home=tmp_path, store=Path("/dev/null/no"), env=env)
        assert finished.returncode == 0, finished.stderr
        assert int(finished.stdout) >= len(nonsense)


@pytest.fixture(scope="module")
def unusual(tmp_path_factory):
    """Without Firebrick; recording; and a second start with empty caches that may compile."""
    root = tmp_path_factory.mktemp("unusual")
    env = {"TORCHINDUCTOR_COMPILE_THREADS": "1"}  # no worker processes to fork with
    return {
        "plain": run_cases(UNUSUAL, CASES, home=root / "home", env=env),
        "first": run_cases(UNUSUAL, CASES, home=root / "home", store=root / "store", env=env),
        "second": run_cases(UNUSUAL, CASES, home=root / "new", store=root / "store", env=env),
    }


def warnings_of(finished):
    return set(re.findall(r"\w+Warning: .*", finished.stderr))


class TestUnusualPrograms:
    @pytest.mark.parametrize("name", CASES)
    @pytest.mark.parametrize("run", ["first", "second"])
    def test_run_as_without_firebrick(self, unusual, name, run):
        case = unusual[run].case(name)
        assert case["value"] == unusual["plain"].case(name)["value"]
        assert "faults" not in case["stats"], case["stats"]

    @pytest.mark.parametrize("name", sorted(set(CASES) - {*OTHER_BACKENDS, *NO_GRAPH}))
    def test_are_stored_or_say_why_not(self, unusual, name):
        stats = unusual["first"].case(name)["stats"]
        if name == "no_backward":  # its backward is compiled when the process ends
            stats = unusual["first"].report["stats"]
        assert stats.get("stored") or stats.get("bypasses")
        assert all(len(reason) > 3 for reason in stats.get("bypasses", {}))

    @pytest.mark.parametrize("name", sorted(set(CASES) - {*OTHER_BACKENDS, *NO_GRAPH}))
    def test_a_second_start_finds_what_was_stored(self, unusual, name):
        stored, stats = (unusual[run].case(name)["stats"] for run in ("first", "second"))
        if "stored" in stored and "bypasses" not in stored:
            # threads that met in the first run need not meet in the second: one specialisation may do for
            # frames that each compiled their own when they raced
            least = 1 if name == "threads" else stored["stored"]
            assert least <= stats["hits"] <= stored["stored"] + stored.get("hits", 0), stats
            assert name in LIMITED or not {"misses", "stored"} & set(stats), stats
            assert unusual["second"].case(name)["work"].get("compile_fx", 0) == 0

    @pytest.mark.parametrize("name", OTHER_BACKENDS)
    @pytest.mark.parametrize("run", ["first", "second"])
    def test_of_other_backends_leave_no_trace(self, unusual, name, run):
        assert unusual[run].case(name)["stats"] == {}

    @pytest.mark.parametrize("run", ["first", "second"])
    def test_warn_no_more_than_without_firebrick(self, unusual, run):
        assert warnings_of(unusual[run]) <= warnings_of(unusual["plain"])


@pytest.fixture(scope="module")
def leaving(tmp_path_factory):
    root = tmp_path_factory.mktemp("leaving")
    cases = ["leaving", "twice", "shorthand", "refused"]
    env = {"STORE": str(root / "store")}
    return run_cases(PROGRAMS / "leaving.py", cases, home=root / "home", env=env)


class TestLeaving:
    def test_every_function_and_class_of_torch_is_what_it_was(self, leaving):
        found = leaving.case("leaving")["value"]
        assert found["many"] == "True"
        assert found["during"] != [], "nothing was replaced: this test would see nothing"
        assert found["after"] == []

    def test_the_configuration_and_the_finders_are_what_they_were(self, leaving):
        assert leaving.case("leaving")["value"]["same"] == "True"

    def test_enabling_again_is_quiet_and_other_settings_begin_anew(self, leaving):
        assert leaving.case("twice")["value"] == ["1", "1", "1"]

    def test_compile_is_torch_compile(self, leaving):
        value, decorated, stored = leaving.case("shorthand")["value"]
        assert value["elements"] == pytest.approx([0.5403023 - 4] * 4)
        assert decorated["elements"] == pytest.approx([0.8414710 * 7] * 4)
        assert stored == "2"

    def test_wrong_calls_are_usage_errors(self, leaving):
        assert leaving.case("refused")["value"] == ["UsageError"] * 5

    @pytest.mark.parametrize(("case", "factor"), [("unsupported", 8), ("lacking", 9)])
    def test_a_torch_that_is_not_known_is_left_alone_with_one_warning(self, tmp_path, case, factor):
        env = {"STORE": str(tmp_path / "store")}
        found = run_cases(PROGRAMS / "leaving.py", [case], home=tmp_path, env=env).case(case)["value"]
        assert found["value"]["elements"] == pytest.approx([0.8414710 * factor] * 4)
        assert (found["warnings"], found["stored"], found["after"]) == ("1", "0", [])
