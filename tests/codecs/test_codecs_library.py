"""Shared libraries: what an ELF file says of itself, read without trusting a single offset."""

import shutil
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from firebrick import codecs
from firebrick.codecs import library as module
from firebrick.codecs.library import MAX_HEADERS, MAX_NEEDED, Elf, Library, read_elf
from firebrick.errors import DecodeError, EncodeError, LimitExceeded
from firebrick.storage.format import Kind
from firebrick.storage.msgpack import pack, unpack
from support.strategies import elf

MADE = Library("kernel.so", ("kernel",), "avx2", ("avx2", "fma"), elf(("libc.so.6",)))


def put(data: bytes, at: int, form: str, value: int) -> bytes:
    size = struct.calcsize(form)
    return data[:at] + struct.pack(form, value) + data[at + size :]


def test_needed_libraries_and_soname_are_read_in_order() -> None:
    data = elf(("libz.so", "liba.so"), soname="libme.so", extra=b"behind")
    assert read_elf(data) == Elf("x86_64", ("libz.so", "liba.so"), "libme.so")
    assert read_elf(memoryview(elf((), machine=183))) == Elf("aarch64", (), "")


def test_a_library_of_a_real_linker_is_read(tmp_path: Path) -> None:
    compiler = shutil.which("g++") or shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler here")
    source = tmp_path / "k.cpp"
    source.write_text('#include <string>\nextern "C" int kernel(std::string& s) { return s.size(); }')
    path = tmp_path / "k.so"
    options = ["-shared", "-fPIC", "-Wl,-soname,libk.so", "-Wl,--no-as-needed"]
    subprocess.run([compiler, *options, source, "-o", path], check=True)
    found = read_elf(path.read_bytes())
    assert found.soname == "libk.so"
    assert any(name.startswith("libc.") for name in found.needed)
    value = Library("k.so", ("kernel",), "", (), path.read_bytes())
    encoded = codecs.encode(Kind.LIBRARY, value)
    assert codecs.decode(Kind.LIBRARY, 1, encoded.root.data, {}.__getitem__) == value


def test_pythons_own_extension_modules_are_read() -> None:
    import _ctypes

    assert read_elf(Path(_ctypes.__file__).read_bytes()).needed


def test_every_truncation_is_refused_or_reads_the_same() -> None:
    data = elf(("liba.so", "libb.so"), soname="me")
    for length in range(len(data)):
        with pytest.raises(DecodeError):
            read_elf(data[:length])


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), min_size=1, max_size=4))
def test_damaged_files_are_refused_or_read(changes: list[tuple[int, int]]) -> None:
    data = bytearray(elf(("liba.so", "libb.so"), soname="me"))
    for at, value in changes:
        data[at % len(data)] = value
    try:
        read_elf(data)
    except (DecodeError, LimitExceeded):
        pass


GOOD = elf()
DYNAMIC = 64 + 2 * 56 + len(b"\0libc.so.6\0\0")


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        pytest.param(b"MZ" + GOOD[2:], "not a 64-bit little-endian ELF", id="another format"),
        pytest.param(GOOD[:4] + b"\x01" + GOOD[5:], "not a 64-bit", id="32 bit"),
        pytest.param(GOOD[:5] + b"\x02" + GOOD[6:], "little-endian", id="big-endian"),
        pytest.param(put(GOOD, 16, "<H", 2), "type 2", id="executable"),
        pytest.param(put(GOOD, 18, "<H", 8), "machine 8", id="unknown machine"),
        pytest.param(put(GOOD, 32, "<Q", 1 << 60), "program headers end", id="headers outside"),
        pytest.param(put(GOOD, 54, "<H", 55), "header sizes", id="header size"),
        pytest.param(put(GOOD, 60, "<H", 9), "no dynamic|section headers", id="section headers"),
        pytest.param(put(GOOD, 64 + 32, "<Q", 1 << 40), "a segment of type", id="segment outside"),
        pytest.param(put(GOOD, 120, "<I", 1), "0 dynamic segments", id="no dynamic segment"),
        pytest.param(put(GOOD, 64, "<I", 2), "2 dynamic segments", id="two dynamic segments"),
        pytest.param(put(GOOD, 64, "<I", 4), "in no segment", id="strings not loaded"),
        pytest.param(put(GOOD, 120 + 32, "<Q", 17), "segment of 17 bytes", id="half an entry"),
        pytest.param(put(GOOD, 120 + 32, "<Q", 48), "without an end", id="no last entry"),
        pytest.param(put(GOOD, DYNAMIC + 8, "<Q", 99), "outside the string", id="name outside"),
        pytest.param(put(GOOD, DYNAMIC + 16, "<q", 4), "0 dynamic entries", id="no string table"),
        pytest.param(put(GOOD, DYNAMIC, "<q", 5), "2 dynamic entries", id="two string tables"),
        pytest.param(GOOD.replace(b"libc", b"\xff\xfebc"), "a name in the string", id="no text"),
    ],
)
def test_a_file_that_contradicts_itself_is_refused(data: bytes, reason: str) -> None:
    assert read_elf(GOOD).needed == ("libc.so.6",)
    with pytest.raises(DecodeError, match=reason):
        if "section headers" in reason:
            data = put(put(data, 40, "<Q", 1 << 30), 58, "<H", 64)
        read_elf(data)


def test_more_headers_or_libraries_than_a_linker_writes_are_a_limit() -> None:
    with pytest.raises(LimitExceeded) as caught:
        read_elf(put(GOOD, 56, "<H", MAX_HEADERS + 1))
    assert caught.value.what == "number of program headers"
    with pytest.raises(LimitExceeded) as caught:
        read_elf(elf(("a",) * (MAX_NEEDED + 1)))
    assert (caught.value.actual, caught.value.limit) == (MAX_NEEDED + 1, MAX_NEEDED)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"name": "/etc/kernel.so"}, "without a directory"),
        ({"name": ".."}, "without a directory"),
        ({"name": ""}, "without a directory"),
        ({"flags": ("fma", "avx2")}, "sorted"),
        ({"flags": ("avx2", "avx2")}, "sorted"),
        ({"data": b"no library"}, "ELF"),
    ],
    ids=str,
)
def test_a_library_that_is_not_one_is_not_encoded(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(EncodeError) as caught:
        codecs.encode(Kind.LIBRARY, MADE._replace(**changes))
    assert reason in caught.value.reason


def test_only_libraries_are_encoded_and_not_too_large_ones(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(EncodeError):
        codecs.encode(Kind.LIBRARY, b"bytes")
    limit = module._LIMITS.size + len(MADE.data) - 1
    monkeypatch.setattr(module, "MAX_BLOB_BYTES", limit)
    with pytest.raises(LimitExceeded) as caught:
        codecs.encode(Kind.LIBRARY, MADE)
    assert caught.value.actual == len(MADE.data)


def body(at: int, value: Any) -> bytes:
    data = bytes(codecs.encode(Kind.LIBRARY, MADE).root.data)
    (length,) = struct.unpack_from("<I", data)
    head = unpack(data[4 : 4 + length])
    head[at : at + 1] = [value]
    packed = pack(head)
    return struct.pack("<I", len(packed)) + packed + data[4 + length :]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        pytest.param(body(0, "a/b.so"), "canonical form", id="a path for a name"),
        pytest.param(body(0, 5), "canonical form", id="a number for a name"),
        pytest.param(body(3, ["fma", "avx2"]), "canonical form", id="flags not sorted"),
        pytest.param(body(3, 5), "not a library", id="a number for flags"),
        pytest.param(body(4, "aarch64"), "its head says otherwise", id="another machine"),
        pytest.param(body(5, []), "its head says otherwise", id="another library"),
        pytest.param(body(6, "more"), "not a library", id="one field more"),
        pytest.param(b"\1\0", "not a library", id="no head"),
        pytest.param(b"\xff\0\0\0\x90", "the head end", id="head outside"),
    ],
)
def test_a_damaged_library_is_refused(data: bytes, reason: str) -> None:
    with pytest.raises(DecodeError, match=reason):
        codecs.decode(Kind.LIBRARY, 1, data, {}.__getitem__)


def test_a_library_is_parsed_and_never_loaded() -> None:
    code = (
        "import sys, firebrick.codecs as codecs\n"
        "from support.strategies import elf\n"
        "from firebrick.codecs.library import Library\n"
        "loaded = []\n"
        "sys.addaudithook(lambda event, args: loaded.append(args) if 'dlopen' in event else None)\n"
        "value = Library('k.so', (), '', (), elf())\n"
        "root = codecs.encode(codecs.Kind.LIBRARY, value).root\n"
        "codecs.decode(root.kind, 1, root.data, {}.__getitem__)\n"
        "print(loaded)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
