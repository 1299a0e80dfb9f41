"""Decode damaged bytes with every codec, in child processes: a typed error, or a value, and nothing else.

    python tests/programs/decoding.py --count 10000000
    python tests/programs/decoding.py --count 10000000 --guided    # by coverage, where atheris is installed

The bytes are those of the golden corpus, mutated from a seed. What is counted is kept in the file of
``--sum`` where one is given, so that runs add up. A failure is named with its seed.
"""

import argparse
import contextlib
import json
import os
import random
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from firebrick import codecs
from firebrick.errors import FirebrickError
from firebrick.storage.blob import Blob, StoredBlob, decode_blob, encode_blob
from firebrick.storage.format import Kind
from firebrick.storage.keys import ContentKey, content_key
from support.io_trace import in_child

GOLDEN = Path(__file__).parents[1] / "golden"
KINDS = sorted(codecs.CODECS)
BATCH = 20_000
MEMORY = 4 << 30  # bytes of address space that a child may take beyond what it has
SLOW_S = 5.0


def corpus() -> list[tuple[Kind, int, bytes]]:
    """Return kind, version and bytes of all golden files."""
    index = json.loads((GOLDEN / "index.json").read_text())
    found = []
    for name, facts in sorted(index.items()):
        found.append((Kind[facts["kind"]], facts["version"], (GOLDEN / name).read_bytes()))
    return found


def children(rng: random.Random) -> Callable[[ContentKey], StoredBlob]:
    """Return a source that has something for every key, as if a manifest led anywhere."""
    return lambda key: StoredBlob(rng.choice((Kind.TEXT, Kind.GRAPH, Kind.CODE)), 1, bytes(key))


def mutated(data: bytes, other: bytes, rng: random.Random) -> bytes:
    """Change bytes in a few ways."""
    body = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 4))):
        at = rng.randrange(len(body) + 1)
        match rng.randrange(7):
            case 0 if at < len(body):
                body[at] ^= 1 << rng.randrange(8)
            case 1 if at < len(body):
                body[at] = rng.choice((0, 0x7F, 0x80, 0xC0, 0xC6, 0xCF, 0xDB, 0xDD, 0xDF, 0xFF))
            case 2:
                del body[at : at + rng.randrange(1, 9)]
            case 3:
                body[at:at] = rng.randbytes(rng.randrange(1, 9))
            case 4 if other:
                start = rng.randrange(len(other))
                body[at : at + 8] = other[start : start + rng.randrange(1, 33)]
            case 5:
                body[at : at + 8] = rng.choice((0, 1, 1 << 31, 1 << 63, (1 << 64) - 1)).to_bytes(8, "big")
            case _:
                start = rng.randrange(len(body) + 1)
                body[at:at] = body[start : start + rng.randrange(1, 65)]
    return bytes(body)


def attempt(kind: int, version: int, data: bytes, rng: random.Random) -> bool:
    """Decode; tell whether that gave a value. What is no FirebrickError goes on up."""
    start = time.perf_counter()
    given = False
    with contextlib.suppress(FirebrickError):
        codecs.decode(kind, version, data, children(rng))
        given = True
    if time.perf_counter() - start > SLOW_S:
        raise TimeoutError(f"{len(data)} bytes took more than {SLOW_S} s")
    return given


def container(data: bytes, rng: random.Random) -> None:
    """Read a damaged value of the store: its header, its frame, its digest."""
    kind = rng.choice(list(Kind))
    with contextlib.suppress(FirebrickError):
        decode_blob(content_key(kind, data, 1), data)


def batch(seed: int, files: list[tuple[Kind, int, bytes]], containers: list[bytes]) -> None:
    """Decode so many drawn from a seed; each has its own, which the log names before it is tried."""
    limit = resource.getrlimit(resource.RLIMIT_AS)[1]
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, limit))
    for number in range(seed, seed + BATCH):
        rng = random.Random(number)
        kind, version, data = rng.choice(files)
        if rng.random() < 0.1:
            kind = rng.choice(KINDS)
        try:
            if number % 10 == 0:
                container(mutated(rng.choice(containers), data, rng), rng)
            else:
                attempt(kind, version, mutated(data, rng.choice(files)[2], rng), rng)
        except BaseException as error:
            raise AssertionError(f"seed {number}, {kind!r}: {type(error).__name__}: {error}") from error


def guided(count: int, seconds: float) -> int:
    """Let atheris choose the bytes in a child; return its status, 0 if it found nothing."""
    code = (
        "import atheris, sys\n"
        "with atheris.instrument_imports(include=['firebrick.codecs', 'firebrick.storage']):\n"
        f"    sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "    import decoding\n"
        "    for kind in decoding.KINDS: decoding.codecs.codec_for(kind)\n"
        "import random\n"
        "files = decoding.corpus(); rng = random.Random(1)\n"
        "def test(data):\n"
        "    if data: decoding.attempt(decoding.KINDS[data[0] % len(decoding.KINDS)], 1, data[1:], rng)\n"
        "atheris.Setup(sys.argv, test); atheris.Fuzz()\n"
    )
    folder = Path(os.environ.get("TMPDIR", "/tmp")) / f"firebrick-corpus-{os.getpid()}"
    folder.mkdir()
    for number, (kind, _, data) in enumerate(corpus()):
        (folder / str(number)).write_bytes(bytes([KINDS.index(kind)]) + data)
    options = [f"-runs={count}", f"-max_total_time={int(min(seconds, 1e6))}", "-timeout=10"]
    options.append("-rss_limit_mb=4096")
    command = [sys.executable, "-c", code, *options, str(folder)]
    return subprocess.run(command, cwd=folder, check=False).returncode


def main() -> None:
    """Decode until there were enough, or one is wrong."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--count", type=int, default=BATCH)
    parser.add_argument("--seconds", type=float, default=1e9, help="stop after this time")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--guided", action="store_true", help="let atheris choose the bytes")
    parser.add_argument("--sum", type=Path, help="file that keeps the counts of all runs")
    arguments = parser.parse_args()
    if arguments.guided:
        raise SystemExit(guided(arguments.count, arguments.seconds))
    began = time.monotonic()
    known = {"decodes": 0, "containers": 0, "next seed": arguments.seed}
    if arguments.sum and arguments.sum.exists():
        known = json.loads(arguments.sum.read_text())
    files = corpus()
    for kind in KINDS:
        codecs.codec_for(kind)
    containers = [encode_blob(Blob(kind, data)) for kind, _, data in files]
    done, failed = 0, False
    while done < arguments.count and time.monotonic() < began + arguments.seconds and not failed:
        seed = known["next seed"]
        status = in_child(lambda seed=seed: batch(seed, files, containers), 600)
        if status:
            print(f"a child with seeds from {seed} ended with {status}", file=sys.stderr)
            failed = True
            break
        done += BATCH
        known["decodes"] += BATCH * 9 // 10
        known["containers"] += BATCH // 10
        known["next seed"] += BATCH
        if arguments.sum:
            arguments.sum.write_text(json.dumps(known) + "\n")
    print(json.dumps({**known, "failed": failed, "seconds": round(time.monotonic() - began)}))
    raise SystemExit(failed)


if __name__ == "__main__":
    main()
