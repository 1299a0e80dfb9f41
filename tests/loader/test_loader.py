"""`firebrick.loader.load`: one backend function from the key of its artifact, without torch.compile."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from firebrick import Context, Store
from firebrick.errors import BlobMissing, DecodeError, UsageError
from firebrick.loader import load
from firebrick.storage.format import Kind
from support.places import PROGRAMS
from support.programs import run_cases

pytestmark = pytest.mark.compiles

PROGRAM = PROGRAMS / "one_backend.py"
KINDS = Kind.BACKEND, Kind.LEAN_BACKEND


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """One process records; one process for each artifact rebuilds it, with no compiler on its path."""
    root = tmp_path_factory.mktemp("load")
    first = run_cases(PROGRAM, ["compiled"], home=root / "1", store=root / "store")

    def rebuild(kind):
        with Store.open(root / "store", readonly=True) as store:
            [key] = [info.key for info in store.list(kind)]
        env = {"STORE": str(root / "store"), "KEY": key.hex()}
        return key, run_cases(PROGRAM, ["rebuilt"], home=root / kind.name, env=env, compilers=False)

    with ThreadPoolExecutor() as pool:
        return root / "store", first.case("compiled"), dict(zip(KINDS, pool.map(rebuild, KINDS), strict=True))


@pytest.mark.parametrize("kind", KINDS)
def test_a_function_is_rebuilt_from_its_key_alone(runs, kind):
    _, first, rebuilt = runs
    second = rebuilt[kind][1].case("rebuilt")
    assert second["value"] == first["value"]
    assert not {"traces", "lowerings"} & set(second["work"])
    assert "processes" not in second["work"]


def test_the_lean_form_needs_no_compiler(runs):
    assert runs[2][Kind.LEAN_BACKEND][1].case("rebuilt")["modules"] == []


def test_a_context_knows_the_key(runs):
    folder, _, rebuilt = runs
    with Store.open(folder) as store:
        context = Context.open(store)
        [name] = context.backend_artifacts
        assert context.history(name)[-1].content == rebuilt[Kind.BACKEND][0]
        context.close()


def test_what_is_no_artifact_is_refused(runs):
    with Store.open(runs[0], readonly=True) as store:
        with pytest.raises(UsageError, match="content key"):
            load("waves", store)
        with pytest.raises(BlobMissing):
            load(bytes(32), store)
        [code, *_] = store.list(Kind.CODE)
        with pytest.raises(DecodeError, match="expected a backend artifact, got CODE"):
            load(code.key, store)
