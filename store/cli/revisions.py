"""Find the artifacts of a bundle in a context, and their history. Imports no torch."""

from collections.abc import Iterable
from typing import Final

from firebrick.base.namedtuple import NamedTuple
from firebrick.context.context import Context, Revision
from firebrick.context.revision import BACKEND, Record
from firebrick.errors import NoSuchEntry, UsageError
from firebrick.reports.inventory import Held
from firebrick.storage.keys import ContentKey
from firebrick.storage.manifest import Compiled, Manifest, unpack_manifest
from firebrick.storage.store import Store

GRAPHS: Final = ("forward", "backward")


class Artifact(NamedTuple):
    """An artifact of a bundle: its name in the bundle, and its keys in the context."""

    name: str
    content: ContentKey
    keys: tuple[str, ...]


def artifacts_of(store: Store, context: str, held: Held) -> list[Artifact]:
    """Return the artifacts of a bundle in a context, present or past.

    Raises:
        NoSuchEntry: it has none of them.
        UsageError: torch runs the function as it is.
    """
    compiled = compiled_of(unpack_manifest(store.bundle(held.key)), held)
    found = []
    for name, content in compiled.backends.items():
        keys = [key for key, record in _records(store, context) if content in dict(record.log).values()]
        if keys:
            found.append(Artifact(name, content, tuple(keys)))
    if not found:
        raise NoSuchEntry(f"{held.name} in the context {context}")
    return found


def _records(store: Store, context: str) -> Iterable[tuple[str, Record]]:
    for (section, key), data in store.registry(context).items():
        if section == BACKEND:
            yield key, Record.unpack(data)


def history_of(store: Store, context: str, held: Held) -> dict[str, list[Revision]]:
    """Return the revisions of a bundle's artifacts by their keys in the context, newest first."""
    with Context.open(store, context) as opened:
        return {
            artifact.name: opened.history(artifact.keys[-1])
            for artifact in artifacts_of(store, context, held)
        }


def compiled_of(manifest: Manifest, held: Held) -> Compiled:
    """Return the compiled parts of a bundle with editable sources; UsageError says why they are not."""
    if manifest.compiled is None:
        raise UsageError(f"torch runs {held.name} as it is: there is no source")
    if manifest.compiled.guards is None:
        raise UsageError(f"{held.name} is for the lean lane alone: its source cannot be edited")
    return manifest.compiled
