"""Audits find what is served stale: edits whose mends are taken out, in both lanes."""

import pytest

from support.places import PROGRAMS
from support.programs import run_cases

pytestmark = pytest.mark.compiles

PROGRAM = PROGRAMS / "audited.py"
EDITS = ("overridden", "default", "member", "decorated")


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    root = tmp_path_factory.mktemp("edited")
    first = run_cases(PROGRAM, EDITS, home=root / "home", store=root / "store")
    return root / "store", first


def second(store, home, lane, **env):
    env |= {"FIREBRICK_LEAN": str(int(lane == "lean")), "FIREBRICK_RECORD": "0"}
    return run_cases(PROGRAM, EDITS, home=home, store=store[0], env=env)


@pytest.fixture(scope="module", params=["lean", "full"])
def starts(request, store, tmp_path_factory):
    """What the second start gave: without mends, without them under an audit, and as it is."""
    lane, edited = request.param, {"V": "2"}
    unmended = edited | {"UNMENDED": "1"}
    homes = [tmp_path_factory.mktemp(f"{lane}-{name}") for name in ("stale", "audited", "mended")]
    return (
        second(store, homes[0], lane, **unmended),
        second(store, homes[1], lane, **unmended, FIREBRICK_AUDIT="1"),
        second(store, homes[2], lane, **edited, FIREBRICK_AUDIT="1"),
    )


@pytest.mark.parametrize("name", EDITS)
class TestAnEditThatNobodySees:
    def test_is_served_stale_without_an_audit(self, name, store, starts):
        case = starts[0].case(name)
        assert case["stats"]["hits"] == 1
        assert case["value"] == store[1].case(name)["value"]

    def test_is_found_by_an_audit_before_it_is_used(self, name, starts):
        case = starts[1].report["cases"][name]
        assert "value" not in case
        assert "firebrick.errors.AuditError: audited.py:" in case["error"]
        assert "\n--- stored\n+++ traced afresh\n" in case["error"]
        assert sum(case["stats"]["differed"].values()) == 1

    def test_is_no_hit_where_the_mends_are_in(self, name, store, starts):
        case = starts[2].case(name)
        assert not case["stats"].get("hits")
        assert case["value"] != store[1].case(name)["value"]
