"""Programs of the gallery start from the store as they are; ``programs/gallery/run.py`` runs all of them."""

import sys

import pytest

from support.places import PROGRAMS

sys.path.insert(0, str(PROGRAMS))

from gallery.run import outcome, programs, table, title

pytestmark = pytest.mark.compiles

SAMPLE = "classes_of_a_script", "custom_operator", "reinforcement_learning"


@pytest.mark.parametrize("name", SAMPLE)
def test_a_second_start_compiles_nothing_and_gives_the_same_bits(name, tmp_path):
    found = outcome(PROGRAMS / "gallery" / f"{name}.py", tmp_path, aten=True)
    stats = found.second["stats"]
    assert not found.error
    assert found.same
    assert found.work == {}
    assert stats["lean"] == stats["hits"] == found.first["stats"]["stored"]
    assert found.reasons == {}
    assert found.second["compiler"] == []


def test_all_programs_say_what_they_do_and_end_in_a_result():
    assert len(programs()) >= 25
    for path in programs():
        assert title(path).endswith("."), path
        assert "result =" in path.read_text(), path


def test_the_table_counts_programs_that_failed(tmp_path):
    program = tmp_path / "broken.py"
    program.write_text('"""Fail."""\nraise ValueError("on purpose")\n')
    found = outcome(program, tmp_path)
    assert "on purpose" in found.error
    assert "0 of 1 second starts" in table([found])
    assert "| `broken` | Fail. | 0 | 0 | 0 | 0 | failed | NO |" in table([found])
