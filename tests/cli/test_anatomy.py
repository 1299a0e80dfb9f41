"""A bundle with a Triton kernel is taken apart without a GPU, and what cannot be read is named."""

import io
import json
import sys
from pathlib import Path

import pytest

from firebrick.cli.anatomy import anatomy
from firebrick.cli.verb_show import _tree
from firebrick.loader.bundles import parts_digest
from firebrick.reports.inventory import inventory
from firebrick.storage.format import MANIFEST_VERSION, Kind
from firebrick.storage.keys import ContentKey, recipe_key
from firebrick.storage.manifest import Compiled, LeanForm, Manifest, Placement, pack_manifest
from firebrick.storage.store import Blob, Store
from support.places import GOLDEN

NAME = f"lean-backend-triton.{sys.implementation.cache_tag}.bin"
INDEX = json.loads((GOLDEN / "index.json").read_text())
COMPONENTS = {"function.module": "model", "function.name": "add", "platform.torch": "2.13.0"}
MISSING = ContentKey(b"\7" * 32)
FUNCTION = "__compiled_fn_" + "0" * 32

pytestmark = pytest.mark.skipif(NAME not in INDEX, reason="the corpus has none of this Python")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A store with one bundle: the golden backend, and guards that are not there."""
    entry = INDEX[NAME]
    blobs = [
        Blob(Kind[child["kind"]], (GOLDEN / child["file"]).read_bytes(), child["version"])
        for child in [*entry["children"], {"file": NAME, **entry}]
    ]
    backend, code = blobs[-1].key, blobs[0].key
    parts = sorted({blob.key for blob in blobs})
    compiled = Compiled(code, {}, {FUNCTION: backend}, {}, {"gpu": "NVIDIA H100"}, None, "", None)
    lean = LeanForm(MISSING, {}, {FUNCTION: backend}, [], Placement(0, ""))
    recipe = recipe_key(COMPONENTS)
    manifest = Manifest(recipe, parts_digest(parts), [], "", None, compiled, lean)
    opened = Store.open(tmp_path / "store")
    made = Blob(Kind.BUNDLE, pack_manifest(manifest), MANIFEST_VERSION)
    opened.publish(recipe, COMPONENTS, made, parts, blobs)
    return opened


def test_kernels_have_their_registers_memory_and_architecture(store: Store) -> None:
    with store:
        found = inventory(store)
        (held,) = found.bundles
        assert (held.name, held.place, held.lane, held.device) == ("add", "model:add", "lean", "NVIDIA H100")
        value = anatomy(store, held, found.users())
    (kernel,) = value["kernels"]
    facts = {name: kernel[name] for name in "kind name architecture registers shared warps".split()}
    assert list(facts.values()) == ["triton", "add_one", "sm_90", 10, 0, 4]
    assert len(kernel["configurations"]) == 2
    assert value["problems"] == [f"no blob {MISSING.hex()}"]
    assert value["guards"] == [] and value["graphs"][0]["parts"][0]["what"] == "forward"


def test_the_tree_says_so(store: Store) -> None:
    from rich.console import Console

    with store:
        found = inventory(store)
        value = anatomy(store, found.bundles[0], found.users())
    shown = Console(width=200, record=True, file=io.StringIO())
    shown.print(_tree(value, 100))
    text = shown.export_text()
    assert "add_one  triton: sm_90, 3.3 KiB, 10 registers, 0 B shared memory, 4 warps" in text
