"""Damaged stores, races and damaged bytes, in small numbers; the programs do the same by ten thousands."""

import json
import subprocess
import sys
from typing import Any

import pytest

from support.places import PROGRAMS


def ran(program: str, *arguments: object) -> dict[str, Any]:
    """Run a program and return what it found."""
    command = [sys.executable, str(PROGRAMS / program), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_damage_anywhere_is_seen_and_never_deceives() -> None:
    found = ran("damaging.py", "--count", 200)
    assert found["failures"] == []
    assert len(found["by place"]) >= 10
    assert found["came"]["seen, healed"] > 10
    assert found["came"]["seen as structure, healed"] > 10


@pytest.mark.parametrize(
    ("what", "processes", "rounds"), [("publish", 12, 60), ("collect", 4, 20)], ids=["publish", "collect"]
)
def test_processes_that_race_tear_nothing_and_wait_within_bounds(
    what: str, processes: int, rounds: int
) -> None:
    found = ran("racing.py", what, "--processes", processes, "--rounds", rounds)
    assert found["failures"] == []
    assert found["rounds"] == rounds


def test_damaged_bytes_are_refused_with_a_typed_error() -> None:
    assert not ran("decoding.py", "--count", 20_000)["failed"]
