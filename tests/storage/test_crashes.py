"""Writers are killed at their steps, and what a crash of the system can leave is rebuilt and opened.

``tests/programs/crashing.py`` does the same by ten thousands.
"""

import json
import random
import subprocess
import sys
from pathlib import Path

import pytest

from support import io_trace
from support.crash_states import Disk
from support.io_trace import Event, Op
from support.places import PROGRAMS

pytestmark = pytest.mark.compiles

PROGRAM = PROGRAMS / "crashing.py"


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return io_trace.compiled(tmp_path_factory.mktemp("shim"))


def crashing(library: Path, *arguments: object) -> dict[str, object]:
    """Run the program and return what it found."""
    done = io_trace.run(library, PROGRAM, *arguments)
    assert done.stdout, done.stderr
    found: dict[str, object] = json.loads(done.stdout)
    return found


def test_a_writer_killed_at_any_step_leaves_all_or_nothing(library: Path) -> None:
    found = crashing(library, "kills", "--count", 2000, "--seconds", 12)
    assert found["failures"] == []
    assert found["kills"] > 100


def test_every_state_that_a_crash_of_the_system_can_leave_is_sound(library: Path) -> None:
    found = crashing(library, "replay", "--count", 300)
    assert found["failures"] == []
    assert found["states"] >= 300


@pytest.mark.parametrize("part", ["flush of the folder", "flush of a commit", "new file in one piece"])
def test_a_store_without_one_of_its_safeguards_is_found_out(library: Path, part: str) -> None:
    assert crashing(library, "replay", "--count", 300, "--without", part)["failures"]


def states(*events: tuple[Op, str, int, bytes]) -> list[bytes | None]:
    """Return the contents of the file `f` in many states after some events."""
    disk = Disk()
    for event in events:
        disk.play(Event(*event))
    return [files.get("f") for files in disk.states(random.Random(1), 100)]


def test_what_is_not_flushed_may_be_lost_sector_by_sector() -> None:
    made, written = (Op.OPEN, "f", 0, b""), (Op.WRITE, "f", 0, b"a" * 512 + b"b" * 512)
    folder, file = (Op.SYNC, ".", 0, b""), (Op.SYNC, "f", 0, b"")
    lost, first, second = b"", b"a" * 512, bytes(512) + b"b" * 512
    whole = written[3]
    assert set(states(made, written, folder)) == {lost, first, second, whole}
    assert set(states(made, written, file)) == {None, whole}
    assert set(states(made, written, file, folder)) == {whole}


def test_a_removal_and_a_new_name_may_be_lost_each_by_itself() -> None:
    made = (Op.OPEN, "g", 0, b""), (Op.WRITE, "g", 0, b"x"), (Op.SYNC, "g", 0, b""), (Op.SYNC, ".", 0, b"")
    assert set(states(*made, (Op.LINK, "g", 0, b"f"), (Op.UNLINK, "g", 0, b""))) == {None, b"x"}


def test_a_recording_may_end_in_any_way() -> None:
    program = PROGRAM.with_name("recording_killed.py")
    command = [sys.executable, str(program), "--count", "3"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout, done.stderr
    assert json.loads(done.stdout)["failures"] == []
