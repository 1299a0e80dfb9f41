"""Measure which kinds of blobs are worth compressing, with blobs that `torch.compile` makes.

For each kind two stores hold the same blobs, one compressed at a zstd level, one not. A *load* is
what a second start does with a blob: fetch it from a snapshot (header, decompression, digest),
decode it with its codec, and for a library `dlopen`, for source `compile`, for a Triton kernel
writing its files. Loads of both stores take turns, in a process per kind and level; the results are
checked for equality.

Bias: pages are in the page cache, where bytes that are not compressed are nearest; a slow disk
would speak for compression. The extra time is the median of the differences of rounds; `share` is
its part of a load. Blobs come from small models on the CPU. Without --store they are compiled here,
which takes a minute or two and needs a C++ compiler.

    python benchmarks/bench_compression.py --json compression.json
"""

from __future__ import annotations

import argparse
import ctypes
import importlib.metadata
import json
import multiprocessing
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

LEVELS = (1, 3, 9)
ROUNDS = 31


def compile_models(path: Path) -> None:
    """Fill a new store with what compiling four small models makes."""
    import torch
    from torch import nn

    import firebrick

    firebrick.enable(path)
    torch.manual_seed(0)

    class Attention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.qkv, self.out, self.norm = nn.Linear(64, 192), nn.Linear(64, 64), nn.LayerNorm(64)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            q, k, v = self.qkv(self.norm(x)).chunk(3, -1)
            mixed: torch.Tensor = nn.functional.scaled_dot_product_attention(q, k, v)
            return torch.add(x, self.out(mixed))

    mlp = nn.Sequential(nn.Linear(64, 128), nn.GELU(), nn.Linear(128, 128), nn.Tanh())
    convolution = nn.Sequential(nn.Conv2d(3, 16, 3), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2))
    attention = nn.Sequential(Attention(), mlp, nn.Softmax(-1))
    for model, shape in ((mlp, (8, 64)), (convolution, (2, 3, 32, 32)), (attention, (2, 16, 64))):
        compiled, x = torch.compile(model), torch.randn(shape)
        compiled(x).sum().backward()
        with torch.no_grad():
            compiled(x)
    torch.compile(lambda x, y: (x.sin() + y.cos() * x.exp()).sum(0))(
        torch.randn(100, 100), torch.randn(100, 100)
    )
    firebrick.disable()

    from firebrick import codecs
    from firebrick.codecs.triton import TritonKernel
    from firebrick.storage.format import Kind
    from firebrick.storage.store import Store

    golden = Path(__file__).parents[1] / "tests" / "golden" / "kernel"
    with Store.open(path) as store:
        for folder in golden.glob("*/"):
            payloads = {file.name: file.read_bytes() for file in folder.iterdir()}
            kernel = TritonKernel.from_payloads(folder.name, payloads)
            encoded = codecs.encode(Kind.TRITON, kernel)
            store.put_many([encoded.root, *encoded.children])


def user_of(kind: Any, source: Any) -> Callable[[Any], object]:
    """Return what is done with a blob of this kind once it is fetched."""
    from firebrick import codecs
    from firebrick.storage.format import Kind

    def decode(blob: Any) -> Any:
        return codecs.decode(blob.kind, blob.version, blob.data, source)

    def load_library(blob: Any) -> object:
        import _ctypes

        file = os.memfd_create("library")
        os.write(file, decode(blob).data)
        library = ctypes.CDLL(f"/proc/self/fd/{file}")
        _ctypes.dlclose(library._handle)
        os.close(file)
        return library

    def compile_source(blob: Any) -> object:
        return compile(decode(blob), "<blob>", "exec")

    def write_kernel(blob: Any) -> object:
        with tempfile.TemporaryDirectory() as folder:
            for name, data in decode(blob).files:
                Path(folder, name).write_bytes(data)
        return folder

    if kind is Kind.TRITON:
        return write_kernel
    if kind is Kind.LIBRARY:
        return load_library
    if kind is Kind.WRAPPER:
        return compile_source
    if kind not in codecs.CODECS:
        return lambda blob: bytes(blob.data)
    return decode


def measure(path: str, kind_number: int, level: int) -> dict[str, Any]:
    """Compare one level with none, in this process."""
    import torch
    import torch._dynamo
    import torch._inductor.compile_fx

    from firebrick.storage import format as fmt
    from firebrick.storage.blob import encode_blob
    from firebrick.storage.store import Blob, Store

    del torch
    kind = fmt.Kind(kind_number)
    with Store.open(path, readonly=True) as original, tempfile.TemporaryDirectory() as folder:
        found = [(info.key, original.get(info.key)) for info in original.list(kind)]
        blobs = [Blob(blob.kind, blob.data, blob.version) for _, blob in found]
        stores, encode, sizes = [], [], []
        for name, chosen in (("raw", None), ("zstd", level)):
            fmt.COMPRESSION[kind] = chosen
            start = time.perf_counter()
            for blob in blobs:
                encode_blob(blob)
            encode.append(time.perf_counter() - start)
            stores.append(Store.open(f"{folder}/{name}", durable=False))
            keys = stores[-1].put_many(blobs)
            sizes.append(stores[-1].stat())
        use = user_of(kind, original.get)

        def fetch(store: Any, then: Callable[[Any], object] | None) -> float:
            with store.snapshot() as snapshot:
                start = time.perf_counter()
                for key in keys:
                    blob = snapshot.get(key)
                    if then:
                        then(blob)
                seconds = time.perf_counter() - start
                del blob
            return seconds / len(keys)

        for store in stores:
            assert [store.get(key).data for key in keys] == [blob.data for blob in blobs]  # noqa: S101
        try:
            fetch(stores[0], use)
        except Exception as error:  # needs the process that made it
            used, why = None, f"{type(error).__name__}: {error}"
        else:
            used, why = use, ""
        times: dict[str, list[list[float]]] = {"get": [[], []], "load": [[], []]}
        for turn in range(ROUNDS):
            for i, store in sorted(enumerate(stores), reverse=bool(turn % 2), key=lambda x: x[0]):
                times["get"][i].append(fetch(store, None))
                if used:
                    times["load"][i].append(fetch(store, used))
        for store in stores:
            store.close()
    result: dict[str, Any] = {
        "kind": kind.name,
        "level": level,
        "blobs": len(blobs),
        "bytes_raw": sizes[0].bytes_stored,
        "bytes_zstd": sizes[1].bytes_stored,
        "encode_us": [round(1e6 * seconds / len(blobs), 1) for seconds in encode],
        "not_used": why,
    }
    for name, (raw, packed) in times.items():
        if raw:
            extra = [1e6 * (b - a) for a, b in zip(raw, packed, strict=True)]
            result[f"{name}_us"] = round(1e6 * statistics.median(raw), 1)
            result[f"{name}_extra_us"] = round(statistics.median(extra), 1)
            result[f"{name}_extra_quartiles_us"] = [round(q, 1) for q in statistics.quantiles(extra)]
    return result


def cases(path: Path) -> Iterator[tuple[str, int, int]]:
    """List a case for each kind in the store and each level."""
    from firebrick.storage.store import Store

    with Store.open(path, readonly=True) as store:
        kinds = sorted({info.kind for info in store.list()})
    yield from ((str(path), kind, level) for kind in kinds for level in LEVELS)


def main() -> None:
    """Run every case in a process of its own and print a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--store", type=Path, help="take the blobs from this store")
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    arguments = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        path = arguments.store or Path(folder) / "store"
        if not arguments.store:
            os.environ["TORCHINDUCTOR_CACHE_DIR"] = f"{folder}/inductor"
            process = context.Process(target=compile_models, args=(path,))
            process.start()
            process.join()
        results = []
        print("kind      blobs level  B/blob  size  encode us  get us  extra us  load us  share")
        for case in cases(path):
            with context.Pool(1) as pool:
                result = pool.apply(measure, case)
            results.append(result)
            share = result["get_extra_us"] / result.get("load_us", result["get_us"])
            print(
                f"{result['kind']:9} {result['blobs']:5} {result['level']:5} "
                f"{result['bytes_raw'] // result['blobs']:7} "
                f"{result['bytes_zstd'] / result['bytes_raw']:5.2f} {result['encode_us'][1]:10} "
                f"{result['get_us']:7} {result['get_extra_us']:9} {result.get('load_us', 0):8} "
                f"{share:6.1%} {result['not_used']}",
                flush=True,
            )
    versions = {name: importlib.metadata.version(name) for name in ("torch", "zstandard", "lmdb", "blake3")}
    if arguments.json:
        machine = {"machine": platform.machine(), "cpus": os.cpu_count()}
        report = {"python": platform.python_version(), **versions, **machine, "results": results}
        arguments.json.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
