"""Measure what required signatures add to a hit: one bundle of 30 blobs of 1 MiB in a layer.

A hit is from opening the layers, under an empty store, to the last verified byte. The policies `none` and
`require` take turns in one process, and differences are of neighbours; keys and marks are read anew each
time. The first pair, which imports `cryptography`, is left out.

    python benchmarks/bench_signatures.py [--folder DIR] [--pairs 31]
"""

from __future__ import annotations

import argparse
import random
import statistics
import tempfile
import time
from pathlib import Path

from firebrick.storage.format import MANIFEST_VERSION, Kind
from firebrick.storage.keys import recipe_key
from firebrick.storage.seal import seal
from firebrick.storage.store import Blob, Store
from firebrick.trust.folder import TrustFolder
from firebrick.trust.guard import SignaturePolicy
from firebrick.trust.opening import LayerName, with_layers
from firebrick.trust.recording import signing
from firebrick.trust.signing import sealer

PARTS, PART_BYTES = 30, 1 << 20
COMPONENTS = {"function.module": "m", "function.name": "f"}
RECIPE = recipe_key(COMPONENTS)


def made(folder: Path) -> dict[str, Path]:
    """Make a signed store and a sealed pack of it."""
    keys = TrustFolder(folder / "keys")
    keys.make("ours")
    rng = random.Random(1)
    parts = [Blob(Kind.TENSOR, rng.randbytes(PART_BYTES)) for _ in range(PARTS)]
    with signing(keys.secret("ours")).open(folder / "shared") as store:
        manifest = Blob(Kind.BUNDLE, b"manifest", MANIFEST_VERSION - 1)
        store.publish(RECIPE, COMPONENTS, manifest, [part.key for part in parts], parts)
        seal(store, folder / "shared.pack", sign=sealer(keys.secret("ours")))
    Store.open(folder / "private").close()
    return {"directory": folder / "shared", "pack": folder / "shared.pack"}


def hit(folder: Path, layer: Path, policy: SignaturePolicy) -> float:
    """Return the seconds that one hit takes."""
    faults: list[BaseException] = []
    start = time.perf_counter()
    top = Store.open(folder / "private")
    names, keys = [LayerName(str(layer), policy)], TrustFolder(folder / "keys")
    with with_layers(top, names, SignaturePolicy.NONE, keys, faults.append) as store:
        (bundle,) = store.bundles(RECIPE)
        with store.snapshot() as snapshot:
            size = sum(len(snapshot.get(part).data) for part in snapshot.parts(bundle))
    seconds = time.perf_counter() - start
    if faults or size != PARTS * PART_BYTES:
        raise SystemExit(f"not served: {size} bytes, {faults}")
    return seconds


def main() -> None:
    """Print a table of milliseconds."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--folder", type=Path, help="where the stores are made; default that of temporary files"
    )
    parser.add_argument("--pairs", type=int, default=31)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        folder = Path(name)
        layers = made(folder)
        lines = []
        for what, layer in layers.items():
            pairs = [
                [hit(folder, layer, policy) for policy in (SignaturePolicy.NONE, SignaturePolicy.REQUIRE)]
                for _ in range(arguments.pairs + 1)
            ][1:]
            medians = [statistics.median(column) for column in zip(*pairs, strict=True)]
            added = statistics.median(after - before for before, after in pairs)
            cells = (f"{1000 * seconds:.2f}" for seconds in (*medians, added))
            lines.append(f"| {what} | {' | '.join(cells)} |")
    print("| layer | none | require | median of the differences |\n|---|---|---|---|", *lines, sep="\n")


if __name__ == "__main__":
    main()
