"""Write a sealed pack from a store, or from some of its recipes."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Final

from firebrick.errors import DamagedError, IncompleteBundle, StrPath, UsageError
from firebrick.storage import format as fmt
from firebrick.storage.blob import decode_blob
from firebrick.storage.collector import keep_named, registry_names
from firebrick.storage.format import DATABASES, KEY_BYTES
from firebrick.storage.msgpack import pack
from firebrick.storage.os_errors import from_system
from firebrick.storage.pack import HEADER, MAGIC, MEDIA_TYPE, OUTSIDE, VERSION, Pack, Seal, index_digest
from firebrick.storage.reader import check_parts, read_registry_entry, split_bundle
from firebrick.storage.store import Store
from firebrick.storage.view import ReadView

_MODE: Final = 0o444
Signer = Callable[[bytes], Seal]


def seal(
    store: Store,
    path: StrPath,
    *,
    recipes: Collection[bytes] | None = None,
    contexts: Collection[str] = (),
    annotations: dict[str, str] | None = None,
    sign: Signer | None = None,
) -> dict[str, Any]:
    """Write a pack with everything recipes need; equal entries give equal bytes.

    Args:
        store: The store to seal; every value is compared with its key on the way.
        path: The new file. It appears completely or not at all, and is never written to again.
        recipes: Keys of the recipes to seal; None for all.
        contexts: Names of registry contexts to seal as well.
        annotations: Further description of the pack; texts.
        sign: Called with the digest of the index; returns a seal.

    Returns:
        The manifest.

    Raises:
        UsageError: The path exists, or a recipe is unknown.
        DamagedError, IncompleteBundle: The store is not sound; nothing was written.
        StoreError: The file cannot be written.
    """
    with store.snapshot() as snapshot:
        selected = _select(snapshot.view, recipes, contexts)
        for database in OUTSIDE:
            selected[database] = dict(sorted(selected[database].items()))
        manifest = {
            "mediaType": MEDIA_TYPE,
            "counts": {name: len(selected[name]) for name in ("blobs", "bundles", "recipes", "registry")},
            "annotations": dict(annotations or {}),
        }
        with _new_file(Path(os.fsdecode(path))) as file:
            _write(file, selected, manifest, sign)
    return manifest


def add_seal(path: StrPath, sign: Signer, *, foreign: bool = False) -> None:
    """Sign a pack again: its contents stay, and the file is replaced by one with another trailer.

    A signature of the same key is replaced.
    """
    sealed = Pack.open(path, foreign=foreign)
    try:
        new = sign(sealed.digest)
        seals = [old for old in sealed.seals if old.key_id != new.key_id] + [new]
        end = sealed.end
        with _new_file(Path(sealed.path), replace=True) as file:
            with open(sealed.path, "rb") as old:
                shutil.copyfileobj(old, file, 1 << 20)
            file.truncate(end)
            file.seek(end)
            file.write(_trailer(seals))
    finally:
        sealed.release()


def oci_manifest(path: StrPath) -> dict[str, Any]:
    """Return the manifest under which an OCI registry stores a pack as an artifact.

    The pack is the only layer. Source: OCI Image Manifest Specification 1.1, "Guidelines for artifact usage".
    """
    sealed = Pack.open(path, foreign=True)
    sealed.release()
    with open(path, "rb") as file:
        digest, size = hashlib.file_digest(file, "sha256").hexdigest(), file.tell()
    empty = b"{}"
    return {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "artifactType": MEDIA_TYPE,
        "config": {
            "mediaType": "application/vnd.oci.empty.v1+json",
            "digest": f"sha256:{hashlib.sha256(empty).hexdigest()}",
            "size": len(empty),
        },
        "layers": [{"mediaType": MEDIA_TYPE, "digest": f"sha256:{digest}", "size": size}],
        "annotations": sealed.manifest["annotations"],
    }


def _select(
    view: ReadView, recipes: Collection[bytes] | None, contexts: Collection[str]
) -> dict[str, dict[bytes, Any]]:
    """Return keys and values of each database; those of blobs and bundles are views of the store."""
    wanted = sorted({key for key, _ in view.items("recipes")} if recipes is None else set(recipes))
    chosen: dict[str, dict[bytes, Any]] = {name: {} for name in DATABASES}
    needed: set[bytes] = set()
    for recipe in wanted:
        bundles = view.duplicates("recipes", recipe)
        if not bundles:
            raise UsageError(f"there is no recipe {recipe.hex()}")
        chosen["recipes"][recipe] = bundles
        _copy(view, chosen, "components", recipe)
        for bundle in bundles:
            needed.update(_take_bundle(view, chosen, bundle))
    known = {key: 0 for key, _ in view.items("blobs")} if contexts else {}
    for key, value in view.items("registry"):
        if read_registry_entry(key, value)[0] in contexts:
            chosen["registry"][key] = bytes(value)
            rest = dict(known)
            keep_named(view, registry_names(key, value, known), rest)
            needed.update(known.keys() - rest.keys())
    for key, value in view.items("names"):
        if _is_of(key, chosen):
            chosen["names"][key] = bytes(value)
    for key in needed:
        if (blob := view.get("blobs", key)) is None:
            raise IncompleteBundle([key])
        decode_blob(key, blob, copy=False)
        chosen["blobs"][key] = blob
    _copy(view, chosen, "meta", fmt.META_FORMAT)
    return chosen


def _take_bundle(view: ReadView, chosen: dict[str, dict[bytes, Any]], bundle: bytes) -> Sequence[bytes]:
    value = view.get("bundles", bundle)
    if value is None:
        raise DamagedError(bundle, "a recipe names it, but it is not there")
    manifest, parts = split_bundle(bundle, value)
    decode_blob(bundle, manifest, copy=False)
    check_parts(view, bundle, parts)
    chosen["bundles"][bundle] = value
    _copy(view, chosen, "clock", fmt.CLOCK_NOTE + bundle)
    return parts


def _is_of(key: bytes, chosen: dict[str, dict[bytes, Any]]) -> bool:
    """Tell whether an entry of `names` belongs to a chosen recipe or bundle."""
    kind, last = key[:1], key[-KEY_BYTES:]
    if kind == fmt.NAME_PARTS:
        return last in chosen["bundles"]
    if kind == fmt.NAMES_RECIPE:
        return last in chosen["recipes"] and key[1 : 1 + KEY_BYTES] in chosen["bundles"]
    return kind == fmt.NAMES_FUNCTION and last in chosen["recipes"]


def _copy(view: ReadView, chosen: dict[str, dict[bytes, Any]], database: str, key: bytes) -> None:
    if (value := view.get(database, key)) is not None:
        chosen[database][key] = bytes(value)


def _write(
    file: BinaryIO, selected: dict[str, dict[bytes, Any]], manifest: dict[str, Any], sign: Signer | None
) -> None:
    file.seek(HEADER.size)
    for database in OUTSIDE:
        for value in selected[database].values():
            file.write(value)
    tables = {}
    for name, entries in selected.items():
        items = sorted(entries.items())
        values = [len(value) if name in OUTSIDE else value for _, value in items]
        tables[name] = [[key for key, _ in items], values]
    place, index = file.tell(), pack([manifest, tables])
    digest = index_digest(index)
    file.write(index)
    file.write(_trailer([sign(digest)] if sign else []))
    file.seek(0)
    file.write(HEADER.pack(MAGIC, VERSION, 0, place, len(index), digest))


def _trailer(seals: list[Seal]) -> bytes:
    return pack([[*seal] for seal in sorted(seals)]) if seals else b""


@contextlib.contextmanager
def _new_file(path: Path, *, replace: bool = False) -> Iterator[BinaryIO]:
    """Open a file that appears at a path once it is written, flushed to disk and read-only."""
    try:
        fd, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        try:
            with open(fd, "wb") as file:
                yield file
                file.flush()
                os.fchmod(fd, _MODE)
                os.fsync(fd)
            if replace:
                os.replace(name, path)
            else:
                os.link(name, path)
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(name)
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except FileExistsError:
        raise UsageError(f"{path} is there already, and a pack is never changed: give another name") from None
    except OSError as error:
        raise from_system(os.fspath(path), error) from error
