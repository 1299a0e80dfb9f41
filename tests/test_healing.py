"""A store whose structure is damaged is begun anew by the next recording, which says so once."""

import re
from pathlib import Path

import pytest

from support.places import PROGRAMS
from support.programs import Finished, start

pytestmark = pytest.mark.compiles

PAGE = 4096


def damage(store: Path, offset: int, new: bytes) -> None:
    """Write the same into all pages of the trees but the meta pages."""
    data = bytearray((store / "data.mdb").read_bytes())
    for at in range(2 * PAGE, len(data), PAGE):
        if int.from_bytes(data[at : at + 8], "little") == at // PAGE and data[at + 10] in (1, 2):
            data[at + offset : at + offset + len(new)] = new
    (store / "data.mdb").write_bytes(data)


def test_a_damaged_structure_is_healed_by_the_next_recording_and_told_once(tmp_path: Path) -> None:
    store = tmp_path / "store"

    def run() -> Finished:
        variables = {"FIREBRICK_CACHE_DIR": str(store), "FIREBRICK_SELF_TEST": "0"}
        done = start(
            ["-m", "firebrick.cli", "run", PROGRAMS / "modelled.py"], home=tmp_path / "home", env=variables
        )
        assert done.returncode == 0, done.stderr
        return done

    first = run()
    for offset, new in (12, b"\xff\xff"), (16, b"\xf0\xff" * 4):
        damage(store, offset, new)
        second = run()
        assert second.stdout == first.stdout
        assert len(re.findall("FirebrickWarning", second.stderr)) == 1, second.stderr
        assert "beginning a new file, and keeping the damaged one as data.mdb.damaged" in second.stderr
        assert "0 hits" in second.stderr and "3 stored" in second.stderr
        third = run()
        assert third.stdout == first.stdout
        assert "FirebrickWarning" not in third.stderr
        assert "3 hits" in third.stderr
