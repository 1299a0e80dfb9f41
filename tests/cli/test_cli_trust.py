"""`firebrick keys`, `sign`, `verify` and `seal`: from a store to a signed pack, and what others signed."""

import json
from pathlib import Path

import jsonschema
import pytest

from firebrick import errors
from firebrick.cli import entry
from firebrick.storage.store import Store
from support.signed import COMPONENTS, RECIPE, publish

SCHEMAS = Path(entry.__file__).parent / "schemas"


class Line:
    """Run verbs in this process, with a store and a folder of keys."""

    def __init__(self, root: Path, capsys: pytest.CaptureFixture[str], monkeypatch) -> None:
        monkeypatch.setenv("FIREBRICK_CACHE_DIR", str(root / "store"))
        monkeypatch.setenv("FIREBRICK_TRUST_DIR", str(root / "keys"))
        self._capsys = capsys

    def run(self, *arguments: object, code: int = 0) -> str:
        with pytest.raises(SystemExit) as ended:
            entry.app([*map(str, arguments)], prog_name="firebrick")
        assert ended.value.code == code
        return self._capsys.readouterr().out

    def json(self, *arguments: object, code: int = 0) -> dict:
        value = json.loads(self.run(*arguments, "--json", code=code))
        jsonschema.validate(value, json.loads((SCHEMAS / f"{arguments[0]}.json").read_text()))
        return value


@pytest.fixture
def line(tmp_path: Path, capsys, monkeypatch) -> Line:
    with Store.open(tmp_path / "store") as store:
        publish(store, b"ours")
        store.registry_update(".ambient", {("s", "n"): b"x"})
        store.registry_update(".runs", {("s", "n"): b"private"})
        store.registry_update("default", {("s", "n"): b"the user's own"})
    return Line(tmp_path, capsys, monkeypatch)


def test_keys_are_made_trusted_and_revoked(line: Line) -> None:
    line.run("keys", "new", "ours")
    (key,) = line.json("keys")["keys"]
    assert (key["name"], key["state"], key["secret"]) == ("ours", "trusted", True)
    line.run("keys", "revoke", "ours")
    assert "revoked  ours" in line.run("keys")
    with pytest.raises(errors.UsageError, match="revoked"):
        line.run("keys", "trust", key["key"])
    for wrong in ("list", "x"), ("forget", "ours"), ("new",), ("new", "../evil"), ("trust", "nobody"):
        with pytest.raises(errors.UsageError):
            line.run("keys", *wrong)


def test_a_store_is_signed_and_verified(line: Line, tmp_path: Path) -> None:
    assert not line.json("verify", code=1)["believed"]
    line.run("keys", "new", "ours")
    line.run("sign", "ours", "--days", 1)
    found = line.json("verify")
    assert found["believed"] and {each["key"] for each in found["entries"]} == {"ours"}
    with Store.open(tmp_path / "store") as store:
        publish(store, b"evil")
    assert "not what was signed" in line.run("verify", code=1)
    with pytest.raises(errors.UsageError, match="keys new other"):
        line.run("sign", "other")


def test_a_pack_is_sealed_signed_and_verified(line: Line, tmp_path: Path) -> None:
    pack = tmp_path / "m.pack"
    line.run("seal", pack, "--annotation", "model=m")
    assert "it is not signed" in line.run("verify", pack, code=1)
    line.run("keys", "new", "ours")
    line.run("sign", "ours", pack)
    line.run("keys", "new", "next")
    line.run("sign", "next", pack)
    assert line.json("verify", pack)["entries"][0]["key"] in ("ours", "next")
    line.run("keys", "revoke", "next")
    assert line.json("verify", pack)["entries"][0]["key"] == "ours"
    assert json.loads(line.run("seal", pack, "--oci"))["annotations"] == {"model": "m"}
    assert "nothing is wrong" in line.run("check", "--store", pack)
    with Store.open(pack, readonly=True) as sealed:
        assert sealed.contexts() == [".ambient"]
        assert sealed.components(RECIPE) == COMPONENTS


def test_a_damaged_pack_is_told(line: Line, tmp_path: Path) -> None:
    pack = tmp_path / "m.pack"
    line.run("seal", pack)
    pack.chmod(0o600)
    pack.write_bytes(pack.read_bytes().replace(b"ours", b"evil", 1))
    assert "structure" in line.run("check", "--store", pack, code=1)
    with pytest.raises(errors.StoreDamaged):
        line.run("verify", pack)
