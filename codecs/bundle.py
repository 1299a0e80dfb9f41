"""Encode the manifests of bundles; their fields are those of `firebrick.storage.manifest`.

A manifest names its parts by content key, but they are no children: they are decoded one by one, when they
are needed, and a bundle is whole by the rule of `Store.publish`.
"""

from firebrick.codecs.abc import Codec, Sink, Source
from firebrick.storage.format import MANIFEST_VERSION, Kind
from firebrick.storage.manifest import Manifest, pack_manifest, unpack_manifest


class ManifestCodec(Codec[Manifest]):
    """Encode manifests of bundles."""

    kind = Kind.BUNDLE
    version = MANIFEST_VERSION

    def encode(self, value: Manifest, sink: Sink) -> bytes:
        """Give the body."""
        return pack_manifest(value)

    def decode(self, data: bytes | memoryview, source: Source, version: int) -> Manifest:
        """Rebuild a manifest.

        Raises:
            DecodeError: these are not the fields of one.
        """
        self.check_version(version)
        return unpack_manifest(data)
