"""Read bundles: which ones a recipe has, what their manifests say, whether they may be used here."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from typing import Any

from blake3 import blake3

from firebrick import codecs
from firebrick.codecs._msgpack import unpack
from firebrick.counters import Stats
from firebrick.errors import DamagedError, NotFoundError, StoreError, UnknownVersion
from firebrick.format import MANIFEST_VERSION, Kind
from firebrick.keys import ContentKey
from firebrick.loader.inlined import Inlined, find_code
from firebrick.platform import CURRENT_GPU, gpu_facts, process_fact
from firebrick.store import Store
from firebrick.torch_api.lean import gradient_buckets


class Miss(Exception):
    """A bundle does not serve a frame; the text is the reason."""


def parts_digest(parts: Iterable[bytes]) -> bytes:
    """Return the digest of a bundle's list of parts, which stands in its manifest."""
    return blake3(b"".join(parts)).digest()


def reason_of(error: BaseException) -> str:
    """Return why a bundle does not serve, as it is counted."""
    if isinstance(error, Miss):
        return str(error)
    if isinstance(error, NotFoundError):
        return "a part is missing"
    if isinstance(error, DamagedError):
        return "a part is damaged"
    if isinstance(error, UnknownVersion):
        return "unknown version"
    return f"{type(error).__name__}: {error}"


SELF_TEST = "self_test"  # among the facts of a bundle: `PENDING`, or what is wrong with it
PENDING = "pending"


class Bundles:
    """The bundles of a store, with their manifests kept. Used under one lock of the caller.

    Args:
        store: where they are.
        stats: counts the bytes that were read.
        on_fault: is told what is damaged or out of order in the store, beside the miss that comes of it.
    """

    def __init__(
        self, store: Store, stats: Stats, on_fault: Callable[[BaseException], None] = lambda error: None
    ) -> None:
        self.store = store
        self._stats = stats
        self._on_fault = on_fault
        self._manifests: dict[ContentKey, dict[str, Any]] = {}

    def of(self, recipe: bytes) -> dict[ContentKey, dict[str, Any]]:
        """Return the bundles of a recipe with their facts, oldest first.

        The order is that in which torch compiled them: a later one may be a more general one.
        """
        facts = {key: self._facts(key) for key in self.store.bundles(recipe)}
        return dict(sorted(facts.items(), key=lambda item: (item[1].get("when", 0.0), item[0])))

    def _facts(self, key: ContentKey) -> dict[str, Any]:
        try:
            return self.store.facts(key)
        except DamagedError as error:  # a new test notes them anew
            self._on_fault(error)
            return {SELF_TEST: PENDING}

    def passed_over(self, error: BaseException) -> str:
        """Return why a bundle does not serve; what is wrong with the store itself is told."""
        if isinstance(error, DamagedError | StoreError):
            self._on_fault(error)
        return reason_of(error)

    def manifest(self, key: ContentKey) -> dict[str, Any]:
        """Return a bundle's manifest.

        Raises:
            DamagedError, UnknownVersion, NotFoundError: when it can not be read.
        """
        if key not in self._manifests:
            with self.store.snapshot() as snapshot:
                raw = bytes(snapshot.bundle(key))
                parts = snapshot.parts(key)
            body: dict[str, Any] = unpack(raw)
            if (version := body.get("version", 0)) != MANIFEST_VERSION:
                raise UnknownVersion(Kind.BUNDLE, version)
            if parts_digest(parts) != body["parts"]:
                raise DamagedError(key, "its list of parts is not that of the manifest")
            self._stats.moved(read=len(raw))
            self._manifests[key] = body
        return self._manifests[key]

    def usable(self, key: ContentKey, recipe: bytes, hooks: str, *, moving: bool = False) -> dict[str, Any]:
        """Return a bundle's manifest, once what it needs of this process was checked.

        It must be of this recipe; inlined functions, the places of hooks of modules, the buckets of gradients
        for which the graph is split, the GPU where it uses one, and what of the process is folded into its
        graph, must be as they were.

        Args:
            key: of the bundle.
            recipe: key of the frame's recipe.
            hooks: places of the hooks of modules.
            moving: the caller looks after the index of the current GPU.

        Raises:
            Miss: naming what is not.
            DamagedError, UnknownVersion, NotFoundError: when the manifest can not be read.
        """
        manifest = self.manifest(key)
        if manifest["recipe"] != recipe:
            raise Miss("a bundle of another recipe")
        if manifest["hooks"] != hooks:
            raise Miss("hooks of modules")
        split, splits = manifest.get("buckets", ""), gradient_buckets()
        if split != splits and not manifest["skip"]:
            raise Miss(f"buckets of gradients: stored {split or 'none'}, here {splits or 'none'}")
        for entry in manifest["inlined"]:
            if not _unchanged(inlined := Inlined(*entry)):
                raise Miss(f"inlined function {inlined.qualname} changed")
        if requires := manifest.get("requires"):
            here = gpu_facts()
            for name, wanted in requires.items():
                if here.get(name) != wanted:
                    raise Miss(f"platform {name}: stored {wanted}, here {here.get(name)}")
        for name, arguments, wanted in manifest["process"]:
            if not (moving and name == CURRENT_GPU) and (found := process_fact(name, arguments)) != wanted:
                raise Miss(f"{name}: stored {wanted}, here {found}")
        return manifest

    def part(self, kind: Kind, key: bytes) -> Any:
        """Decode one part of a bundle."""
        blob = self.store.get(ContentKey(key))
        self._stats.moved(read=len(blob.data))
        return codecs.decode(kind, blob.version, blob.data, self.store.get)


def _unchanged(inlined: Inlined) -> bool:
    """Tell whether an inlined function is as it was.

    torch's compiler has helpers in Python that it inlines. They are part of torch's build, which the
    recipe names, and need not be imported to be compared.
    """
    compiler = inlined.module.startswith("torch._dynamo")
    return (compiler and inlined.module not in sys.modules) or find_code(inlined) is not None
