"""Make stores with a bundle each, keys, and layers of them, for tests of trust."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from firebrick.storage.format import MANIFEST_VERSION, Kind
from firebrick.storage.keys import content_key, recipe_key
from firebrick.storage.store import Blob, Store
from firebrick.trust.folder import TrustFolder
from firebrick.trust.guard import SignaturePolicy
from firebrick.trust.opening import LayerName, with_layers
from firebrick.trust.signing_keys import SecretKey

COMPONENTS = {"function.module": "m", "function.name": "f", "options": "x"}
RECIPE = recipe_key(COMPONENTS)
NOW = 1_000_000


def publish(store: Store, text: bytes, components: dict[str, str] = COMPONENTS) -> bytes:
    """Publish a bundle with one blob, and return its key. Its manifest is one for the store alone."""
    part = Blob(Kind.LIBRARY, text)
    manifest = Blob(Kind.BUNDLE, b"manifest of " + text, MANIFEST_VERSION - 1)
    store.publish(recipe_key(components), components, manifest, [part.key], [part])
    store.note(manifest.key, {"when": 1.0})
    return manifest.key


def part_of(text: bytes) -> bytes:
    """Return the key of the blob of such a bundle."""
    return content_key(Kind.LIBRARY, text)


class Signed:
    """A folder of keys, a shared store, and a private store upon it.

    Attributes:
        faults: What the layered store was told of.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.shared = root / "shared"
        self.folder = TrustFolder(root / "keys")
        self.key = self.trusted("ours")
        self.faults: list[BaseException] = []

    def trusted(self, name: str) -> SecretKey:
        """Make a key that is trusted."""
        self.folder.make(name)
        return self.folder.secret(name)

    def layered(
        self,
        *below: Path,
        policy: SignaturePolicy = SignaturePolicy.REQUIRE,
        own: SignaturePolicy = SignaturePolicy.NONE,
        kind: type[Store] = Store,
        **options: bool,
    ) -> Store:
        """Open the private store on top of others."""
        top = kind.open(self.root / "private", **options)
        names = [LayerName(str(path), policy) for path in below or (self.shared,)]
        return with_layers(top, names, own, TrustFolder(self.folder.path), self.faults.append)

    def served(self, *below: Path, policy: SignaturePolicy = SignaturePolicy.REQUIRE) -> Sequence[bytes]:
        """Return the bundles of the recipe through the layers."""
        with self.layered(*below, policy=policy) as store:
            return store.bundles(RECIPE)

    def why(self) -> str:
        """Return the last fault in words, and forget it."""
        return str(self.faults.pop())
