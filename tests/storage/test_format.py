"""The documents of the format say what the constants say."""

import re

import pytest

from firebrick.storage import format as fmt
from firebrick.storage.format import HEADER, Kind
from support.places import ROOT

DOCS = ROOT / "docs"
FORMAT = (DOCS / "format.md").read_text()


def table(text: str, first: str) -> list[list[str]]:
    """Read the table whose first heading is `first`, without backquotes."""
    found = re.search(rf"^\| {first} \|.*\n\|[-|]+\|\n((?:\|.*\n)+)", text, re.MULTILINE)
    assert found
    rows = [line[1:-1].split("|") for line in found[1].splitlines()]
    return [[cell.strip().replace("`", "") for cell in row] for row in rows]


def test_the_table_of_kinds() -> None:
    rows = table(FORMAT, "kind")
    assert [(name, int(number)) for name, number, _ in rows] == [(k.name, k.value) for k in Kind]


def test_the_table_of_databases() -> None:
    rows = table(FORMAT, "database")
    assert {row[0]: row[1] == "yes" for row in rows} == fmt.DATABASES


def test_the_table_of_files() -> None:
    assert [row[0] for row in table(FORMAT, "file")] == [fmt.DATA_FILE, fmt.LOCK_FILE]


def test_the_table_of_the_header() -> None:
    rows = table(FORMAT, "offset")
    sizes = [int(row[1]) for row in rows]
    assert [int(row[0]) for row in rows] == [sum(sizes[:i]) for i in range(len(sizes))]
    assert sum(sizes) == HEADER.size
    assert HEADER.format == "<4sBBHQQ"
    assert fmt.MAGIC.decode() in rows[0][3]
    assert f"({fmt.FLAG_ZSTD})" in rows[3][3]
    assert fmt.KNOWN_FLAGS == fmt.FLAG_ZSTD


def test_the_table_of_limits() -> None:
    assert {row[0]: int(row[1]) for row in table(FORMAT, "limit")} == {
        "bytes of a blob": fmt.MAX_BLOB_BYTES,
        "parts of a bundle": fmt.MAX_PARTS,
        "bytes of components": fmt.MAX_COMPONENT_BYTES,
        "bytes of a record": fmt.MAX_RECORD_BYTES,
        "readers at a time": fmt.MAX_READERS,
    }


@pytest.mark.parametrize(
    "phrase",
    [
        f"format version {fmt.FORMAT_VERSION}.",
        f"`firebrick {fmt.KEY_VERSION} `",
        f"mode {fmt.DIRECTORY_MODE:04o}",
        f"LMDB {fmt.LMDB_MAJOR}.9 environment",
        f"`{fmt.META_FORMAT.decode()}`",
        f"`{fmt.CLOCK_USE.decode()}` + content key, or `{fmt.CLOCK_NOTE.decode()}` + content key",
        f"`{fmt.NAME_PARTS.decode()}` + content key of the manifest",
        f"The write lock: {fmt.LOCK_TIMEOUT_S:.0f} s, at the opening {fmt.OPEN_TIMEOUT_S:.0f} s",
        f"the writer): {fmt.LMDB_TIMEOUT_S:.0f} s",
        f"map from growing: {fmt.GROW_TIMEOUT_S:.0f} s",
        f"up to {fmt.MAX_REMAPS} times",
        f"header of {HEADER.size} bytes",
        f"checksum of {fmt.CHECK_BYTES} bytes",
        f"bare keys of {fmt.KEY_BYTES} bytes",
    ],
)
def test_the_format_names_its_constants(phrase: str) -> None:
    assert phrase in " ".join(FORMAT.split())


def test_every_kind_has_the_level_of_the_measurement() -> None:
    rows = table((DOCS / "compression.md").read_text(), "kind")
    levels = {Kind[row[0]]: None if row[-1] == "none" else int(row[-1]) for row in rows}
    assert levels == fmt.COMPRESSION
    assert f"under {fmt.MIN_COMPRESS_BYTES} bytes" in (DOCS / "compression.md").read_text()
    assert fmt.MIN_SAVING == 0.1
