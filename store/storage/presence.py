"""Tell what a store already has, so that it is not rewritten."""

from __future__ import annotations

import contextlib

from firebrick.errors import CodecError, DamagedError
from firebrick.storage import format as fmt
from firebrick.storage.blob import decode_blob
from firebrick.storage.keys import ContentKey
from firebrick.storage.reader import parts_check, stray_bundles
from firebrick.storage.view import ReadView


def is_published(
    txn: ReadView, recipe: bytes, packed: bytes, bundle: bytes, value: bytes, parts: list[bytes]
) -> bool:
    """Tell whether a bundle is present and complete, with everything that leads to it."""
    stored = txn.get("bundles", bundle)
    with contextlib.suppress(DamagedError):
        return (
            txn.has("recipes", recipe, bundle)
            and stored is not None
            and bytes(stored) == value
            and txn.record("names", fmt.NAME_PARTS + bundle) == parts_check(parts)
            and not stray_bundles(txn, txn.duplicates("recipes", recipe))
            and txn.record("components", recipe) == packed
            and txn.has("names", fmt.NAMES_RECIPE + bundle + recipe)
            and all(txn.has("blobs", part) for part in parts)
        )
    return False


def is_intact(txn: ReadView, key: ContentKey) -> bool:
    """Tell whether a blob is present and matches its key."""
    value = txn.get("blobs", key)
    try:
        return value is not None and bool(decode_blob(key, value, copy=False))
    except (DamagedError, CodecError):
        return False
