"""Edit the sources of stored artifacts, and update the bundles.

An edit is one of the context (`Context.edit`): a new revision, with its parent. The bundle that names the
artifact gets a sibling that names the new content and replaces it: both stay in the store, one serves. The
sibling is for the full lane, since the lean form was made from the original source.
"""

import ast
from collections.abc import Callable, Iterable
from typing import Any, Final

from firebrick.cli.revisions import GRAPHS, Artifact, artifacts_of, compiled_of
from firebrick.context.context import Context
from firebrick.errors import NoSuchEntry, UsageError
from firebrick.loader.bundles import REPLACED, parts_digest
from firebrick.reports.inventory import Held
from firebrick.storage.blob import Blob
from firebrick.storage.format import MANIFEST_VERSION, Kind
from firebrick.storage.keys import ContentKey
from firebrick.storage.manifest import Compiled, Manifest, NoLeanForm, pack_manifest, unpack_manifest
from firebrick.storage.store import Store

WHY: Final = "its source was edited"


def edit_source(
    store: Store, context: str, held: Held, artifact: Artifact, graph: str, change: Callable[[str], str]
) -> ContentKey | None:
    """Change the source of one graph, and return the bundle that now serves; None if nothing changed.

    Args:
        store: holds the bundle.
        context: name of the context with the artifact.
        held: the bundle.
        artifact: of the bundle.
        graph: one of `GRAPHS`.
        change: returns the new source for the old.

    Raises:
        UsageError: there is no such graph, or the new source is not Python.
        EditConflict: another process changed the artifact meanwhile. Nothing is changed.
    """
    before: dict[str, str] = {}

    def edited(content: Any) -> Any:
        compiled = content.compiled_fw if graph == GRAPHS[0] else content.compiled_bw
        if compiled is None:
            raise UsageError(f"{held.name} has no {graph} graph")
        source = compiled.result.source_code
        if source not in before:
            before[source] = checked(change(source))
        compiled.result.source_code = before[source]
        return content

    with Context.open(store, context) as opened:
        with opened.edit() as edit:
            for key in artifact.keys:
                edit.edit_artifact(key, edited)
        written = opened.stored(artifact.keys[-1])
    if written is None or all(old == new for old, new in before.items()):
        return None
    return _serve(store, held, artifact, *written)


def checked(source: str) -> str:
    """Return a source if it is Python; UsageError locates the error."""
    try:
        ast.parse(source)
    except SyntaxError as error:
        raise UsageError(f"line {error.lineno} is no Python: {error.msg}; nothing was changed") from None
    return source


def revert_to(store: Store, context: str, held: Held, revision: str) -> ContentKey:
    """Make an earlier revision of a bundle's artifact current, and let its bundle serve.

    Raises:
        NoSuchEntry: there is no revision whose key begins so.
    """
    with Context.open(store, context) as opened:
        for artifact in artifacts_of(store, context, held):
            for key in artifact.keys:
                found = [r for r in opened.history(key) if r.key.hex().startswith(revision)]
                if len(found) == 1:
                    opened.revert(key, found[0].key)
                    return _serve(store, held, artifact, found[0].content)
    raise NoSuchEntry(f"{revision} among the revisions of {held.name}")


def _serve(
    store: Store, held: Held, artifact: Artifact, content: ContentKey, children: Iterable[ContentKey] = ()
) -> ContentKey:
    """Let a bundle's sibling with other content for an artifact serve, creating it if necessary."""
    siblings = _siblings(store, held)
    wanted = {**siblings[held.key].backends, artifact.name: content}
    chosen = next((key for key, made in siblings.items() if made.backends == wanted), None)
    if chosen is None:
        chosen = _publish(store, held, wanted, {*held.parts, content, *children})
    for key in {*siblings, chosen}:
        facts = {name: fact for name, fact in store.facts(key).items() if name != REPLACED}
        store.note(key, facts | ({} if key == chosen else {REPLACED: chosen}))
    return chosen


def _siblings(store: Store, held: Held) -> dict[ContentKey, Compiled]:
    """Return the bundles of a recipe that differ from this one only in artifacts, including itself."""
    wanted = compiled_of(unpack_manifest(store.bundle(held.key)), held)
    found = {}
    for key in store.bundles(held.recipe):
        made = unpack_manifest(store.bundle(key)).compiled
        if made is not None and made._replace(backends={}) == wanted._replace(backends={}):
            found[key] = made
    return found


def _publish(
    store: Store, held: Held, backends: dict[str, ContentKey], candidates: set[ContentKey]
) -> ContentKey:
    manifest = unpack_manifest(store.bundle(held.key))
    made = compiled_of(manifest, held)._replace(backends=backends)
    parts = sorted(_closure(store, _keys_of(manifest, made), candidates))
    edited = manifest._replace(compiled=made, lean=NoLeanForm(WHY), parts=parts_digest(parts))
    blob = Blob(Kind.BUNDLE, pack_manifest(edited), MANIFEST_VERSION)
    store.publish(held.recipe, held.components, blob, [ContentKey(part) for part in parts])
    store.note(blob.key, store.facts(held.key))
    return blob.key


def _keys_of(manifest: Manifest, made: Compiled) -> list[bytes]:
    reached = manifest.reached
    keys = [
        made.code,
        made.guards,
        made.expectations,
        made.audit,
        *made.resumes.values(),
        *made.backends.values(),
    ]
    return [key for key in [*keys, *([reached.scope, reached.entries] if reached else [])] if key]


def _closure(store: Store, keys: list[bytes], candidates: set[ContentKey]) -> set[bytes]:
    """Return blobs and the candidates they name: bodies hold the keys of their children."""
    found, waiting = set[bytes](), list(keys)
    while waiting:
        key = waiting.pop()
        if key not in found:
            found.add(key)
            body = bytes(store.get(key).data)
            waiting += [other for other in candidates if other not in found and bytes(other) in body]
    return found
