"""Settings are read from arguments, then the environment, then defaults."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from firebrick.errors import UsageError
from firebrick.settings import Settings, misspelt, worded_misspelt


def test_defaults_leave_firebrick_off() -> None:
    assert Settings.read({}) == Settings()
    assert Settings().cache_dir is None


def test_arguments_go_before_the_environment_and_it_before_the_defaults() -> None:
    environ = {
        "FIREBRICK_CONTEXT": "night",
        "FIREBRICK_LOAD": "off",
        "FIREBRICK_CACHE_DIR": "/kiln",
    }
    settings = Settings.read(environ, load=True, context=None)
    assert (settings.load, settings.context, settings.cache_dir) == (True, "night", Path("/kiln"))


def test_the_home_folder_is_expanded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/potter")
    assert Settings.read({}, cache_dir="~/kiln").cache_dir == Path("/home/potter/kiln")


@pytest.mark.parametrize(
    ("environ", "arguments", "said"),
    [
        ({"FIREBRICK_LOAD": "perhaps"}, {}, "FIREBRICK_LOAD is 'perhaps'"),
        ({"FIREBRICK_MAP_SIZE": "-1"}, {}, "positive number of bytes"),
        ({"FIREBRICK_MAP_SIZE": "much"}, {}, "positive number of bytes"),
        ({"FIREBRICK_MAP_SIZE": "5X"}, {}, "such as 5G"),
        ({"FIREBRICK_MAX_BYTES": "1000"}, {}, "at least 2M"),
        ({"FIREBRICK_AUDIT": "1.5"}, {}, "a share between them"),
        ({"FIREBRICK_AUDIT": "often"}, {}, "FIREBRICK_AUDIT is 'often'"),
        ({"FIREBRICK_UNKNOWN_TORCH": "yes"}, {}, "expected try"),
        ({}, {"cache_dir": 7}, "path of a folder"),
        ({}, {"context": "x" * 201}, "1 to 200 characters"),
        ({}, {"colour": "red"}, "unknown setting colour"),
    ],
)
def test_what_does_not_fit_is_named(environ: dict[str, str], arguments: dict[str, object], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        Settings.read(environ, **arguments)


@pytest.mark.parametrize(
    ("text", "share"), [("1", 1.0), ("on", 1.0), ("0", 0.0), ("no", 0.0), ("0.01", 0.01), ("", 0.0)]
)
def test_audits_are_of_all_starts_of_none_or_of_a_share(text: str, share: float) -> None:
    assert Settings.read({"FIREBRICK_AUDIT": text}).audit == share


@pytest.mark.parametrize(
    ("text", "size"),
    [("5G", 5 << 30), ("300m", 300 << 20), ("1.5 GiB", 3 << 29), ("2097152", 2 << 20), ("off", 0), ("0", 0)],
)
def test_a_limit_of_the_disk_is_a_readable_size_or_off(text: str, size: int) -> None:
    assert Settings.read({"FIREBRICK_MAX_BYTES": text}).max_bytes == size


def test_a_variable_that_is_no_setting_is_named_with_the_nearest_one() -> None:
    environ = {"FIREBRICK_CACHEDIR": "x", "FIREBRICK_COLOUR": "red", "FIREBRICK_LOG": "info", "HOME": "/"}
    assert misspelt(environ) == {"FIREBRICK_CACHEDIR": "FIREBRICK_CACHE_DIR", "FIREBRICK_COLOUR": ""}
    assert worded_misspelt(environ).startswith(
        "FIREBRICK_CACHEDIR is no setting (is FIREBRICK_CACHE_DIR meant?)"
    )
    assert worded_misspelt({"FIREBRICK_LOAD": "1"}) == ""


@pytest.mark.parametrize("on", ["", "{}/store"])
def test_importing_torch_warns_of_it_once(tmp_path: Path, on: str) -> None:
    environ = os.environ | {"FIREBRICK_CACHDIR": "x", "FIREBRICK_CACHE_DIR": on.format(tmp_path)}
    code = "import torch, firebrick\nfirebrick.disable(); firebrick.enable('again'); firebrick.disable()"
    done = subprocess.run(
        [sys.executable, "-c", code], env=environ, cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("FIREBRICK_CACHDIR is no setting (is FIREBRICK_CACHE_DIR meant?)") == 1
