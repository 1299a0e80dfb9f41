"""What is installed is what lies in the folders, under the names that it should have."""

import importlib
import importlib.metadata
import importlib.resources
import importlib.util
import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path, PurePosixPath

import pytest

import firebrick
from support.places import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
SETUPTOOLS = PROJECT["tool"]["setuptools"]
FOLDERS = {"firebrick": ROOT / "store", "firebrick.codecs": ROOT / "codecs"}
HEAVY = {"torch", "lmdb", "msgpack", "blake3", "zstandard", "numpy", "sympy", "triton"}


def sources() -> dict[PurePosixPath, Path]:
    """Map the path of each module in a wheel to its file in the checkout."""
    return {
        PurePosixPath(name.replace(".", "/")) / path.relative_to(folder).as_posix(): path
        for name, folder in FOLDERS.items()
        for path in folder.rglob("*.py")
    }


def python(code: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], env=os.environ | env, capture_output=True, text=True)


def test_every_folder_with_an_init_is_a_listed_package() -> None:
    folders = {str(path.parent).replace("/", ".") for path in sources() if path.name == "__init__.py"}
    assert folders == set(SETUPTOOLS["packages"])
    assert len(SETUPTOOLS["packages"]) == len(folders)


def test_every_folder_with_modules_has_an_init() -> None:
    modules = sources()
    assert all(path.parent / "__init__.py" in modules for path in modules)


def test_every_module_is_found_where_it_is_installed() -> None:
    names = [str(path.with_suffix("")).replace("/", ".") for path in sources()]
    names = [name.removesuffix(".__init__") for name in names]
    assert "firebrick.codecs" in names
    assert [name for name in names if importlib.util.find_spec(name) is None] == []


def test_the_types_are_marked_as_shipped() -> None:
    assert importlib.resources.files(firebrick).joinpath("py.typed").is_file()


def test_the_sdist_builds_a_wheel_with_every_module(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    ignored = shutil.ignore_patterns(".*", "*.egg-info", "__pycache__", "build", "dist")
    shutil.copytree(ROOT, tree, ignore=ignored)
    build = "from setuptools.build_meta import build_{0}; print(build_{0}({1!r}))"

    def run(kind: str, where: Path) -> Path:
        code = build.format(kind, str(tmp_path))
        command = [sys.executable, "-W", "ignore", "-c", code]
        done = subprocess.run(command, cwd=where, capture_output=True, text=True, check=True)
        return tmp_path / done.stdout.splitlines()[-1]

    sdist = run("sdist", tree)
    shutil.unpack_archive(sdist, tmp_path, filter="data")
    unpacked = tmp_path / sdist.name.removesuffix(".tar.gz")
    shipped = ("LICENSE", "tox.ini", "tests/conftest.py", "benchmarks/demo.py", "docs/index.md")
    assert [name for name in shipped if not (unpacked / name).is_file()] == []
    with zipfile.ZipFile(run("wheel", unpacked)) as wheel:
        names = {PurePosixPath(name) for name in wheel.namelist()}
    assert {name for name in names if name.suffix == ".py"} == set(sources())
    assert PurePosixPath("firebrick/py.typed") in names


def test_the_extra_never_downgrades_a_torch_that_is_installed() -> None:
    """Beside a newer torch Firebrick says which it supports; pip would replace the torch without asking."""
    from firebrick.torch_api import MINORS

    assert PROJECT["project"]["optional-dependencies"]["torch"] == [f"torch>={MINORS[0]}"]


def test_the_version_is_one() -> None:
    assert firebrick.__version__ == PROJECT["project"]["version"]
    assert importlib.metadata.version("firebrick") == firebrick.__version__


def test_importing_firebrick_imports_nothing_heavy() -> None:
    code = "import sys, firebrick; print(*{name.partition('.')[0] for name in sys.modules})"
    assert HEAVY & set(python(code).stdout.split()) == set()


def test_every_public_name_is_there() -> None:
    assert firebrick.__all__ == sorted(firebrick.__all__)
    assert [name for name in firebrick.__all__ if not hasattr(firebrick, name)] == []


def test_torch_finds_the_entry_point() -> None:
    (entry,) = importlib.metadata.entry_points(group="torch.backends", name="firebrick")
    assert entry.value == PROJECT["project"]["entry-points"]["torch.backends"]["firebrick"]
    assert callable(entry.load())


@pytest.mark.parametrize(
    "setting",
    [
        pytest.param({"FIREBRICK_CACHE_DIR": "/dev/null/store"}, id="no folder can be made"),
        pytest.param({"FIREBRICK_CACHE_DIR": "{}", "FIREBRICK_MAP_SIZE": "x"}, id="not a number"),
    ],
)
def test_import_torch_survives_settings_that_are_wrong(tmp_path: Path, setting: dict[str, str]) -> None:
    env = {name: value.format(tmp_path) for name, value in setting.items()}
    done = python("import torch; print(torch.ones(2).sum().item())", **env)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "2.0\n"
    assert "firebrick" in done.stderr


def test_the_folders_are_not_importable_under_their_own_names() -> None:
    """`python -m pytest` in the root would make a second copy of every class; run `pytest`."""
    assert importlib.util.find_spec("store") is None
    codecs = importlib.import_module("codecs")
    assert codecs.__spec__ is not None
    assert not str(codecs.__spec__.origin).startswith(str(ROOT))


def test_no_module_is_loaded_twice() -> None:
    ours = {str(path) for path in sources().values()}
    foreign = {
        name
        for name, module in sys.modules.copy().items()
        if str(getattr(module, "__file__", None)) in ours and name.partition(".")[0] != "firebrick"
    }
    assert foreign == set()
