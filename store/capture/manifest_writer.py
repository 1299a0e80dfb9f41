"""Put the parts of one specialisation together: blobs, and the manifest that names them.

Generated names (``__compiled_fn_…`` with a uuid, ``__resume_at_…`` with a counter) become names made of
the content they stand for, so that equal input gives equal bytes and a loaded function never meets
a name that the compiler of the loading process makes.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import CodeType, FunctionType, ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple

from firebrick import codecs, torch_api
from firebrick.capture.lean_part import LeanPart, make_lean
from firebrick.codecs.code import rename
from firebrick.errors import NotLean, NotStorable
from firebrick.loader.bundles import expectations_digest, parts_digest
from firebrick.storage.format import Kind
from firebrick.storage.keys import ContentKey
from firebrick.storage.manifest import OFF, Compiled, Fact, LeanForm, Manifest, NoLeanForm, Reached
from firebrick.storage.msgpack import pack
from firebrick.storage.store import Blob
from firebrick.validity.code_facts import nested
from firebrick.validity.stored import entries_text, scope_text

if TYPE_CHECKING:
    from firebrick.capture.recorder import Compilation


class Part(NamedTuple):
    """A stored artifact: its content key and the keys of all blobs that it is made of."""

    key: ContentKey
    children: tuple[ContentKey, ...] = ()


def generated_names(code: CodeType, prefix: str) -> frozenset[str]:
    """Return the names with a prefix that a code object, or one inside it, uses."""
    return frozenset(n for inner in nested(code) for n in inner.co_names if n.startswith(prefix))


def frame_manifest(
    compilation: Compilation,
    backends: dict[str, Part],
    *,
    skip: bool,
    lean: Mapping[str, LeanPart | NoLeanForm] | None = None,
) -> tuple[Blob, list[Blob], list[ContentKey]]:
    """Return the manifest of a frame, the blobs that come with it, and the keys of all its parts.

    Args:
        compilation: the frame.
        backends: torch's backend id -> stored artifact.
        skip: whether torch decided to run the frame as it is; the bundle then says only this.
        lean: torch's backend id -> lean backend, or the reason why there is none.

    Raises:
        NotStorable: when the compiled code uses a global that cannot be made again, or neither lane can
            have the guards.
    """
    blobs: list[Blob] = []
    parts: list[ContentKey] = []

    def add(kind: Kind, value: Any) -> ContentKey:
        encoded = codecs.encode(kind, value)
        for blob in (*encoded.children, encoded.root):
            blobs.append(blob)
            parts.append(blob.key)
        return encoded.root.key

    reached = None
    if compilation.reached is not None:
        seen, found = compilation.reached
        reached = Reached(
            found.digest, add(Kind.TEXT, scope_text(seen)), add(Kind.TEXT, entries_text(found.entries))
        )
    compiled: Compiled | None = None
    made: LeanForm | NoLeanForm = NoLeanForm(OFF)
    if not skip and compilation.compiled is not None:
        api = torch_api.load()
        names = {n: api.BACKEND_PREFIX + part.key.hex()[:32] for n, part in backends.items()}
        resumes = {}
        for name, code in sorted(compilation.resumes.items()):
            key = add(Kind.CODE, code)
            names[name] = api.RESUME_PREFIX + key.hex()[:32]
            resumes[names[name]] = key
        compiled = Compiled(
            guards=None if compilation.not_full else add(Kind.GUARDS, compilation.guards_state),
            expected=expectations_digest(compilation.expected),
            expectations=None if compilation.not_full else add(Kind.TEXT, compilation.expected),
            code=add(Kind.CODE, rename(compilation.compiled, names)),
            resumes=resumes,
            backends={names[name]: part.key for name, part in backends.items()},
            imports=_imports(compilation, compilation.compiled, set(names)),
            requires=compilation.requires,
            audit=add(Kind.TEXT, compilation.audit) if compilation.audit else None,
        )
        for part in backends.values():
            parts += [part.key, *part.children]
        if lean is None:
            if compilation.not_full:
                raise NotStorable(compilation.not_full)
        else:
            renamed = {names[name]: backend for name, backend in lean.items()}
            made, more = _lean_form(compilation, renamed, compilation.compiled, compiled.imports)
            blobs += more
            parts += [blob.key for blob in more]
    elif not skip:
        raise NotStorable("torch compiled nothing of it")
    parts = sorted(set(parts))
    process = sorted([*compilation.process, *compilation.tracing.facts], key=pack)
    manifest = Manifest(
        recipe=compilation.recipe.key,
        parts=parts_digest(parts),
        process=[Fact(*fact) for fact in process],
        buckets="" if skip else compilation.buckets,
        reached=reached,
        compiled=compiled,
        lean=made,
    )
    return codecs.encode(Kind.BUNDLE, manifest).root, blobs, parts


def _lean_form(
    compilation: Compilation,
    backends: Mapping[str, LeanPart | NoLeanForm],
    code: CodeType,
    imports: Mapping[str, str],
) -> tuple[LeanForm | NoLeanForm, list[Blob]]:
    """Return what the lean lane has of a frame, and the blobs of it.

    Raises:
        NotStorable: neither lane can have the frame.
    """
    try:
        return make_lean(compilation, backends, code, imports)
    except NotLean as error:
        if compilation.not_full:
            raise NotStorable(f"{compilation.not_full}; {error.reason}") from error
        compilation.not_lean = error.reason
        return NoLeanForm(error.reason), []


def _imports(compilation: Compilation, compiled: CodeType, known: set[str]) -> dict[str, str]:
    """Return generated globals that stand for modules, alias -> module; refuse any other."""
    imports = dict(compilation.imports)
    for inner in nested(compiled):
        for name in inner.co_names:
            if name in known or name in imports or name not in compilation.installed:
                continue
            value = compilation.scope.get(name)
            if not isinstance(value, ModuleType):
                kind = "function" if isinstance(value, FunctionType) else type(value).__name__
                raise NotStorable(f"the compiled code uses the generated global {name} ({kind})")
            imports[name] = value.__name__
    return imports
