"""A part of the matrix of faults and starts: each ends well, with the right numbers and one warning."""

import json
import subprocess
import sys

import pytest

from support.places import PROGRAMS

pytestmark = pytest.mark.compiles


def test_starts_under_faults_end_well() -> None:
    command = [sys.executable, PROGRAMS / "faulted.py", "--faults", "pointers of leaves", "a stopped opener"]
    done = subprocess.run([*command, "--acts", "lean", "cli"], capture_output=True, text=True, check=False)
    found = json.loads(done.stdout)
    assert found["failures"] == []
    assert set(found["came"]["lean"]) == {"1 warnings"}


def test_the_matrix_has_at_least_forty_faults() -> None:
    sys.path.insert(0, str(PROGRAMS))
    try:
        from faulted import ACTS, FAULTS
    finally:
        sys.path.remove(str(PROGRAMS))
    assert len(FAULTS) >= 40
    assert {*ACTS} == {"record", "lean", "full", "cli"}
