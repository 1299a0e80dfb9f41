"""The manifest of a bundle: its purpose, requirements and parts.

The body is a msgpack map; docs/codecs.md has its fields. Every field is checked, and an unknown one is
refused: a later Firebrick that adds one has another version.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar

from firebrick.base.namedtuple import NamedTuple
from firebrick.errors import DecodeError, EncodeError, UnknownVersion
from firebrick.storage.format import KEY_BYTES, MANIFEST_VERSION, MAX_PARTS, Kind
from firebrick.storage.keys import ContentKey
from firebrick.storage.msgpack import Limits, pack, unpack

T = TypeVar("T")
LIMITS: Final = Limits(size=16 << 20, depth=8, items=MAX_PARTS)
OFF: Final = "off"  # the reason if no lean form was requested


class Fact(NamedTuple):
    """A function's answer about the recording process.

    Args:
        name: of the function, as known to `firebrick.validity.facts.ask`.
        arguments: of the call; plain values.
        text: the answer.
    """

    name: str
    arguments: list[Any]
    text: str


class Reached(NamedTuple):
    """Everything the traced code could reach by name.

    Args:
        digest: of everything.
        scope: key of a TEXT, the names and code that count.
        entries: key of a TEXT, the findings, to word a miss.
    """

    digest: bytes
    scope: ContentKey
    entries: ContentKey


class Compiled(NamedTuple):
    """torch's compilation of a frame.

    Args:
        code: key of a CODE.
        resumes: generated global -> key of a CODE, the resume functions.
        backends: generated global -> key of a BACKEND.
        imports: generated global -> name of a module.
        requires: facts of the GPU that must be equal; empty for a frame of the CPU.
        guards: key of GUARDS; None if only the lean lane supports them.
        expected: digest (hex) of the guards' expectations.
        expectations: key of a TEXT, the same in words; None without guards.
        audit: key of a TEXT, Dynamo's result in the form audits compare; None if it was not kept.
    """

    code: ContentKey
    resumes: Mapping[str, ContentKey]
    backends: Mapping[str, ContentKey]
    imports: Mapping[str, str]
    requires: Mapping[str, str]
    guards: ContentKey | None
    expected: str
    expectations: ContentKey | None
    audit: ContentKey | None = None


class Placement(NamedTuple):
    """The GPU a frame runs on, -1 for several, and why it is pinned to it; empty if it is not."""

    gpu: int
    pinned: str


class LeanForm(NamedTuple):
    """The lean lane's part, besides the code.

    Args:
        guards: key of a GUARD_PROGRAM.
        imports: generated global -> name of a module, for those the code uses.
        backends: generated global -> key of a LEAN_BACKEND or LEAN_SPLIT.
        opens: the CUDA libraries it calls, by the names of `firebrick.runtime.cuda_warmup`.
        place: where it runs; None for the CPU.
        bound: generated global of a backend -> names in its guards of tensors that it takes first.
        optimizers: source of an optimizer, whose state is made first -> lists that its ``_init_group`` fills.
    """

    guards: ContentKey
    imports: Mapping[str, str]
    backends: Mapping[str, ContentKey]
    opens: list[str]
    place: Placement | None
    bound: Mapping[str, list[str]] = {}
    optimizers: Mapping[str, int] = {}


class NoLeanForm(NamedTuple):
    """The reason the lean lane cannot serve a frame."""

    reason: str


class Manifest(NamedTuple):
    """A bundle's manifest.

    Args:
        recipe: key of the recipe.
        parts: digest of the keys of all parts, in order.
        process: facts that must be unchanged.
        buckets: gradient buckets the graph is split for; empty if it is not split.
        reached: reachable objects that must be unchanged; None if nothing was traced.
        compiled: torch's compilation; None for a frame that torch runs uncompiled.
        lean: the lean lane's part.
    """

    recipe: bytes
    parts: bytes
    process: list[Fact]
    buckets: str
    reached: Reached | None
    compiled: Compiled | None
    lean: LeanForm | NoLeanForm

    @property
    def skip(self) -> bool:
        """Tell whether torch runs the frame uncompiled."""
        return self.compiled is None

    @property
    def serves_lean(self) -> bool:
        """Tell whether the lean lane may serve it."""
        return self.skip or isinstance(self.lean, LeanForm)


def pack_manifest(manifest: Manifest) -> bytes:
    """Return the body of a manifest.

    Raises:
        EncodeError: the value is not a manifest.
        LimitExceeded: it is too large.
    """
    if not isinstance(manifest, Manifest):
        raise EncodeError(type(manifest).__name__, reason="not a Manifest")
    recipe, parts, process, buckets, reached, compiled, lean = manifest
    body: dict[str, Any] = {
        "version": MANIFEST_VERSION,
        "recipe": recipe,
        "parts": parts,
        "skip": compiled is None,
        "process": [list(fact) for fact in process],
        "reach": b"",
        "lean": lean.reason if isinstance(lean, NoLeanForm) else _packed_lean(lean),
    }
    if buckets:
        body["buckets"] = buckets
    if reached is not None:
        body |= {"reach": reached.digest, "scope": reached.scope, "entries": reached.entries}
    if compiled is not None:
        body |= compiled._asdict()
        body |= {"guards": compiled.guards or b"", "expectations": compiled.expectations or b""}
        body["audit"] = compiled.audit or b""
    packed = pack(body)
    try:
        unpack_manifest(packed)
    except DecodeError as error:
        raise EncodeError("Manifest", reason=error.reason) from None
    return packed


_SELDOM: Final = ("bound", "optimizers")  # left out where they are empty


def _packed_lean(lean: LeanForm) -> dict[str, Any]:
    body = {name: value for name, value in lean._asdict().items() if value or name not in _SELDOM}
    place = body.pop("place")
    return body if place is None else body | place._asdict()


def unpack_manifest(data: bytes | memoryview) -> Manifest:
    """Return a manifest from its body.

    Raises:
        UnknownVersion: another version of Firebrick wrote it.
        DecodeError: these are not a manifest's fields; names the first wrong one.
        LimitExceeded: larger than a manifest may be.
    """
    found = unpack(data, LIMITS)
    if type(found) is not dict:
        raise DecodeError(f"a manifest is a map, not {type(found).__name__}")
    body = _Body("manifest", found)
    version = body.take("version", _number, 0)
    if version != MANIFEST_VERSION:
        raise UnknownVersion(Kind.BUNDLE, version)
    skip = body.take("skip", _truth)
    made = Manifest(
        body.take("recipe", _digest),
        body.take("parts", _digest),
        body.take("process", _facts),
        body.take("buckets", _said, ""),
        _reached(body),
        None if skip else _compiled(body),
        body.take("lean", _lean),
    )
    body.end()
    return made


class _Body:
    """A map whose fields are consumed one by one."""

    def __init__(self, what: str, fields: dict[Any, Any]) -> None:
        self._what = what
        self._left = dict(fields)

    def take(self, name: str, read: Callable[[Any], T], default: T | None = None) -> T:
        """Return a field, checked; without a default it must be present."""
        if name not in self._left:
            if default is None:
                raise DecodeError(f"a {self._what} without {name}")
            return default
        try:
            return read(self._left.pop(name))
        except DecodeError as error:
            raise DecodeError(f"{name} of a {self._what}: {error.reason}") from None

    def end(self) -> None:
        """Refuse unconsumed fields."""
        if self._left:
            raise DecodeError(f"a {self._what} with {next(iter(self._left))!r:.40}, which is not known")

    def has(self, name: str) -> bool:
        return name in self._left


def _reached(body: _Body) -> Reached | None:
    if not (digest := body.take("reach", _digest_or_none)):
        return None
    return Reached(digest, body.take("scope", _key), body.take("entries", _key))


def _compiled(body: _Body) -> Compiled:
    return Compiled(
        body.take("code", _key),
        body.take("resumes", _keys),
        body.take("backends", _keys),
        body.take("imports", _texts),
        body.take("requires", _texts),
        body.take("guards", _key_or_none) or None,
        body.take("expected", _text),
        body.take("expectations", _key_or_none) or None,
        body.take("audit", _key_or_none) or None,
    )


def _lean(value: Any) -> LeanForm | NoLeanForm:
    if type(value) is str:
        return NoLeanForm(value)
    if type(value) is not dict:
        raise _wrong("a map, or why there is none", value)
    body = _Body("lean form", value)
    placed = body.has("gpu")
    made = LeanForm(
        body.take("guards", _key),
        body.take("imports", _texts),
        body.take("backends", _keys),
        body.take("opens", _list_of_texts),
        Placement(body.take("gpu", _index), body.take("pinned", _text)) if placed else None,
        body.take("bound", _lists, {}),
        body.take("optimizers", _numbers, {}),
    )
    body.end()
    return made


def _wrong(expected: str, value: Any) -> DecodeError:
    return DecodeError(f"expected {expected}, got {value!r:.40}")


def _number(value: Any) -> int:
    if type(value) is not int:
        raise _wrong("a number", value)
    return value


def _index(value: Any) -> int:
    if _number(value) < -1:
        raise _wrong("the index of a GPU", value)
    return int(value)


def _truth(value: Any) -> bool:
    if type(value) is not bool:
        raise _wrong("true or false", value)
    return value


def _text(value: Any) -> str:
    if type(value) is not str:
        raise _wrong("a text", value)
    return value


def _said(value: Any) -> str:
    if not _text(value):
        raise _wrong("a text that says something", value)
    return str(value)


def _digest(value: Any) -> bytes:
    if type(value) is not bytes or len(value) != KEY_BYTES:
        raise _wrong(f"{KEY_BYTES} bytes", value)
    return value


def _digest_or_none(value: Any) -> bytes:
    return b"" if value == b"" else _digest(value)


def _key(value: Any) -> ContentKey:
    return ContentKey(_digest(value))


def _key_or_none(value: Any) -> ContentKey:
    return ContentKey(_digest_or_none(value))


def _map(value: Any, read: Callable[[Any], T]) -> dict[str, T]:
    if type(value) is not dict:
        raise _wrong("a map", value)
    return {_text(name): read(item) for name, item in value.items()}


def _keys(value: Any) -> dict[str, ContentKey]:
    return _map(value, _key)


def _texts(value: Any) -> dict[str, str]:
    return _map(value, _text)


def _list_of_texts(value: Any) -> list[str]:
    if type(value) is not list:
        raise _wrong("a list", value)
    return [_text(item) for item in value]


def _lists(value: Any) -> dict[str, list[str]]:
    return _map(value, _list_of_texts)


def _numbers(value: Any) -> dict[str, int]:
    return _map(value, _number)


def _facts(value: Any) -> list[Fact]:
    if type(value) is not list:
        raise _wrong("a list", value)
    return [_fact(item) for item in value]


def _fact(value: Any) -> Fact:
    if type(value) is not list or len(value) != len(Fact._fields) or type(value[1]) is not list:
        raise _wrong("a name, a list of arguments and an answer", value)
    return Fact(_text(value[0]), value[1], _text(value[2]))
