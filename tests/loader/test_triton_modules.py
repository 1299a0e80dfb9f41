"""The C modules that Triton builds: kept in the store, and given to a Triton whose cache folder is empty."""

import shutil
import subprocess
import sysconfig
import types

import pytest

from firebrick.base.patches import Patches
from firebrick.loader.triton_modules import TritonModules
from firebrick.storage.format import Kind
from firebrick.storage.store import Store

SUFFIX = sysconfig.get_config_var("EXT_SUFFIX")
SOURCE = """
#include <Python.h>
static PyObject *answer(PyObject *self, PyObject *args) { return PyLong_FromLong(%d); }
static PyMethodDef methods[] = {{"answer", answer, METH_NOARGS, ""}, {NULL, NULL, 0, NULL}};
static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "answers", "", -1, methods};
PyMODINIT_FUNC PyInit_answers(void) { return PyModule_Create(&module); }
"""


class Folder:
    """A cache manager as Triton's: one folder per key."""

    def __init__(self, root, key):
        self.root, self.key = root / key, key

    def get_file(self, filename):
        path = self.root / filename
        return str(path) if path.exists() else None

    def put(self, data, filename, binary=True):
        self.root.mkdir(parents=True, exist_ok=True)
        (self.root / filename).write_bytes(data)
        return str(self.root / filename)

    def has_file(self, filename):
        return (self.root / filename).exists()


@pytest.fixture(scope="module")
def module(tmp_path_factory):
    folder = tmp_path_factory.mktemp("built")
    (folder / "answers.c").write_text(SOURCE % 42)
    command = ["g++", "-xc", "answers.c", "-shared", "-fPIC", "-o", "answers.so"]
    subprocess.run([*command, "-I" + sysconfig.get_paths()["include"]], cwd=folder, check=True)
    return (folder / "answers.so").read_bytes()


@pytest.fixture
def store(tmp_path):
    with Store.open(tmp_path / "store") as store:
        yield store


def manager(store, root, faults, key="digest", *, recording=True):
    return TritonModules(store, recording, faults.append).managing(lambda key: Folder(root, key))(key)


def test_a_module_that_was_built_is_there_on_another_machine(store, tmp_path, module):
    faults = []
    first = manager(store, tmp_path / "1", faults)
    assert first.get_file("answers" + SUFFIX) is None
    assert first.put(module, "answers" + SUFFIX, binary=True) == first.get_file("answers" + SUFFIX)
    second = manager(store, tmp_path / "2", faults)
    assert not second.has_file("answers" + SUFFIX)
    path = second.get_file("answers" + SUFFIX)
    assert path.startswith(str(tmp_path / "2"))
    code = f"import importlib.util as u; s = u.spec_from_file_location('answers', {path!r}); "
    code += "m = u.module_from_spec(s); s.loader.exec_module(m); print(m.answer())"
    assert subprocess.run(["python3", "-c", code], capture_output=True, text=True).stdout == "42\n"
    assert faults == []


def test_a_module_that_lies_in_the_folder_is_taken_over(store, tmp_path, module):
    Folder(tmp_path / "1", "digest").put(module, "answers" + SUFFIX)
    faults = []
    manager(store, tmp_path / "1", faults).get_file("answers" + SUFFIX)
    assert manager(store, tmp_path / "2", faults).get_file("answers" + SUFFIX)
    assert manager(store, tmp_path / "2", faults, key="another").get_file("answers" + SUFFIX) is None
    assert faults == []


def test_reading_alone_writes_nothing(store, tmp_path, module):
    faults = []
    manager(store, tmp_path / "1", faults, recording=False).put(module, "answers" + SUFFIX)
    assert list(store.list()) == []


def test_what_is_no_library_stays_out(store, tmp_path):
    faults = []
    path = manager(store, tmp_path / "1", faults).put(b"text", "answers" + SUFFIX)
    assert [type(fault).__name__ for fault in faults] == ["DecodeError"]
    assert path == Folder(tmp_path / "1", "digest").get_file("answers" + SUFFIX)
    assert manager(store, tmp_path / "2", faults).get_file("answers" + SUFFIX) is None


def test_another_kind_of_blob_is_not_taken_for_a_module(store, tmp_path):
    key = store.put(Kind.TEXT, b"text")
    store.registry_update(".triton", {("modules", f"digest/answers{SUFFIX}"): key})
    faults = []
    assert manager(store, tmp_path, faults).get_file("answers" + SUFFIX) is None
    assert [type(fault).__name__ for fault in faults] == ["DecodeError"]


@pytest.mark.parametrize("key", ["x86_64,Linux,64bit,ELF", "x86_64,Linux,64bit,"])
def test_the_platform_is_named_alike_where_no_program_tells(store, key):
    build = types.ModuleType("build")
    build.get_cache_manager, build.platform_key = Folder, lambda: key
    patches = Patches()
    TritonModules(store, True, None).install(patches, build)
    assert build.platform_key() == "x86_64,Linux,64bit,ELF"
    patches.undo()
    assert build.platform_key() == key


def test_triton_itself_needs_no_compiler_the_second_time(store, tmp_path, monkeypatch, request):
    build = pytest.importorskip("triton.runtime.build", reason="needs Triton")
    faults = []
    patches = Patches()
    request.addfinalizer(patches.undo)
    TritonModules(store, True, faults.append).install(patches, build)
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path / "1"))
    assert build.compile_module_from_src(SOURCE % 43, "answers").answer() == 43
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path / "2"))
    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.delenv("CC", raising=False)
    if "_find_compiler" in vars(build):  # Triton 3.8 keeps what it found
        build._find_compiler.cache_clear()
        request.addfinalizer(build._find_compiler.cache_clear)
    assert build.compile_module_from_src(SOURCE % 43, "answers").answer() == 43
    assert faults == []
    with pytest.raises(RuntimeError, match="C compiler"):
        build.compile_module_from_src(SOURCE % 44, "answers")
