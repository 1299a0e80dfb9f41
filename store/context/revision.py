"""A context's records of one name: the registry value and its chain of revisions.

A revision is a blob that holds a name's content and the preceding revision, but nothing volatile. The
registry value points to the current revision and keeps the facts that are not part of the content: generated
names, volatile values, the time of the write.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

from firebrick.errors import DecodeError, UnknownVersion
from firebrick.storage.format import KEY_BYTES, Kind
from firebrick.storage.keys import ContentKey
from firebrick.storage.msgpack import pack, unpack

BACKEND = "backend"
DYNAMO = "dynamo"
KINDS = {BACKEND: Kind.BACKEND, DYNAMO: Kind.DYNAMO}
PAST = {BACKEND: "backend-past", DYNAMO: "dynamo-past"}
"""Section with the facts of revisions that are not current."""

_LAYOUT = 1


class Name(NamedTuple):
    """A name of a context, as in the store's registry."""

    section: str
    name: str


@dataclasses.dataclass(frozen=True, slots=True)
class Revision:
    """A present or former content of a name.

    Attributes:
        key: content key of the revision itself.
        parent: revision it was made from, ``None`` for the first.
        content: content key of the artifact or entry.
        when: Unix time of its first write, in seconds.
        current: whether the name has this content now.
    """

    key: ContentKey
    parent: ContentKey | None
    content: ContentKey
    when: float
    current: bool


@dataclasses.dataclass(frozen=True, slots=True)
class RevisionFacts:
    """The facts of a revision that are not part of its content.

    Attributes:
        version: version of the codec that wrote the content.
        when: Unix time of the first write, in milliseconds.
        names: canonical name -> generated name, for the names in the content.
        volatile: compressed volatile values; empty for none.
    """

    version: int
    when: int
    names: dict[str, str]
    volatile: bytes

    def pack(self) -> bytes:
        """Return the canonical bytes."""
        return pack({"v": _LAYOUT, **dataclasses.asdict(self)})

    @classmethod
    def unpack(cls, data: bytes) -> RevisionFacts:
        """Parse the bytes, ignoring unknown fields.

        Raises:
            DecodeError: the bytes have another shape.
            UnknownVersion: the layout is newer.
        """
        return cls(**_fields(cls, data))


@dataclasses.dataclass(frozen=True, slots=True)
class Record:
    """The value of a name in the registry.

    Attributes:
        order: index of the name in its section.
        revision: key of the current revision.
        content: key of the current content.
        beside: facts of the current revision.
        log: revision and content keys of all revisions, oldest first.
    """

    order: int
    revision: ContentKey
    content: ContentKey
    beside: RevisionFacts
    log: tuple[tuple[ContentKey, ContentKey], ...]

    def pack(self) -> bytes:
        """Return the canonical bytes."""
        return pack(
            {
                "v": _LAYOUT,
                "order": self.order,
                "revision": self.revision,
                "content": self.content,
                "beside": self.beside.pack(),
                "log": b"".join(key for pair in self.log for key in pair),
            }
        )

    @classmethod
    def unpack(cls, data: bytes) -> Record:
        """Parse the bytes, ignoring unknown fields.

        Raises:
            DecodeError: the bytes have another shape.
            UnknownVersion: the layout is newer.
        """
        fields = _fields(cls, data)
        flat = fields["log"]
        if not isinstance(flat, bytes) or not flat or len(flat) % (2 * KEY_BYTES):
            raise DecodeError("registry value: the log is not a list of pairs of keys")
        keys = [ContentKey(flat[i : i + KEY_BYTES]) for i in range(0, len(flat), KEY_BYTES)]
        fields["log"] = log = tuple(zip(keys[::2], keys[1::2], strict=True))
        fields["beside"] = RevisionFacts.unpack(fields["beside"])
        record = cls(**fields)
        if (record.revision, record.content) not in log:
            raise DecodeError("registry value: the current revision is not in the log")
        return record


def pack_revision(section: str, content: ContentKey, parent: ContentKey | None) -> bytes:
    """Return the canonical bytes of a revision."""
    return pack({"section": section, "content": content, "parent": parent})


def unpack_revision(data: bytes) -> dict[str, Any]:
    """Parse a revision.

    Raises:
        DecodeError: the bytes have another shape.
    """
    fields = unpack(data)
    if not isinstance(fields, dict) or not {"section", "content", "parent"} <= set(fields):
        raise DecodeError("revision: content, parent and section expected")
    return fields


def past_name(name: Name, revision: ContentKey) -> Name:
    """Return the name for the facts of a revision while it is not current."""
    return Name(PAST[name.section], f"{revision.hex()}/{name.name}")


def past(name: Name, revision: ContentKey, read: Callable[[Name], bytes | None]) -> RevisionFacts:
    """Return the facts of a revision that is not current.

    Raises:
        DecodeError: nothing valid is kept.
    """
    data = read(past_name(name, revision))
    if data is None:
        raise DecodeError(f"{name.name}: nothing is kept beside the revision {revision.hex()}")
    return RevisionFacts.unpack(data)


_TYPES = {
    "order": int, "revision": bytes, "content": bytes, "beside": bytes, "log": bytes,
    "version": int, "when": int, "names": dict, "volatile": bytes,
}  # fmt: skip


def _fields(cls: type[Any], data: bytes) -> dict[str, Any]:
    fields = unpack(data)
    if not isinstance(fields, dict) or "v" not in fields:
        raise DecodeError("registry value: a map with a version expected")
    if fields["v"] != _LAYOUT:
        raise UnknownVersion(Kind.REVISION, fields["v"])
    names = [field.name for field in dataclasses.fields(cls)]
    for name in names:
        if not isinstance(fields.get(name), _TYPES[name]):
            raise DecodeError(f"registry value: no valid {name}")
    return {name: fields[name] for name in names}
