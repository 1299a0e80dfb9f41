"""Take a stored bundle apart into plain values, without loading, running or unpickling any of it.

Code objects stay bytes: only the data beside their bytecode is read.
"""

from collections.abc import Callable, Mapping
from typing import Any, ParamSpec, TypeVar

from firebrick.codecs.cubin import registers
from firebrick.codecs.guard_program import GuardProgramCodec
from firebrick.codecs.lean_split import get_split
from firebrick.codecs.library import LibraryCodec
from firebrick.codecs.triton import TritonCodec, TritonKernel
from firebrick.errors import CodecError, FirebrickError
from firebrick.guards.sentences import of_expectations, of_program
from firebrick.reports.inventory import Held
from firebrick.storage.blob import StoredBlob
from firebrick.storage.format import Kind
from firebrick.storage.keys import ContentKey
from firebrick.storage.manifest import LeanForm, Manifest, unpack_manifest
from firebrick.storage.msgpack import unpack
from firebrick.storage.reader import Reads
from firebrick.validity.audit import texts_of

T = TypeVar("T")
D = TypeVar("D")
P = ParamSpec("P")


def anatomy(store: Reads, held: Held, users: Mapping[bytes, int]) -> dict[str, Any]:
    """Return everything known about a bundle, fit for JSON.

    Args:
        store: holds it.
        held: the bundle.
        users: how many bundles need each blob.

    Raises:
        FirebrickError: the manifest cannot be read. Other unreadable parts are listed under ``problems``.
    """
    reading = _Reading(store)
    manifest = unpack_manifest(store.bundle(held.key))
    parts = {key: reading.blob(key) for key in held.parts}
    value = {
        "key": held.key.hex(),
        "recipe": held.recipe.hex(),
        "name": held.name,
        "place": held.place,
        "lane": held.lane,
        "why": held.why,
        "device": held.device,
        "seconds": held.seconds,
        "stored_at": held.when,
        "used_at": held.used,
        "bytes": held.bytes,
        "frames": reading.frames(manifest),
        "guards": reading.guards(manifest),
        "process": [
            f"{' '.join((fact.name, *map(str, fact.arguments)))}: {fact.text or 'nothing'}"
            for fact in manifest.process
        ],
        "requires": dict(manifest.compiled.requires) if manifest.compiled is not None else {},
        "graphs": reading.graphs(manifest),
        "kernels": reading.kernels(parts),
        "wrappers": [
            {"key": key.hex(), "bytes": len(blob.data), "lines": bytes(blob.data).count(b"\n")}
            for key, blob in parts.items()
            if blob is not None and blob.kind is Kind.WRAPPER
        ],
        "parts": [
            {
                "key": key.hex(),
                "kind": "missing" if blob is None else blob.kind.name.lower(),
                "bytes": held.parts[key],
                "bundles": users[key],
            }
            for key, blob in parts.items()
        ],
        "components": dict(held.components),
    }
    return {**value, "problems": reading.problems}


class _Reading:
    """A reader of one bundle's parts that notes unreadable ones."""

    def __init__(self, store: Reads) -> None:
        self._store = store
        self.problems: list[str] = []
        self._called: dict[bytes, list[str]] = {}  # key of a library -> names of its kernels

    def blob(self, key: bytes) -> StoredBlob | None:
        return self._tried(None, self._store.get, key)

    def _tried(self, default: D, read: Callable[P, T], *args: P.args, **more: P.kwargs) -> T | D:
        try:
            return read(*args, **more)
        except FirebrickError as error:
            if (text := str(error)) not in self.problems:
                self.problems.append(text)
        except (TypeError, ValueError, IndexError, KeyError) as error:
            self.problems.append(f"a part of another form: {error}")
        return default

    def frames(self, manifest: Manifest) -> list[dict[str, Any]]:
        if (made := manifest.compiled) is None:
            return []
        codes = [("compiled", made.code), *(("behind a graph break", key) for key in made.resumes.values())]
        empty = {"function": "?", "file": "?", "line": 0, "python": "?", "bytes": 0}
        return [
            {"what": what, "key": key.hex(), **self._tried(empty, self._code, key)} for what, key in codes
        ]

    def _code(self, key: ContentKey) -> dict[str, Any]:
        blob = self._store.get(key)
        tag, _, fields = unpack(blob.data)
        return {
            "function": str(fields[6]),
            "file": str(fields[4][1]),
            "line": int(fields[7]),
            "python": str(tag),
            "bytes": len(blob.data),
        }

    def guards(self, manifest: Manifest) -> list[str]:
        if isinstance(manifest.lean, LeanForm):
            return self._tried([], self._program_guards, manifest.lean.guards)
        if manifest.compiled is not None and (key := manifest.compiled.expectations):
            return self._tried([], lambda: of_expectations(self._text(key)))
        return []

    def _program_guards(self, key: ContentKey) -> list[str]:
        blob = self._store.get(key)
        return of_program(GuardProgramCodec().decode(blob.data, self._store.get, blob.version))

    def _text(self, key: ContentKey) -> str:
        return str(self._store.get(key).data, "utf-8", "surrogatepass")

    def graphs(self, manifest: Manifest) -> list[dict[str, Any]]:
        """Return the graphs: the lean lane's part of each, and Dynamo's text if it is kept."""
        if (made := manifest.compiled) is None:
            return []
        texts: tuple[str, ...] = ()
        if key := made.audit:
            texts = self._tried(texts, lambda: texts_of(self._text(key)).graphs)
        lean = manifest.lean.backends if isinstance(manifest.lean, LeanForm) else {}
        found = []
        for number, (name, artifact) in enumerate(made.backends.items()):
            parts = self._tried([], self._lean, lean[name]) if name in lean else []
            text = texts[number] if number < len(texts) else ""
            found.append({"name": name, "artifact": artifact.hex(), "parts": parts, "text": text})
        return found

    def _lean(self, key: ContentKey) -> list[dict[str, Any]]:
        blob = self._store.get(key)
        if blob.kind is Kind.LEAN_SPLIT:
            _, split = get_split(blob.data)
            return [part for _, inner in split for part in self._lean(ContentKey(inner))]
        program, forward, backward, libraries = unpack(blob.data)
        made = [("forward", forward), *([("backward", backward)] if backward is not None else [])]
        keys = {digest: key for digest, _, key in libraries}
        for name, digest, *_ in (kernel for _, graph in made for kernel in graph[1]):
            self._called.setdefault(keys[digest], []).append(str(name))
        return [
            {
                "what": what,
                "inputs": int(program[0]),
                "outputs": len(program[1]),
                "kernels": [str(entry[0]) for entry in [*graph[1], *(graph[5] if len(graph) > 5 else [])]],
                "constants": [str(entry[0]) for entry in graph[2]],
                "cuda_graphs": len(graph) > 6 and graph[6] is not None,
            }
            for what, graph in made
        ]

    def kernels(self, parts: Mapping[ContentKey, StoredBlob | None]) -> list[dict[str, Any]]:
        launches: dict[bytes, list[str]] = {}
        for blob in parts.values():
            if blob is None or blob.kind is not Kind.LAUNCH:
                continue
            if (fields := self._tried(None, unpack, blob.data)) is not None:
                launches.setdefault(fields[-1][1], []).append(str(fields[1]))
        found = []
        for key, blob in parts.items():
            if blob is None or blob.kind not in (Kind.LIBRARY, Kind.TRITON):
                continue
            read = _library if blob.kind is Kind.LIBRARY else _triton
            kernel = self._tried(None, read, blob)
            if kernel is not None:
                kernel |= {"name": ", ".join(dict.fromkeys(self._called[key]))} if key in self._called else {}
                found.append({"key": key.hex(), **kernel, "configurations": sorted(launches.get(key, []))})
        return found


def _library(blob: StoredBlob) -> dict[str, Any]:
    library = LibraryCodec().decode(blob.data, _no_source, blob.version)
    elf = library.elf
    return {
        "kind": "c++",
        "name": ", ".join(library.symbols) or library.name,
        "architecture": " ".join(filter(None, (elf.machine, library.isa))),
        "registers": None,
        "shared": None,
        "warps": None,
        "bytes": len(library.data),
        "needs": list(elf.needed),
    }


def _triton(blob: StoredBlob) -> dict[str, Any]:
    kernel = TritonCodec().decode(blob.data, _no_source, blob.version)
    backend, architecture, _ = kernel.target
    return {
        "kind": "triton",
        "name": kernel.symbol,
        "architecture": f"sm_{architecture}" if backend == "cuda" else str(architecture),
        "registers": _registers(kernel) if backend == "cuda" else None,
        "shared": kernel.shared,
        "warps": kernel.num_warps,
        "bytes": len(kernel.binary),
        "needs": [],
    }


def _registers(kernel: TritonKernel) -> int | None:
    try:
        return registers(kernel.binary).get(kernel.symbol)
    except CodecError:
        return None


def _no_source(key: ContentKey) -> StoredBlob:
    raise CodecError(f"{key.hex()[:12]} is asked for where there are no children")
