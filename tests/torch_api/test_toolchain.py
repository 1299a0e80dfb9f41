"""What torch finds out about a C++ compiler is kept for new homes, and nothing else is."""

import pytest

from support import _toolchain

HEADERS = "tmp-files/torchinductor_me/precompiled_headers"
KEPT = {
    f"{HEADERS}/a.h": "#include <x>",
    f"{HEADERS}/a.h.gch": "headers",
    "cache-TORCHINDUCTOR/pr/probe.cpp": "void __avx_chk_kernel() {}",
    "cache-TORCHINDUCTOR/pr/probe.so": "library",
}
OTHERS = {
    "cache-TORCHINDUCTOR/pr/failed.cpp": "void __amx_chk_kernel() {}",  # has no library
    "cache-TORCHINDUCTOR/ke/kernel.cpp": "void kernel() {}",
    "cache-TORCHINDUCTOR/ke/kernel.so": "library",
    "cache-TORCHINDUCTOR/fxgraph/entry": "entry",
}


def write(folder, files):
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


def read(folder):
    return {str(p.relative_to(folder)): p.read_text() for p in folder.rglob("*") if p.is_file()}


@pytest.fixture
def toolchain(tmp_path):
    write(tmp_path / "home", KEPT | OTHERS)
    _toolchain.keep(tmp_path / "new" / "toolchain", tmp_path / "home")
    return tmp_path / "new" / "toolchain"


def test_probes_and_headers_are_kept(toolchain):
    assert read(toolchain) == KEPT
    assert [path.name for path in toolchain.parent.iterdir()] == ["toolchain"]


def test_the_first_one_counts(toolchain, tmp_path):
    write(tmp_path / "other", dict.fromkeys(KEPT, "another"))
    _toolchain.keep(toolchain, tmp_path / "other")
    assert read(toolchain) == KEPT


def test_a_home_without_headers_makes_none(tmp_path):
    write(tmp_path / "home", OTHERS)
    _toolchain.keep(tmp_path / "toolchain", tmp_path / "home")
    assert not (tmp_path / "toolchain").exists()


@pytest.mark.parametrize("links", [True, False])
def test_a_new_home_gets_them(toolchain, tmp_path, links, monkeypatch):
    def refused(*_):
        raise OSError("another file system")

    if not links:
        monkeypatch.setattr(_toolchain.os, "link", refused)
    _toolchain.take(toolchain, tmp_path / "later")
    assert read(tmp_path / "later") == KEPT


def test_no_toolchain_is_no_fault(tmp_path):
    _toolchain.take(tmp_path / "absent", tmp_path / "later")
    assert not (tmp_path / "later").exists()
