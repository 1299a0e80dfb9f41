"""Folders of the source tree that tests look into."""

from pathlib import Path

ROOT = Path(__file__).parents[2]
TESTS = ROOT / "tests"
PROGRAMS = TESTS / "programs"
GOLDEN = TESTS / "golden"
