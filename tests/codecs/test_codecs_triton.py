"""Triton kernels: a real one for an H100, made without a GPU, and what Triton does with it later."""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from firebrick import codecs
from firebrick.codecs import triton as module
from firebrick.codecs.triton import BINARIES, INTERMEDIATE, MAX_FILES, TritonKernel
from firebrick.errors import DecodeError, EncodeError
from firebrick.storage.format import Kind
from firebrick.storage.msgpack import pack, unpack
from support.places import GOLDEN

FOLDER = GOLDEN / "kernel"
(STORED,) = (path for path in FOLDER.iterdir() if path.is_dir() and len(path.name) == 52)
LIBDEVICE = b"/nvidia/lib/libdevice.10.bc"
INSTALLED = b"/usr/lib/python3/dist-packages/triton/backends" + LIBDEVICE


def restored(base: Path, package: bytes = b"/opt/venv/lib/triton") -> Path:
    """Lay the stored kernel down as Triton does: with absolute paths in its JSON files."""
    directory = base / STORED.name
    directory.mkdir(parents=True)
    for path in STORED.iterdir():
        data = path.read_bytes()
        data = data.replace(b"[REPLACE]", os.fsencode(directory))
        data = data.replace(b"/usr/lib/python3/dist-packages/triton", package)
        (directory / path.name).write_bytes(data)
    return directory


def test_the_kernel_has_what_a_launch_needs(tmp_path: Path) -> None:
    kernel = TritonKernel.from_directory(restored(tmp_path))
    assert kernel.kernel_hash == STORED.name
    assert kernel.symbol == "add_one"
    assert kernel.num_warps == 4
    assert kernel.shared == 0
    assert kernel.target == ("cuda", 90, 32)
    assert kernel.metadata["triton_version"] == "3.6.0"
    assert kernel.binary == (STORED / "add_one.cubin").read_bytes()
    assert kernel.binary.startswith(b"\x7fELF")


def test_where_it_was_compiled_does_not_show(tmp_path: Path) -> None:
    here = TritonKernel.from_directory(restored(tmp_path / "a"))
    there = TritonKernel.from_directory(restored(tmp_path / "b", b"/home/user/.env/triton"))
    assert here == there
    assert codecs.encode(Kind.TRITON, here) == codecs.encode(Kind.TRITON, there)
    body = bytes(codecs.encode(Kind.TRITON, here).root.data)
    assert os.fsencode(tmp_path) not in body
    assert b"/opt/venv" not in body


def test_intermediate_representations_are_dropped_unless_asked_for(tmp_path: Path) -> None:
    directory = restored(tmp_path)
    names = [name for name, _ in TritonKernel.from_directory(directory).files]
    assert names == ["__grp__add_one.json", "add_one.cubin", "add_one.json"]
    whole = TritonKernel.from_directory(directory, intermediate=True)
    dropped = {Path(name).suffix for name, _ in whole.files} - {Path(name).suffix for name in names}
    assert dropped == INTERMEDIATE - {".amdgcn"}
    assert len(codecs.encode(Kind.TRITON, whole).root.data) > 9000


def test_the_list_of_a_restored_directory_names_no_file_that_was_dropped(tmp_path: Path) -> None:
    """Triton 3.8 compiles again where one is missing."""
    for whole in (False, True):
        files = TritonKernel.from_directory(restored(tmp_path / f"{whole}"), intermediate=whole).payloads()
        assert {*json.loads(files["__grp__add_one.json"])["child_paths"], "__grp__add_one.json"} == {*files}


@pytest.mark.parametrize("text", [b"{", b"[]", b'{"child_paths": 5}', b"[" * 100_000], ids=range(4))
def test_a_list_of_another_form_is_put_down_as_it_is(text: bytes) -> None:
    kernel = TritonKernel("H", (("__grp__k.json", text), ("k.cubin", b"")))
    assert kernel.payloads()["__grp__k.json"] == text


def test_the_round_trip_keeps_every_byte(tmp_path: Path) -> None:
    kernel = TritonKernel.from_directory(restored(tmp_path), intermediate=True)
    root = codecs.encode(Kind.TRITON, kernel).root
    back = codecs.decode(Kind.TRITON, 1, memoryview(root.data), {}.__getitem__)
    assert back == kernel


def test_paths_of_this_machine_are_put_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_triton_directory", lambda: b"/this/triton")
    kernel = TritonKernel.from_directory(restored(tmp_path / "then"))
    files = kernel.payloads("/cache/" + kernel.kernel_hash)
    assert b'"/this/triton/backends' + LIBDEVICE + b'"' in files["add_one.json"]
    group = files["__grp__add_one.json"]
    assert b'"/cache/' + STORED.name.encode() + b'/add_one.cubin"' in group
    assert b"[" not in group.replace(b"child_paths", b"")
    assert b"[REPLACE]/add_one.cubin" in kernel.payloads()["__grp__add_one.json"]
    monkeypatch.setattr(module, "_triton_directory", lambda: b"")
    assert b"[TRITON]/backends" in kernel.payloads()["add_one.json"]


def test_the_installed_package_is_found_without_importing_it() -> None:
    code = (
        "import sys; from firebrick.codecs.triton import _triton_directory as d;"
        "print(d().decode()); print('triton' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    spec = importlib.util.find_spec("triton")
    expected = os.path.dirname(spec.origin) if spec and spec.origin else ""
    assert done.stdout == f"{expected}\nFalse\n"


PAYLOADS = {path.name: path.read_bytes() for path in STORED.iterdir()}


@pytest.mark.parametrize(
    ("kernel_hash", "changes", "reason"),
    [
        pytest.param("../up", {}, "not a plain file name", id="hash with a path"),
        pytest.param("", {}, "not a plain file name", id="empty hash"),
        pytest.param("H", {"../x.cubin": b""}, "not a plain file name", id="path"),
        pytest.param("H", {".hidden": b""}, "not a plain file name", id="hidden"),
        pytest.param("H", {"x\n": b""}, "not a plain file name", id="line end"),
        pytest.param("H", {"add_one.cubin": None}, "no binary", id="no binary"),
        pytest.param("H", {"more.json": b"[TRITON]"}, "placeholder already", id="placeholder"),
        pytest.param("H", {f"f{i}": b"" for i in range(MAX_FILES)}, "files", id="too many"),
    ],
)
def test_a_directory_that_is_no_kernel_is_refused(
    kernel_hash: str, changes: dict[str, Any], reason: str
) -> None:
    payloads = {name: data for name, data in {**PAYLOADS, **changes}.items() if data is not None}
    with pytest.raises(EncodeError, match=reason):
        TritonKernel.from_payloads(kernel_hash, payloads)


def test_a_directory_with_a_placeholder_already_is_refused(tmp_path: Path) -> None:
    shutil.copytree(STORED, tmp_path / "kernel")
    with pytest.raises(EncodeError, match="placeholder already"):
        TritonKernel.from_directory(tmp_path / "kernel")


def test_only_kernels_are_encoded_and_only_sound_ones() -> None:
    with pytest.raises(EncodeError):
        codecs.encode(Kind.TRITON, b"cubin")
    with pytest.raises(EncodeError, match="not sorted"):
        codecs.encode(Kind.TRITON, TritonKernel("H", (("b.cubin", b""), ("a.json", b""))))


KERNEL = TritonKernel.from_payloads(STORED.name, PAYLOADS)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        pytest.param(lambda b: b.append(1), "not a Triton kernel", id="one field more"),
        pytest.param(lambda b: b.__setitem__(0, "a/b"), "plain file name", id="path in the hash"),
        pytest.param(lambda b: b[1][0].__setitem__(0, "../x"), "plain file", id="path in a name"),
        pytest.param(lambda b: b[1][0].__setitem__(0, 5), "not a Triton", id="number for a name"),
        pytest.param(lambda b: b[1][0].__setitem__(1, "x"), "not a Triton", id="text for bytes"),
        pytest.param(lambda b: b[1].reverse(), "not sorted", id="not sorted"),
        pytest.param(lambda b: b[1].append(b[1][-1]), "there twice", id="twice"),
        pytest.param(lambda b: b[1].pop(1), "no binary", id="no binary"),
        pytest.param(lambda b: b.__setitem__(1, 5), "not a Triton kernel", id="no files"),
    ],
)
def test_a_damaged_kernel_is_refused(change: Any, reason: str) -> None:
    body = unpack(codecs.encode(Kind.TRITON, KERNEL).root.data)
    change(body)
    with pytest.raises(DecodeError, match=reason):
        codecs.decode(Kind.TRITON, 1, pack(body), {}.__getitem__)


@pytest.mark.parametrize(
    ("json", "fact"),
    [
        (b"{", "metadata"),
        (b"[]", "metadata"),
        (b'{"name": 5}', "symbol"),
        (b'{"shared": true}', "shared"),
        (b"{}", "num_warps"),
        (b'{"target": {"backend": "cuda"}}', "target"),
        (b'{"target": 90}', "target"),
        (b"[" * 100_000, "metadata"),
    ],
    ids=range(8),
)
def test_metadata_without_a_fact_is_refused(json: bytes, fact: str) -> None:
    kernel = TritonKernel("H", (("k.cubin", b""), ("k.json", json)))
    with pytest.raises(DecodeError, match="kernel H"):
        getattr(kernel, fact)


def test_a_kernel_without_metadata_is_refused_when_it_is_asked() -> None:
    with pytest.raises(DecodeError):
        _ = TritonKernel("H", (("k.cubin", b""),)).metadata


def test_binaries_are_never_intermediate() -> None:
    assert not BINARIES & INTERMEDIATE


@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="triton is not installed")
def test_triton_takes_a_restored_kernel_and_compiles_nothing(tmp_path: Path) -> None:
    def compile_in(cache: Path, **more: str) -> None:
        env = os.environ | {"TRITON_CACHE_DIR": str(cache), "TRITON_DISABLE_LINE_INFO": "1", **more}
        subprocess.run([sys.executable, FOLDER / "kernel.py"], env=env, check=True)

    compile_in(tmp_path / "first")
    compile_in(tmp_path / "second")
    kernels = [
        TritonKernel.from_directory(next((tmp_path / name).glob("*/*.cubin")).parent)
        for name in ("first", "second")
    ]
    assert kernels[0] == kernels[1]
    target = tmp_path / "third" / kernels[0].kernel_hash
    target.mkdir(parents=True)
    for name, data in kernels[0].payloads(target).items():
        (target / name).write_bytes(data)
    stamps = {path: path.stat().st_mtime_ns for path in target.iterdir()}
    compile_in(tmp_path / "third", TRITON_PTXAS_PATH="/bin/false", TRITON_PTXAS_BLACKWELL_PATH="/bin/false")
    assert {path: path.stat().st_mtime_ns for path in target.iterdir()} == stamps
    assert [path.name for path in (tmp_path / "third").iterdir()] == [kernels[0].kernel_hash]
