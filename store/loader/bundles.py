"""Read a recipe's bundles and their manifests, and decide whether they may be used here."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterable
from typing import Any, Final

from firebrick import codecs
from firebrick.base.digest import digest
from firebrick.bundle.platform import CURRENT_GPU, gpu_facts
from firebrick.errors import DamagedError, FirebrickError, StoreError
from firebrick.reports.counters import Stats
from firebrick.reports.events import listed
from firebrick.reports.not_served import Miss
from firebrick.storage.format import Kind
from firebrick.storage.keys import ContentKey
from firebrick.storage.manifest import Manifest, Reached, unpack_manifest
from firebrick.storage.store import Store
from firebrick.torch_api.compiler_free import gradient_buckets
from firebrick.validity.facts import ask
from firebrick.validity.reach import Scope, roots_changed
from firebrick.validity.stored import Frame, changes, scope_of

_TOLD: Final = 20  # differences named by a miss


def parts_digest(parts: Iterable[bytes]) -> bytes:
    """Return the digest of a bundle's list of parts, as in its manifest."""
    return digest(b"".join(parts))


def expectations_digest(texts: str) -> str:
    """Return the digest of what guards expect, as in a manifest beside the key of the texts."""
    return hashlib.sha256(texts.encode()).hexdigest()


SELF_TEST = "self_test"  # fact of a bundle: `PENDING`, or what is wrong with it
PENDING = "pending"
REPLACED = "replaced"  # among the facts: the bundle that serves instead, since an edit


class Bundles:
    """The bundles of a store, with cached manifests. Used under the caller's lock.

    Args:
        store: holds them.
        stats: counts the bytes read.
        on_fault: called with damage or disorder in the store, in addition to the resulting miss.
    """

    def __init__(
        self, store: Store, stats: Stats, on_fault: Callable[[BaseException], None] = lambda error: None
    ) -> None:
        self.store = store
        self._stats = stats
        self._on_fault = on_fault
        self._manifests: dict[ContentKey, Manifest] = {}
        self._scopes: dict[bytes, Scope] = {}

    def of(self, recipe: bytes) -> dict[ContentKey, dict[str, Any]]:
        """Return the bundles of a recipe with their facts, oldest first.

        The order is torch's order of compilation: a later one may be more general. Bundles replaced by an
        edit are left out.
        """
        noted = {key: self._facts(key) for key in self.store.bundles(recipe)}
        facts = {key: known for key, known in noted.items() if REPLACED not in known}
        return dict(sorted(facts.items(), key=lambda item: (item[1].get("when", 0.0), item[0])))

    def _facts(self, key: ContentKey) -> dict[str, Any]:
        try:
            return self.store.facts(key)
        except DamagedError as error:  # a new test rewrites them
            self._on_fault(error)
            return {SELF_TEST: PENDING}

    def passed_over(self, error: Exception, *, drop: bool = False) -> Exception:
        """Return the error for which a bundle does not serve; report faults of the store itself.

        Args:
            error: the error met.
            drop: the caller compiles next. Damaged entries are dropped, with those that depend on them, so
                that they are met once.
        """
        if isinstance(error, DamagedError | StoreError):
            self._on_fault(error)
        if drop and isinstance(error, DamagedError) and not self.store.readonly:
            with contextlib.suppress(FirebrickError):  # then the next process to meet it tries
                self._stats.damage_met(error, self.store.drop_damaged(error.key))
        return error

    def manifest(self, key: ContentKey) -> Manifest:
        """Return a bundle's manifest.

        Raises:
            DamagedError, DecodeError, UnknownVersion, NotFoundError: it cannot be read.
        """
        if key not in self._manifests:
            with self.store.snapshot() as snapshot:
                raw = bytes(snapshot.bundle(key))
                parts = snapshot.parts(key)
            manifest = unpack_manifest(raw)
            if parts_digest(parts) != manifest.parts:
                raise DamagedError(key, "its list of parts is not that of the manifest")
            self._stats.add_bytes(read=len(raw))
            self._manifests[key] = manifest
        return self._manifests[key]

    def usable(self, key: ContentKey, recipe: bytes, frame: Frame, *, moving: bool = False) -> Manifest:
        """Return the manifest of a bundle if this process meets its requirements.

        It must be of this recipe; everything the traced code can reach by name, the gradient buckets the
        graph is split for, the GPU if it uses one, and the process facts folded into its graph must be
        unchanged. Both lanes check this here and nowhere else.

        Args:
            key: of the bundle.
            recipe: key of the frame's recipe.
            frame: about to be served.
            moving: the caller handles the index of the current GPU.

        Raises:
            Miss: naming what changed.
            DamagedError, UnknownVersion, NotFoundError: the manifest cannot be read.
        """
        manifest = self.manifest(key)
        if manifest.recipe != recipe:
            raise Miss("a bundle of another recipe", code="another-recipe")
        split, splits = manifest.buckets, gradient_buckets()
        if split != splits and not manifest.skip:
            change = "buckets of gradients", split or "none", splits or "none"
            raise Miss(listed([change]), code="buckets", changes=[change])
        if manifest.compiled is not None and (requires := manifest.compiled.requires):
            here = gpu_facts()
            for name, wanted in requires.items():
                if here.get(name) != wanted:
                    lacks = f"platform {name}", wanted, here.get(name)
                    raise Miss(listed([lacks]), code="platform", changes=[lacks])
        for name, arguments, wanted in manifest.process:
            if not (moving and name == CURRENT_GPU) and (found := ask(name, arguments)) != wanted:
                fact = " ".join((name, *map(str, arguments))), wanted, found
                raise Miss(listed([fact]), code="process", changes=[fact])
        if manifest.reached is not None:
            self._check_reach(manifest.reached, frame)
        return manifest

    def _check_reach(self, wanted: Reached, frame: Frame) -> None:
        seen = self._scope(wanted.scope)
        if others := roots_changed(seen):
            raise Miss(listed(others[:1]), code="changed", changes=others[:_TOLD])
        found = frame.reach(wanted.scope, seen)
        if found.digest != wanted.digest:
            differences = changes(self.part(Kind.TEXT, wanted.entries), found)
            words = listed(differences[:1]) or "the order of what is within reach changed"
            raise Miss(words, code="changed", changes=differences[:_TOLD])

    def _scope(self, key: bytes) -> Scope:
        if key not in self._scopes:
            self._scopes[key] = scope_of(self.part(Kind.TEXT, key))
        return self._scopes[key]

    def audit_text(self, key: ContentKey) -> str:
        """Return a bundle's text for audits; empty for none.

        Raises:
            FirebrickError: it cannot be read.
        """
        compiled = self.manifest(key).compiled
        kept = compiled.audit if compiled is not None else None
        text: str = self.part(Kind.TEXT, kept) if kept else ""
        return text

    def part(self, kind: Kind, key: bytes) -> Any:
        """Decode one part of a bundle."""
        blob = self.store.get(ContentKey(key))
        self._stats.add_bytes(read=len(blob.data))
        return codecs.decode(kind, blob.version, blob.data, self.store.get)
