"""Names in a store, a pack or an export are texts: none is a path or a command of a terminal."""

import io
import re
import struct
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest

from firebrick import codecs
from firebrick.cli.entry import run
from firebrick.codecs.triton import TritonKernel
from firebrick.errors import DamagedError, DecodeError, FirebrickError
from firebrick.storage.format import MANIFEST_VERSION, Kind
from firebrick.storage.keys import recipe_key
from firebrick.storage.manifest import Manifest, NoLeanForm, pack_manifest
from firebrick.storage.msgpack import pack
from firebrick.storage.pack import Pack
from firebrick.storage.seal import seal
from firebrick.storage.store import Blob, Store

LONG = "x" * 5000
NAMES = ["../up", "/etc/passwd", "..", ".", "", "a/b", "nul\0nul", "line\nline", "\x1b[2J\x07", LONG, "\xff"]
PATHS = ["../up", "/tmp/abs", "..", ".", "", "a/b", "nul\0nul", "line\nline", LONG]


def everything(root: Path) -> set[Path]:
    return {path for path in root.rglob("*") if "lock.mdb" not in path.name}


def hostile(path: Path) -> Path:
    """Make a store whose names are of the attacker's choice."""
    with Store.open(path) as store:
        for number, name in enumerate(NAMES):
            keys = ("module", "name", "file", "qualname")
            components = {f"function.{key}": name for key in keys} | {"number": str(number)}
            recipe, part = recipe_key(components), Blob(Kind.TEXT, name.encode())
            manifest = Manifest(recipe, bytes(32), [], "", None, None, NoLeanForm(name))
            root = Blob(Kind.BUNDLE, pack_manifest(manifest), MANIFEST_VERSION)
            store.publish(recipe, components, root, [part.key], [part])
            store.note(root.key, {"when": 1.0, "name": name, "place": name})
            for context in name or "empty", ".ambient":
                store.registry_update(context, {(name, str(number)): b"value"})
    return path


def spoken(*arguments: object, store: Path) -> str:
    """Run the command line in this process, and return what it said."""
    said = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(said), redirect_stderr(said):
        patch.setattr(sys, "argv", ["firebrick", *map(str, arguments)])
        patch.setenv("FIREBRICK_CACHE_DIR", str(store))
        with pytest.raises(SystemExit):
            run()
    return said.getvalue()


def test_a_pack_and_an_export_of_such_names_write_to_one_place_alone(tmp_path: Path) -> None:
    store = hostile(tmp_path / "store")
    before = everything(tmp_path)
    with Store.open(store) as source:
        seal(source, tmp_path / "m.pack", contexts=source.contexts())
    spoken("export", tmp_path / "m.export", store=store)
    spoken("import", tmp_path / "m.export", store=tmp_path / "new")
    with Store.open(tmp_path / "m.pack", readonly=True) as sealed, Store.open(tmp_path / "new") as new:
        assert len(list(sealed.recipes())) == len(list(new.recipes())) == len(NAMES)
        assert sealed.check().clean and new.check().clean
    made = {path.relative_to(tmp_path) for path in everything(tmp_path) - before}
    assert made == {Path(name) for name in ("m.pack", "m.export", "new", "new/data.mdb")}


VERBS = ["ls --all", "du", "stats", "check", "explain", "verify", "rm --dry-run x", "pin"]


@pytest.mark.parametrize("verb", VERBS)
def test_no_name_is_a_command_of_a_terminal(tmp_path: Path, verb: str) -> None:
    said = spoken(*verb.split(), store=hostile(tmp_path / "store"))
    assert said
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", said), repr(said)


def test_no_error_is_a_command_of_a_terminal(tmp_path: Path) -> None:
    said = spoken("show", "\x1b[2J", store=hostile(tmp_path / "store"))
    assert "\x1b" not in said and r"\x1b[2J" in said


@pytest.mark.parametrize("name", PATHS)
def test_a_kernel_that_would_leave_its_directory_is_refused(name: str) -> None:
    for files in ("h" * 52, [["k.cubin", b""], [name, b""]]), (name, [["k.cubin", b""]]):
        with pytest.raises(DecodeError):
            codecs.decode(Kind.TRITON, 1, pack(list(files)), refuse)


def test_a_binary_beside_the_one_that_its_kernel_names_is_refused() -> None:
    files = [["add_one.cubin", b"ours"], ["add_one.json", b"{}"]]
    kernel = codecs.decode(Kind.TRITON, 1, pack(["h" * 52, files]), refuse)
    assert isinstance(kernel, TritonKernel) and kernel.binary == b"ours"
    for other in "a.cubin", "z.cubin", "add_one.hsaco":
        with pytest.raises(DecodeError, match="2 binaries"):
            codecs.decode(Kind.TRITON, 1, pack(["h" * 52, sorted([*files, [other, b"evil"]])]), refuse)


def test_a_cubin_under_the_key_of_another_is_damage(tmp_path: Path) -> None:
    ours, evil = (pack(["h" * 52, [["k.cubin", data]]]) for data in (b"ours", b"evil"))
    with Store.open(tmp_path / "store") as store:
        keys = [store.put(Kind.TRITON, ours), store.put(Kind.TRITON, evil)]
        values = [bytes(store._open.begin().get("blobs", key) or b"") for key in keys]
        store._writable.write(lambda txn: txn.put("blobs", keys[0], values[1]))
        with pytest.raises(DamagedError, match="digest is"):
            store.get(keys[0])


@pytest.mark.parametrize("name", PATHS)
def test_a_library_that_would_leave_its_directory_is_refused(name: str) -> None:
    head = pack([name, [], "", [], "x86_64", []])
    with pytest.raises(FirebrickError):
        codecs.decode(Kind.LIBRARY, 1, struct.pack("<I", len(head)) + head + b"\x7fELF", refuse)


def refuse(key: bytes) -> object:
    raise AssertionError(f"asked for {key!r}")


def test_a_path_with_a_nul_or_of_no_end_is_an_error_of_its_own(tmp_path: Path) -> None:
    for path in f"{tmp_path}/a\0b", f"{tmp_path}/{LONG}":
        for act in Store.open, Pack.open:
            with pytest.raises(FirebrickError):
                act(path)
