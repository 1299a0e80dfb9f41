"""Each verb of the command line does what it says on a store of real compilations, and with bad input."""

import errno
import io
import json
import os
import pty
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import jsonschema
import lmdb
import pytest

from firebrick.cli.entry import VERBS, run
from firebrick.storage.format import Kind
from firebrick.storage.store import Store
from support.places import PROGRAMS, ROOT
from support.programs import Finished, start

pytestmark = pytest.mark.compiles

PROGRAM = PROGRAMS / "modelled.py"
SCHEMAS = ROOT / "store" / "cli" / "schemas"
STARTING = ("run", "warm", "lock", "bench", "demo")  # verbs that start programs


class Recorded:
    """A store that is recorded once, and the command line for it."""

    def __init__(self, root: Path) -> None:
        self.root, self.home, self.store = root, root / "home", root / "store"

    def firebrick(self, *arguments: object, store: Path | None = None, **variables: str) -> Finished:
        """Run the command line: in a process of its own where it starts a program."""
        chosen = {"FIREBRICK_CACHE_DIR": str(store or self.store), "FIREBRICK_SELF_TEST": "0", **variables}
        texts = [*map(str, arguments)]
        if texts[0] in STARTING:
            return start(["-m", "firebrick.cli", *texts], home=self.home, env=chosen)
        out, err, code = io.StringIO(), io.StringIO(), 0
        with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
            patch.setattr(sys, "argv", ["firebrick", *texts])
            for name, value in chosen.items():
                patch.setenv(name, value)
            try:
                run()
            except SystemExit as ended:
                code = int(ended.code or 0)
        return Finished(code, out.getvalue(), err.getvalue(), {})

    def json(self, verb: str, *arguments: object, **options: Any) -> dict[str, Any]:
        done = self.firebrick(verb, *arguments, "--json", **options)
        value: dict[str, Any] = json.loads(done.stdout)
        validated(value)
        return value

    def copy(self, path: Path) -> Path:
        shutil.copytree(self.store, path)
        path.chmod(0o700)
        return path


def validated(value: dict[str, Any]) -> None:
    name = value["schema"].removeprefix("firebrick.").partition("/")[0]
    jsonschema.validate(value, json.loads((SCHEMAS / f"{name}.json").read_text()))


def summary(done: Finished) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(next(x for x in done.stderr.splitlines() if x.startswith("{")))
    validated(value)
    return value


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    made = Recorded(tmp_path_factory.mktemp("cli"))
    first = made.firebrick("run", PROGRAM)
    assert first.returncode == 0, first.stderr
    assert (
        "0 hits" in first.stderr
        and "3 stored" in first.stderr
        and "the next start finds them" in first.stderr
    )
    second = made.firebrick("run", PROGRAM, "3.0")
    assert second.returncode == 0, second.stderr
    assert "2 hits (2 without the compiler), 1 miss, 1 stored" in second.stderr
    return made


def fails(done: Finished, code: int, said: str, hint: str = "") -> None:
    """Check that a verb ended with a code, one line and a hint."""
    assert done.returncode == code, done.stderr
    line, second = done.stderr.splitlines()
    assert line.startswith("firebrick: ") and said in line
    assert second.startswith("  ") and hint in second
    assert done.stdout == ""


class TestRun:
    def test_says_at_the_end_what_was_saved(self, recorded: Recorded) -> None:
        done = recorded.firebrick("run", PROGRAM)
        assert done.stdout.strip() == recorded.firebrick("run", "-q", PROGRAM).stdout.strip()
        assert "firebrick: 3 hits (3 without the compiler), 0 misses, 0 stored; " in done.stderr
        assert f"firebrick: store {recorded.store}, " in done.stderr

    def test_ends_with_the_code_of_the_program_and_its_counts_as_json(self, recorded: Recorded) -> None:
        done = recorded.firebrick("run", "--json", PROGRAM, "2.0", "7")
        assert done.returncode == 7
        counts = summary(done)
        assert (counts["code"], counts["hits"], counts["lean"], counts["misses"]) == (7, 3, 3, 0)
        assert counts["seconds_saved"] > 0

    def test_takes_code_modules_and_commands(self, recorded: Recorded) -> None:
        for program in (["-c", "print(6 * 7)"], ["-m", "platform"], [sys.executable, "-c", "print(42)"]):
            done = recorded.firebrick("run", *program)
            assert done.returncode == 0, done.stderr
            assert done.stdout
            assert "no process of the program imported torch with Firebrick on" in done.stderr

    def test_a_signal_ends_it_as_it_ends_the_program(self, recorded: Recorded) -> None:
        done = recorded.firebrick("run", "-c", "import os; os.kill(os.getpid(), 9)")
        assert done.returncode == 128 + 9

    @pytest.mark.parametrize("program", ["no-such-thing", "no/such/folder"])
    def test_what_cannot_be_started_is_named(self, recorded: Recorded, program: str) -> None:
        fails(recorded.firebrick("run", program), 2, "is neither a file nor a command")

    def test_locked_lets_a_start_pass_that_compiles_nothing(self, recorded: Recorded) -> None:
        done = recorded.firebrick("run", "--locked", PROGRAM)
        assert done.returncode == 0, done.stderr

    def test_locked_fails_where_something_would_be_compiled_and_says_what(self, recorded: Recorded) -> None:
        done = recorded.firebrick("run", "--locked", "-q", PROGRAM, "4.0")
        assert done.returncode == 74
        assert "WouldCompile: locked, and Attention.forward would be compiled" in done.stderr
        assert "global `SCALE`" in done.stderr.splitlines()[-2]

    def test_locked_fails_where_nothing_used_the_store(self, recorded: Recorded) -> None:
        fails(recorded.firebrick("run", "--locked", "-q", "-c", ""), 74, "no process of it used the store")

    def test_locked_needs_no_store_that_can_be_written_to(self, recorded: Recorded, tmp_path: Path) -> None:
        pack = tmp_path / "sealed.pack"
        recorded.firebrick("seal", pack)
        done = recorded.firebrick("run", "--locked", PROGRAM, store=pack)
        assert done.returncode == 0, done.stderr
        assert "3 hits" in done.stderr and "fault" not in done.stderr

    def test_locked_fails_where_the_store_cannot_be_used(self, recorded: Recorded, tmp_path: Path) -> None:
        (tmp_path / "data.mdb").write_bytes(b"nonsense" * 1000)
        tmp_path.chmod(0o700)
        done = recorded.firebrick("run", "--locked", "-q", "-c", "import torch", store=tmp_path)
        assert done.returncode == 74 and "no process of it used the store" in done.stderr


class TestLs:
    def test_lists_functions_by_the_names_that_their_user_knows(self, recorded: Recorded) -> None:
        lines = recorded.firebrick("ls").stdout.splitlines()
        assert lines[0].split()[:4] == ["KEY", "NAME", "WHERE", "LANE"]
        assert [line.split()[1] for line in lines[1:]] == ["Attention.forward"] * 2 + ["double", "Sequential"]
        assert all(" lean " in line and " cpu " in line and "inner" not in line for line in lines[1:])

    def test_takes_names_patterns_and_keys(self, recorded: Recorded) -> None:
        every = recorded.json("ls")["bundles"]
        key, recipe = every[0]["key"], every[0]["recipe"]
        for name, number in [("Attention", 2), ("dou*", 1), ("modelled.py:*", 3), (key[:10], 1), (recipe, 2)]:
            assert len(recorded.json("ls", name)["bundles"]) == number
        assert len(recorded.json("ls", "--all")["bundles"]) > len(every) == 4

    def test_sorts_the_largest_first(self, recorded: Recorded) -> None:
        sizes = [bundle["bytes"] for bundle in recorded.json("ls", "--sort", "size")["bundles"]]
        assert sizes == sorted(sizes, reverse=True)
        fails(recorded.firebrick("ls", "--sort", "colour"), 2, "--sort colour: expected one of name, size")

    def test_a_name_that_means_nothing_is_an_error(self, recorded: Recorded) -> None:
        fails(
            recorded.firebrick("ls", "Atention"),
            33,
            "nothing in the store is called Atention",
            "firebrick ls",
        )


class TestShow:
    def test_shows_frames_guards_in_words_kernels_sources_and_origin(self, recorded: Recorded) -> None:
        text = recorded.firebrick("show", "double").stdout
        for part in (
            "modelled.py:double, lean lane, cpu",
            "`x` is a tensor of float32 on cpu, size (2, 8), strides (8, 1)",
            "torch's global state (grad mode, autocast, threads, …) is what it was",
            "graph __compiled_fn_",
            "cpp_fused_",
            "lines: --source",
            "torch  2.13.0",
        ):
            assert part in text

    def test_shows_sources_and_graphs(self, recorded: Recorded) -> None:
        assert "async_compile.cpp_pybinding" in recorded.firebrick("show", "double", "--source").stdout
        graph = recorded.firebrick("show", "double", "--graph").stdout
        assert "call_function _operator.mul(%l_x_, 2)" in graph

    def test_guards_name_globals_and_parameters_as_the_program_does(self, recorded: Recorded) -> None:
        key = next(b["key"] for b in recorded.json("ls", "Attention")["bundles"])
        guards = recorded.json("show", key)["guards"]
        tensor = "is a tensor of float32 on cpu, size (8, 8), strides (8, 1), with a gradient"
        assert f"`self.queries.weight` {tensor}" in guards
        assert any(guard.startswith("global `SCALE` is ") for guard in guards)

    def test_a_name_with_several_forms_lists_their_keys(self, recorded: Recorded) -> None:
        fails(recorded.firebrick("show", "Attention"), 2, "'Attention' means 2 bundles: ")

    def test_a_blob_is_shown_by_its_key(self, recorded: Recorded) -> None:
        parts = recorded.json("show", "double")["parts"]
        wrapper, library = (
            next(p["key"] for p in parts if p["kind"] == kind) for kind in ("wrapper", "library")
        )
        assert "def call(" in recorded.firebrick("show", wrapper[:16]).stdout
        assert "library, " in recorded.firebrick("show", library).stdout
        assert recorded.json("show", library)["text"] is None

    @pytest.mark.parametrize("key", ["0" * 64, "xyz", "00"])
    def test_a_wrong_key_is_an_error(self, recorded: Recorded, key: str) -> None:
        fails(recorded.firebrick("show", key), 33, f"nothing in the store is called {key}")


class TestNumbers:
    def test_stats_count_what_is_there(self, recorded: Recorded) -> None:
        value = recorded.json("stats")
        assert (value["functions"], value["lanes"]["lean"], value["lanes"]["full"]) == (3, 4, 0)
        assert value["bytes_on_disk"] > value["bytes_stored"] > 0
        text = recorded.firebrick("stats").stdout
        assert "4 lean, 0 full, of 3 functions" in text and "library" in text

    def test_du_tells_shared_from_unique_bytes(self, recorded: Recorded) -> None:
        value = recorded.json("du")
        entries = {entry["name"]: entry for entry in value["entries"]}
        assert len(entries["Attention.forward"]["bundles"]) == 2
        assert sum(entry["unique_bytes"] for entry in entries.values()) <= value["bytes_of_bundles"]
        assert value["bytes_of_bundles"] + value["bytes_beside"] == value["bytes_of_blobs"]
        each = recorded.json("du", "--each", "Attention")["entries"]
        assert len(each) == 2
        shared = sum(entry["bytes"] - entry["unique_bytes"] for entry in each)
        assert shared > 0  # both forms share a guard's text or a piece of code

    def test_explain_gives_both_values_of_a_miss(self, recorded: Recorded) -> None:
        runs = recorded.json("explain", "--runs", "20")["runs"]
        (missed,) = runs[-2]["explanations"]  # the run before it was the first of all
        assert missed["function"] == "Attention.forward" and missed["code"] == "value"
        assert missed["changes"] == [{"what": "global `SCALE`", "stored": "2.0", "here": "3.0"}]
        text = recorded.firebrick("explain", "--runs", "20", "Attention").stdout
        assert "Attention.forward (modelled.py:Attention.forward): miss" in text
        assert "global `SCALE` was 2.0, is 3.0" in text
        fails(recorded.firebrick("explain", "nobody"), 33, "nobody")


class TestDoctor:
    def test_finds_nothing_bad_here(self, recorded: Recorded) -> None:
        value = recorded.json("doctor")
        assert value["ok"], value
        details = {finding["name"]: finding["detail"] for finding in value["findings"]}
        assert "2.13.0" in details["torch"]
        assert details["lanes"] == "4 of 4 bundles for this torch are served without the compiler"

    def test_names_a_misspelt_variable_and_one_that_does_not_fit(self, recorded: Recorded) -> None:
        done = recorded.firebrick("doctor", FIREBRICK_CACHEDIR="x", FIREBRICK_LOAD="perhaps")
        assert done.returncode == 1
        assert "FIREBRICK_CACHEDIR is no setting" in done.stdout
        assert "Is FIREBRICK_CACHE_DIR meant?" in done.stdout
        assert "FIREBRICK_LOAD is 'perhaps'" in done.stdout

    def test_says_where_torch_does_not_call_firebrick(self, recorded: Recorded) -> None:
        done = recorded.firebrick("doctor", TORCH_DEVICE_BACKEND_AUTOLOAD="0")
        assert done.returncode == 1 and "TORCH_DEVICE_BACKEND_AUTOLOAD=0" in done.stdout

    def test_says_what_is_wrong_with_a_folder(self, recorded: Recorded, tmp_path: Path) -> None:
        (tmp_path / "data.mdb").write_bytes(b"nonsense" * 1000)
        tmp_path.chmod(0o700)
        assert recorded.firebrick("doctor", store=tmp_path).returncode == 1


class TestCheck:
    def test_finds_nothing_in_a_sound_store(self, recorded: Recorded) -> None:
        value = recorded.json("check")
        assert value["clean"] and value["blobs"] > 20 and value["bundles"] >= 4
        assert "nothing is wrong" in recorded.firebrick("check").stdout

    def test_names_what_is_damaged(self, recorded: Recorded, tmp_path: Path) -> None:
        damage(store := recorded.copy(tmp_path / "store"))
        done = recorded.firebrick("check", store=store)
        assert done.returncode == 1
        assert done.stdout.count("damaged entry ") == 4 and "missing part " in done.stdout
        assert {p["kind"] for p in recorded.json("check", store=store)["problems"]} == {
            "damaged",
            "missing part",
        }

    def test_a_repair_drops_what_is_broken_and_the_next_start_stores_it_again(
        self, recorded: Recorded, tmp_path: Path
    ) -> None:
        damage(store := recorded.copy(tmp_path / "store"))
        done = recorded.firebrick("check", "--repair", store=store)
        assert done.returncode == 0, done.stdout
        assert "dropped 4 blobs and 4 bundles" in done.stdout
        value = recorded.json("check", "--repair", store=store)
        assert value["clean"] and value["repaired"] == {"blobs": 0, "bundles": 0, "entries": 0}

    def test_a_bounded_look_goes_on_where_it_ended(self, recorded: Recorded) -> None:
        looks, token = 0, ""
        while looks == 0 or token:
            value = recorded.json("check", "--seconds", "0", "--token", token)
            looks, token = looks + 1, value["token"]
            assert value["clean"]
        assert looks > 1
        fails(recorded.firebrick("check", "--token", "x"), 2, "token")

    def test_a_broken_file_is_not_opened(self, recorded: Recorded, tmp_path: Path) -> None:
        store = recorded.copy(tmp_path / "store")
        data = bytearray((store / "data.mdb").read_bytes())
        data[2 * 4096 : 60 * 4096] = os.urandom(58 * 4096)
        (store / "data.mdb").write_bytes(data)
        done = recorded.firebrick("check", store=store)
        assert done.returncode in (1, 15, 19), done.stderr


class TestMoving:
    def test_what_was_exported_serves_where_it_is_imported(self, recorded: Recorded, tmp_path: Path) -> None:
        done = recorded.firebrick("export", tmp_path / "bundles")
        assert done.returncode == 0 and "bundles, " in done.stderr
        assert [path.name for path in tmp_path.iterdir()] == ["bundles"]
        there = tmp_path / "there"
        for said in ("bundles new; store", "0 bundles new, "):
            done = recorded.firebrick("import", tmp_path / "bundles", store=there)
            assert done.returncode == 0 and said in done.stderr
        assert recorded.json("ls", store=there)["bundles"][0]["name"] == "Attention.forward"
        done = recorded.firebrick("run", "--locked", PROGRAM, store=there)
        assert done.returncode == 0, done.stderr
        assert "3 hits (3 without the compiler)" in done.stderr

    def test_some_bundles_can_be_chosen_on_both_ways(self, recorded: Recorded, tmp_path: Path) -> None:
        file, there = tmp_path / "bundles", tmp_path / "there"
        recorded.firebrick("export", file, "double", "Attention")
        recorded.firebrick("import", file, "double", store=there)
        assert [bundle["name"] for bundle in recorded.json("ls", store=there)["bundles"]] == ["double"]
        recorded.firebrick("import", recorded.store, "Sequential", store=there)
        assert len(recorded.json("ls", store=there)["bundles"]) == 2

    def test_a_file_that_is_there_is_replaced_by_force_only(self, recorded: Recorded, tmp_path: Path) -> None:
        file = tmp_path / "bundles"
        file.write_text("precious")
        fails(recorded.firebrick("export", file), 2, "is there already")
        assert file.read_text() == "precious"
        assert recorded.firebrick("export", file, "--force").returncode == 0
        fails(recorded.firebrick("export", tmp_path / "none" / "bundles"), 2, "is no folder")
        fails(recorded.firebrick("export", tmp_path / "other", "nobody"), 33, "nobody")
        assert sorted(path.name for path in tmp_path.iterdir()) == ["bundles"]

    def test_nothing_damaged_is_imported(self, recorded: Recorded, tmp_path: Path) -> None:
        damage(store := recorded.copy(tmp_path / "store"))
        there = tmp_path / "there"
        fails(recorded.firebrick("import", store, store=there), 19, "is damaged: damaged")
        assert not there.exists()
        (tmp_path / "file").write_bytes(b"nonsense" * 1000)
        assert recorded.firebrick("import", tmp_path / "file", store=there).returncode == 19
        fails(recorded.firebrick("import", tmp_path / "none", store=there), 11, "no such file")

    def test_a_full_disk_is_told_in_one_line(
        self, recorded: Recorded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def full(*_: object, **__: object) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(tmp_path))

        monkeypatch.setattr(shutil, "copyfile", full)
        done = recorded.firebrick("import", recorded.store, store=tmp_path / "there")
        fails(done, 10, "No space left on device")


class TestDiff:
    def test_says_in_what_two_forms_differ(self, recorded: Recorded) -> None:
        first, second = (bundle["key"] for bundle in recorded.json("ls", "Attention")["bundles"])
        done = recorded.firebrick("diff", first, second)
        assert done.returncode == 1
        assert {"- global `SCALE` is 2.0", "+ global `SCALE` is 3.0"} <= {
            x.strip() for x in done.stdout.splitlines()
        }
        sections = [section["what"] for section in recorded.json("diff", first, second)["sections"]]
        assert {"guards", "graphs", "wrapper source"} <= set(sections)

    def test_finds_no_difference_to_itself_in_another_store(self, recorded: Recorded, tmp_path: Path) -> None:
        other = recorded.copy(tmp_path / "store")
        done = recorded.firebrick("diff", "double", "double", "--other", other)
        assert (done.returncode, done.stdout) == (0, "no difference\n")


class TestLock:
    def test_a_lock_file_is_of_what_the_program_needs_and_can_be_checked_without_it(
        self, recorded: Recorded, tmp_path: Path
    ) -> None:
        file = tmp_path / "firebrick.lock"
        done = recorded.firebrick("lock", "-o", file, PROGRAM)
        assert done.returncode == 0, done.stderr
        value = json.loads(file.read_text())
        validated(value)
        assert {entry["name"] for entry in value["bundles"]} == {"Attention.forward", "double", "Sequential"}
        done = recorded.firebrick(
            "run", "-q", "--locked", "--lock-file", file, "-c", "import torch; print(1)"
        )
        assert done.returncode == 0, done.stderr
        there = tmp_path / "there"
        recorded.firebrick("import", recorded.store, "double", store=there)
        done = recorded.firebrick("run", "--locked", "--lock-file", file, "-c", "print('ran')", store=there)
        fails(done, 74, "is not in")

    @pytest.mark.parametrize(
        ("text", "said"), [("{}", "is no lock file"), ("x", "is no lock file"), (None, "No such")]
    )
    def test_what_is_no_lock_file_is_refused(
        self, recorded: Recorded, tmp_path: Path, text: str | None, said: str
    ) -> None:
        if text is not None:
            (tmp_path / "lock").write_text(text)
        fails(recorded.firebrick("run", "--locked", "--lock-file", tmp_path / "lock", "-c", ""), 2, said)

    def test_none_is_written_where_the_program_compiles(self, recorded: Recorded, tmp_path: Path) -> None:
        done = recorded.firebrick("lock", "-o", tmp_path / "lock", PROGRAM, "6.0")
        assert done.returncode == 74
        assert not (tmp_path / "lock").exists()


def test_warm_fills_a_store_and_proves_it(recorded: Recorded, tmp_path: Path) -> None:
    store = recorded.copy(tmp_path / "store")
    done = recorded.firebrick("warm", "--prove", PROGRAM, store=store)
    assert done.returncode == 0, done.stderr
    assert "3 hits" in done.stderr and "a second start compiled nothing" in done.stderr


READING = {
    "ls": ["--all"],
    "show": ["double"],
    "stats": [],
    "explain": [],
    "du": [],
    "doctor": [],
    "check": [],
    "diff": ["double", "double"],
    "history": ["double"],
    "pin": [],
}


@pytest.mark.parametrize("verb", READING)
class TestBadInput:
    """`doctor` tells of it among its findings."""

    def refused(self, recorded: Recorded, verb: str, store: Path) -> Finished:
        done = recorded.firebrick(verb, *READING[verb], store=store)
        assert done.returncode not in (0, 2) or verb == "doctor", done.stdout
        assert len(done.stderr.splitlines()) == (0 if verb == "doctor" else 2), done.stderr
        return done

    def test_a_folder_that_is_not_there_stays_so(self, recorded: Recorded, verb: str, tmp_path: Path) -> None:
        self.refused(recorded, verb, tmp_path / "none")
        assert not (tmp_path / "none").exists()

    def test_a_file_that_is_no_store_is_named(self, recorded: Recorded, verb: str, tmp_path: Path) -> None:
        (tmp_path / "data.mdb").write_bytes(b"nonsense" * 1000)
        tmp_path.chmod(0o700)
        done = self.refused(recorded, verb, tmp_path)
        assert str(tmp_path) in done.stderr + done.stdout

    def test_a_folder_that_is_open_to_others_is_refused(
        self, recorded: Recorded, verb: str, tmp_path: Path
    ) -> None:
        store = recorded.copy(tmp_path / "store")
        store.chmod(0o777)
        self.refused(recorded, verb, store)

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
    def test_a_store_that_may_not_be_read_is_named(
        self, recorded: Recorded, verb: str, tmp_path: Path
    ) -> None:
        store = recorded.copy(tmp_path / "store")
        store.chmod(0)
        try:
            self.refused(recorded, verb, store)
        finally:
            store.chmod(0o700)

    def test_a_store_that_cannot_be_written_to_is_read(
        self, recorded: Recorded, verb: str, tmp_path: Path
    ) -> None:
        store = recorded.copy(tmp_path / "store")
        before = {path.name: path.read_bytes() for path in store.iterdir()}
        for path in store.iterdir():
            path.chmod(0o400)
        store.chmod(0o500)
        try:
            done = recorded.firebrick(verb, *READING[verb], store=store)
        finally:
            store.chmod(0o700)
        assert done.returncode == 0, done.stderr
        assert {path.name: path.read_bytes() for path in store.iterdir() if path.name == "data.mdb"} == {
            "data.mdb": before["data.mdb"]
        }

    def test_a_damaged_entry_is_named_and_the_rest_shown(
        self, recorded: Recorded, verb: str, tmp_path: Path
    ) -> None:
        store = recorded.copy(tmp_path / "store")
        damage(store)
        done = recorded.firebrick(verb, *READING[verb], store=store)
        assert done.returncode == int(verb == "check"), done.stderr
        assert "Traceback" not in done.stderr
        assert ("left out: " in done.stderr) == (verb in ("show", "diff"))


# Arguments of verbs that do more than read; a verb without an entry here is watched without arguments.
WRITING = {
    "rm": ["--dry-run", "double"],
    "export": ["{}/new.export"],
    "import": ["{}/there.export"],
    "seal": ["{}/new.pack"],
    "sign": ["ours"],
}
MAKING = ("edit", "revert")  # make another bundle, with torch
ENDS = {"verify": 1}  # nothing is signed


@pytest.mark.parametrize("verb", [verb for verb in VERBS if verb not in (*STARTING, *MAKING)])
def test_no_verb_that_makes_or_starts_nothing_runs_loads_or_unpickles_anything(
    recorded: Recorded, verb: str, tmp_path: Path
) -> None:
    store = recorded.copy(tmp_path / "store")
    variables = {"FIREBRICK_CACHE_DIR": str(store), "FIREBRICK_TRUST_DIR": str(tmp_path / "keys")}
    for before in ["export", tmp_path / "there.export"], ["keys", "new", "ours"]:
        assert recorded.firebrick(*before, **variables).returncode == 0
    for more in ([], ["--json"]) if verb in READING else ([],):
        given = [text.format(tmp_path) for text in (READING | WRITING).get(verb, [])]
        done = start([PROGRAMS / "watched_verb.py", verb, *given, *more], home=recorded.home, env=variables)
        assert done.returncode == ENDS.get(verb, 0), done.stderr
        assert done.stdout or done.stderr


def damage(store: Path) -> None:
    """Change a byte in the body of every guard program."""
    with Store.open(store) as opened:
        keys = [info.key for info in opened.list(Kind.GUARD_PROGRAM)]
    with lmdb.open(str(store), max_dbs=16, lib_version=0) as env:
        blobs = env.open_db(b"blobs")
        with env.begin(write=True) as txn:
            for key in keys:
                value = bytearray(txn.get(key, db=blobs))
                value[40] ^= 0xFF
                txn.put(key, bytes(value), db=blobs)


def test_the_watch_sees_what_is_forbidden(tmp_path: Path) -> None:
    program = (PROGRAMS / "watched_verb.py").read_text()
    for line in (
        "exec(compile('1', 'x', 'exec'))",
        "import pickle; pickle.loads(pickle.dumps(len))",
        "import marshal; marshal.loads(b'N')",
    ):
        path = tmp_path / "watched.py"
        path.write_text(program.replace("    main()\n", f"    {line}\n"))
        assert start([path], home=tmp_path / "home").returncode == 99, line


def test_every_verb_has_a_module_and_every_module_is_a_verb() -> None:
    modules = {path.stem.removeprefix("verb_") for path in (SCHEMAS.parent).glob("verb_*.py")}
    assert modules == set(VERBS)


def test_help_imports_nothing_that_it_does_not_need() -> None:
    code = "import sys; sys.argv[1:] = ['--help']\nfrom firebrick.cli import main\n"
    code += "try: main()\nfinally: print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    loaded = set(done.stdout.splitlines()[-1].split())
    assert {"typer"} <= loaded
    assert (
        loaded & {"torch", "lmdb", "rich", "msgpack", "firebrick.cli.verb_ls", "firebrick.storage.store"}
        == set()
    )


def test_no_verb_imports_torch_before_it_is_needed() -> None:
    modules = ", ".join(f"firebrick.cli.verb_{verb}" for verb in VERBS)
    done = subprocess.run(
        [sys.executable, "-c", f"import sys, {modules}\nprint({{'torch', 'rich'}} & {{*sys.modules}})"],
        capture_output=True,
        text=True,
    )
    assert done.stdout == "set()\n", done.stderr


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_explains_itself(
    verb: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["firebrick", verb, "--help"])
    with pytest.raises(SystemExit) as ended:
        run()
    assert ended.value.code == 0
    assert f"Usage: firebrick {verb} " in capsys.readouterr().out


class TestATerminal:
    @pytest.fixture
    def terminal(self, recorded: Recorded) -> Callable[..., str]:
        def in_it(*arguments: str) -> str:
            parent, child = pty.openpty()
            environ = os.environ | {
                "FIREBRICK_CACHE_DIR": str(recorded.store),
                "TERM": "xterm",
                "COLUMNS": "100",
            }
            command = [sys.executable, "-m", "firebrick.cli", *arguments]
            done = subprocess.Popen(command, stdin=child, stdout=child, stderr=child, env=environ)
            os.close(child)
            seen = bytearray()
            try:
                while piece := os.read(parent, 65536):
                    seen += piece
            except OSError:  # the other side is closed
                pass
            os.close(parent)
            assert done.wait() == 0, seen
            return seen.decode()

        return in_it

    @pytest.mark.parametrize("verb", READING)
    def test_gets_colours_and_a_pipe_does_not(
        self, recorded: Recorded, terminal: Callable[..., str], verb: str
    ) -> None:
        plain = verb in ("explain", "diff")  # of which there is nothing to colour
        assert ("\x1b[" in terminal(verb, *READING[verb])) != plain
        assert "\x1b[" not in recorded.firebrick(verb, *READING[verb]).stdout

    def test_lines_fit_it(self, terminal: Callable[..., str]) -> None:
        lines = re.sub(r"\x1b\[[0-9;]*m", "", terminal("show", "double", "--all")).splitlines()
        assert max(map(len, lines)) <= 100


def test_completion_knows_the_verbs() -> None:
    variables = {"_FIREBRICK_COMPLETE": "complete_bash", "COMP_WORDS": "firebrick s", "COMP_CWORD": "1"}
    code = "from firebrick.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | variables, capture_output=True, text=True
    )
    assert {"show", "stats"} <= set(done.stdout.split())


class TestEdit:
    @pytest.fixture
    def store(self, recorded: Recorded, tmp_path: Path) -> Path:
        return recorded.copy(tmp_path / "store")

    def editor(self, tmp_path: Path, change: str) -> str:
        """Return an editor that changes the text `t` of its file."""
        program = tmp_path / "editor.py"
        program.write_text(
            f"import sys\nt = open(sys.argv[1]).read()\n{change}\nopen(sys.argv[1], 'w').write(t)\n"
        )
        return f"{sys.executable} {program}"

    def test_an_edited_source_is_served_and_a_reverted_one_again(
        self, recorded: Recorded, store: Path, tmp_path: Path
    ) -> None:
        says = "t = t.replace('def call(self, args):', 'def call(self, args):\\n        print(\"edited\")')"
        done = recorded.firebrick("edit", "double", store=store, EDITOR=self.editor(tmp_path, says))
        assert "double is served by " in done.stderr and done.returncode == 0
        ran = recorded.firebrick("run", "--locked", PROGRAM, store=store)
        assert ran.returncode == 0, ran.stderr
        assert ran.stdout.splitlines()[0] == "edited"
        assert "3 hits (2 without the compiler), 0 misses" in ran.stderr
        newest, oldest = recorded.json("history", "double", store=store)["revisions"]
        assert newest["current"] and newest["parent"] == oldest["revision"] and oldest["parent"] is None
        assert "*  " + newest["revision"][:12] in recorded.firebrick("history", "double", store=store).stdout
        assert recorded.json("check", store=store)["clean"]

        done = recorded.firebrick("revert", "double", oldest["revision"][:10], store=store)
        assert done.returncode == 0, done.stderr
        ran = recorded.firebrick("run", "--locked", PROGRAM, store=store)
        assert "edited" not in ran.stdout and "3 hits (3 without the compiler)" in ran.stderr
        assert [r["current"] for r in recorded.json("history", "double", store=store)["revisions"]] == [
            False,
            True,
        ]

    @pytest.mark.parametrize(
        ("change", "code", "said"),
        [
            ("", 0, "nothing was changed"),
            ("t = t + 'def'", 2, "is no Python"),
            ("sys.exit(3)", 2, "the editor ended with code 3"),
        ],
    )
    def test_what_cannot_be_stored_changes_nothing(
        self, recorded: Recorded, store: Path, tmp_path: Path, change: str, code: int, said: str
    ) -> None:
        before = recorded.json("ls", "--all", store=store)
        done = recorded.firebrick("edit", "double", store=store, EDITOR=self.editor(tmp_path, change))
        assert done.returncode == code and said in done.stderr
        assert recorded.json("ls", "--all", store=store) == before

    def test_wrong_arguments_are_named(self, recorded: Recorded, store: Path) -> None:
        fails(recorded.firebrick("edit", "double", store=store, EDITOR="/no/editor"), 2, "cannot be started")
        fails(recorded.firebrick("edit", "double", "--graph", "side", store=store), 2, "--graph side")
        fails(recorded.firebrick("edit", "double", "--graph", "backward", store=store), 2, "has no backward")
        fails(recorded.firebrick("edit", "nobody", store=store), 33, "nobody")
        fails(
            recorded.firebrick("revert", "double", "0" * 12, store=store), 33, "among the revisions of double"
        )
        fails(
            recorded.firebrick("history", "double", "--context", "none", store=store),
            33,
            "in the context none",
        )


class TestRoom:
    @pytest.fixture
    def store(self, recorded: Recorded, tmp_path: Path) -> Path:
        return recorded.copy(tmp_path / "store")

    def test_what_is_removed_is_gone_and_the_rest_serves(self, recorded: Recorded, store: Path) -> None:
        would = recorded.firebrick("rm", "-n", "Attention", store=store)
        assert would.stdout.count("would remove ") == 2
        value = recorded.json("rm", "Attention", store=store)
        assert value["removed"] and len(value["bundles"]) == 2 and value["unique_bytes"] > 0
        assert [b["name"] for b in recorded.json("ls", store=store)["bundles"]] == ["double", "Sequential"]
        assert recorded.json("check", store=store)["clean"]
        fails(recorded.firebrick("rm", "double", "Attention", store=store), 33, "Attention")
        assert len(recorded.json("ls", store=store)["bundles"]) == 2

    def test_a_pinned_bundle_stays_until_it_is_forced_or_unpinned(
        self, recorded: Recorded, store: Path
    ) -> None:
        assert "double" in recorded.firebrick("pin", "double", store=store).stdout
        fails(recorded.firebrick("rm", "double", store=store), 41, "is still needed by a pin")
        recorded.firebrick("gc", "--grace", "0", "--max-bytes", "2M", store=store)
        assert [pin["name"] for pin in recorded.json("pin", store=store)["pinned"]] == ["double"]
        assert recorded.json("pin", "--remove", "double", store=store)["pinned"] == []
        assert recorded.firebrick("rm", "double", store=store).returncode == 0

    def test_gc_frees_what_a_removal_left(self, recorded: Recorded, store: Path) -> None:
        recorded.firebrick("rm", "Attention", store=store)
        value = recorded.json("gc", "--grace", "0", store=store)
        assert value["blobs"] > 0 and value["bytes"] > 0 and value["waiting"] == 0
        assert "0 blobs freed" in recorded.firebrick("gc", "--grace", "0", store=store).stdout
        assert recorded.json("check", store=store)["clean"]

    def test_a_size_that_is_none_is_named(self, recorded: Recorded, store: Path) -> None:
        fails(recorded.firebrick("gc", "--max-bytes", "much", store=store), 2, "max_bytes is 'much'")

    @pytest.mark.parametrize(
        "verb", [["gc"], ["rm", "double"], ["pin", "double"], ["revert", "double", "00"]]
    )
    def test_nothing_is_changed_in_a_store_that_is_not_there_or_no_store(
        self, recorded: Recorded, verb: list[str], tmp_path: Path
    ) -> None:
        fails(recorded.firebrick(*verb, store=tmp_path / "none"), 11, "no store at")
        (tmp_path / "data.mdb").write_bytes(b"nonsense" * 1000)
        tmp_path.chmod(0o700)
        assert recorded.firebrick(*verb, store=tmp_path).returncode in (15, 19)


class TestBench:
    def test_starts_a_program_in_four_ways_and_compares_what_it_prints(
        self, recorded: Recorded, tmp_path: Path
    ) -> None:
        program = tmp_path / "program.py"
        program.write_text("import os, sys\nprint('x' * ('FIREBRICK_CACHE_DIR' in os.environ))\n")
        done = recorded.firebrick("bench", "--repeats", "2", "--json", program)
        validated(value := json.loads(done.stdout))
        ways = {entry["way"]: entry for entry in value["ways"]}
        assert list(ways) == ["cold", "torch's warm caches", "cold, recording", "Firebrick"]
        assert [len(entry["seconds"]) for entry in ways.values()] == [1, 2, 1, 2]
        assert [entry["same_output"] for entry in ways.values()] == [True, True, False, False]
        assert "Firebrick saves " in recorded.firebrick("bench", "--repeats", "1", program).stdout

    def test_a_program_that_fails_is_told_of(self, recorded: Recorded) -> None:
        done = recorded.firebrick("bench", "-c", "import sys; sys.exit('no luck')")
        assert done.returncode == 2
        assert "the program ended with code 1 (cold): no luck" in done.stderr

    def test_the_program_of_the_demo_trains_a_step(self, recorded: Recorded) -> None:
        from firebrick.cli import demo_program

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(demo_program.torch, "compile", lambda model: model)
            out = io.StringIO()
            with redirect_stdout(out):
                demo_program.main()
        assert re.fullmatch(r"loss \d\.\d+, gradients \d+\.\d+\n", out.getvalue())
