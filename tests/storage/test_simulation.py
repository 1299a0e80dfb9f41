"""Schedules of simulated processes: the store's own code on a simulated file, clock and lock.

``tests/programs/simulating.py`` runs them by the hundred thousand.
"""

import json
import subprocess
import sys

import pytest

from support.places import PROGRAMS

PROGRAM = PROGRAMS / "simulating.py"
# A safeguard, and a seed at which taking it out is found within a few schedules.
SAFEGUARDS = {
    "flush": 1,
    "following of the map": 1,
    "journal": 450,
    "journal at the end": 380,
    "names in registry values": 100,
}


def simulate(*arguments: object) -> dict[str, object]:
    """Run the program and return what it found."""
    command = [sys.executable, str(PROGRAM), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout, done.stderr
    found: dict[str, object] = json.loads(done.stdout)
    return found


def test_a_part_that_is_collected_and_put_back_meanwhile_is_no_failure() -> None:
    assert simulate("--count", 1, "--seed", 1234200)["failures"] == []


def test_no_schedule_loses_or_tears_anything() -> None:
    found = simulate("--count", 2000)
    assert found["failures"] == []
    assert found["schedules"] == 2000


def test_a_seed_repeats_a_run() -> None:
    runs = [simulate("--count", 20, "--seed", 7) for _ in range(2)]
    assert runs[0]["steps"] == runs[1]["steps"]


@pytest.mark.parametrize("part", SAFEGUARDS)
def test_a_store_without_one_of_its_safeguards_is_found_out(part: str) -> None:
    assert simulate("--count", 4000, "--seed", SAFEGUARDS[part], "--without", part)["failures"]
