"""Encode bundle manifests, with the fields of `firebrick.storage.manifest`.

A manifest names its parts by content key, but they are not children: they are decoded one by one, on demand,
and the rule of `Store.publish` keeps a bundle complete.
"""

from firebrick.codecs.abc import Codec, Sink, Source
from firebrick.storage.format import MANIFEST_VERSION, Kind
from firebrick.storage.manifest import Manifest, pack_manifest, unpack_manifest


class ManifestCodec(Codec[Manifest]):
    """The codec of bundle manifests."""

    kind = Kind.BUNDLE
    version = MANIFEST_VERSION

    def encode(self, value: Manifest, sink: Sink) -> bytes:
        """Return the body."""
        return pack_manifest(value)

    def decode(self, data: bytes | memoryview, source: Source, version: int) -> Manifest:
        """Rebuild a manifest.

        Raises:
            DecodeError: these are not a manifest's fields.
        """
        self.check_version(version)
        return unpack_manifest(data)
