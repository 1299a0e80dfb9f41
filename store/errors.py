"""Every error that Firebrick raises, in one tree.

Each class has a sentence on what happened (its docstring), a `hint` (what to do about it) and a stable
`exit_code` for command lines. The data are attributes and, in the same order, `args`; so errors survive
pickling and are distinguished by class and attribute, never by text. Damage and bugs are not misses: neither
`DamagedError` nor `InternalError` is a `NotFoundError`.

docs/errors.md is generated from this module by tests/support/errors_table.py.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import ClassVar

StrPath = str | os.PathLike[str]


def _show(value: object) -> str:
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, list | tuple):
        return ", ".join(map(_show, value))
    return str(value)


class FirebrickError(Exception):
    """Something went wrong in Firebrick."""

    hint: ClassVar[str] = "Read the message; the subclasses say more."
    exit_code: ClassVar[int] = 3
    template: ClassVar[str] = "{}"

    def __str__(self) -> str:
        """Return the class's template filled with the error's data; bytes are shown in hexadecimal."""
        try:
            return self.template.format(*map(_show, self.args)).rstrip(" :")
        except IndexError:
            return ", ".join(map(_show, self.args))


class UsageError(FirebrickError):
    """An argument or a setting is not valid."""

    hint = "Correct the call or the setting that the message names."
    exit_code = 2

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class StoreError(FirebrickError):
    """A store as a whole cannot carry out a request."""

    hint = "Check the store's directory; the program itself continues without the store."
    exit_code = 10
    template = "{}: {}"

    def __init__(self, path: StrPath, detail: str = "") -> None:
        super().__init__(os.fspath(path), detail)
        self.path = os.fspath(path)
        self.detail = detail


class StoreNotFound(StoreError):
    """There is no store at this path, or it was removed while it was open."""

    hint = "Check the path; the first program that runs with this store creates it, as does create=True."
    exit_code = 11
    template = "no store at {}: {}"


class StoreLocked(StoreError):
    """The store is in use in a way that keeps this call from finishing in time."""

    hint = "Try again later; look for a stopped process that holds the store, or a snapshot left open."
    exit_code = 12
    template = "store {} is locked: {}"


class StoreReadOnly(StoreError):
    """A write was requested from a store that was opened read-only, or that cannot be written."""

    hint = (
        "Open it without readonly=True; if it cannot be written to, FIREBRICK_READONLY=1 serves from it "
        "without this message."
    )
    exit_code = 13
    template = "store {} is read-only: {}"


class StoreFull(StoreError):
    """The disk, the quota or the memory map has no room left; nothing already stored is lost."""

    hint = (
        "Free disk space, raise FIREBRICK_MAX_BYTES, or end the processes that keep the store open; "
        "the failed write left nothing behind."
    )
    exit_code = 14
    template = "store {} is full: {}"


class StoreVersionError(StoreError):
    """The store has a format that this version does not know."""

    hint = "Use a Firebrick that knows the format, or another directory; the store is left unchanged."
    exit_code = 15
    template = "store {} has an unknown format: {}"


class NetworkFilesystemError(StoreError):
    """The directory is on a file system where memory maps and locks are unsafe."""

    hint = "Keep the store on a local disk or tmpfs, one per machine."
    exit_code = 16
    template = "store {} cannot live here: {}"


class StorePermissionError(StoreError):
    """The directory is not private to this user, or this user may not use it."""

    hint = "Use a real directory that you own, with mode 0700 (chmod 700)."
    exit_code = 17
    template = "store {} is not safe to use: {}"


class StoreClosed(StoreError):
    """The store or snapshot was closed, or belongs to the parent process."""

    hint = "Open the store again; do not carry snapshots across a fork."
    exit_code = 18
    template = "store {} is closed: {}"


class StoreDamaged(StoreError):
    """The store's file is not a sound LMDB file, so nothing in it can be trusted."""

    hint = "Programs that record begin a new file; or delete the directory: all of it can be compiled again."
    exit_code = 19
    template = "store {} is damaged: {}"


class StoreUntrusted(StoreError):
    """The store may come from somebody else, and is not known to be safe to open."""

    hint = "Share a sealed pack instead, or use a py-lmdb with its patches (its wheels have them)."
    exit_code = 20
    template = "store {} is not trusted: {}"


class NotFoundError(FirebrickError):
    """The store does not have the requested entry; a plain miss."""

    hint = "Compile as usual."
    exit_code = 30
    template = "nothing stored under {}"

    def __init__(self, key: bytes) -> None:
        super().__init__(key)
        self.key = key


class BlobMissing(NotFoundError):
    """No blob has this content key."""

    exit_code = 31
    template = "no blob {}"


class BundleMissing(NotFoundError):
    """No bundle has this content key."""

    exit_code = 32
    template = "no bundle {}"


class NoSuchEntry(FirebrickError):
    """Nothing in the store has this key or name."""

    hint = "`firebrick ls` lists the entries."
    exit_code = 33
    template = "nothing in the store is called {}"

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


class DamagedError(FirebrickError):
    """Stored bytes do not match their key or their header."""

    hint = "Run check; putting the same content again replaces the damaged bytes."
    exit_code = 40
    template = "damaged entry {}: {}"

    def __init__(self, key: bytes, reason: str) -> None:
        super().__init__(key, reason)
        self.key = key
        self.reason = reason


class Untrusted(FirebrickError):
    """An entry of a layer lacks a trusted signature, which the layer's policy requires."""

    hint = "It is not used. `firebrick keys` lists the trusted keys, `firebrick verify` the signed entries."
    exit_code = 42
    template = "{} is not believed: {}"

    def __init__(self, what: str, reason: str) -> None:
        super().__init__(what, reason)
        self.what = what
        self.reason = reason


class StillReferenced(FirebrickError):
    """An entry was not deleted because it is pinned or something in the store still needs it."""

    hint = "Delete the entries that refer to it first, or use force=True and lose them."
    exit_code = 41
    template = "{} is still needed by {}"

    def __init__(self, key: bytes, users: Sequence[str]) -> None:
        super().__init__(key, tuple(users))
        self.key = key
        self.users = tuple(users)


class CodecError(FirebrickError):
    """A value cannot be turned into bytes, or bytes into a value."""

    hint = "The entry is not used; compile as usual."
    exit_code = 50


class EncodeError(CodecError):
    """A value of this type, at this place, has no faithful encoding."""

    hint = "The function is not stored; the message names the value that prevents it."
    exit_code = 51
    template = "cannot encode {} at {}: {}"

    def __init__(self, type_name: str, where: str = "the root", reason: str = "") -> None:
        super().__init__(type_name, where, reason)
        self.type_name = type_name
        self.where = where
        self.reason = reason


class DecodeError(CodecError):
    """Bytes are not a valid encoding."""

    exit_code = 52

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class LimitExceeded(CodecError):
    """A value or an encoding is larger, deeper or longer than the format allows."""

    hint = "The entry is not used; a legitimate value of this size is not storable."
    exit_code = 53
    template = "{} is {}, more than the limit of {}"

    def __init__(self, what: str, actual: int, limit: int) -> None:
        super().__init__(what, actual, limit)
        self.what = what
        self.actual = actual
        self.limit = limit


class UnknownKind(CodecError):
    """No codec is registered for this kind of blob."""

    hint = "Use a Firebrick that knows this kind."
    exit_code = 54
    template = "unknown kind {}"

    def __init__(self, kind: int) -> None:
        super().__init__(int(kind))
        self.kind = int(kind)


class UnknownVersion(CodecError):
    """The codec of this kind does not know this version of the encoding."""

    hint = "Use a Firebrick that knows this version."
    exit_code = 55
    template = "unknown version of kind {}: {}"

    def __init__(self, kind: int, version: int) -> None:
        super().__init__(int(kind), version)
        self.kind = int(kind)
        self.version = version


class ForbiddenGlobal(CodecError):
    """An encoding names a class or function that it may not use."""

    hint = "The entry is not used; only names on the codec's allow-list are resolved or called."
    exit_code = 56
    template = "{} is not allowed here: {}"

    def __init__(self, name: str, where: str = "") -> None:
        super().__init__(name, where)
        self.name = name
        self.where = where


class IncompleteBundle(FirebrickError):
    """A bundle was not published because some of its parts are not in the store."""

    hint = "Pass the missing parts together with the bundle; nothing was written."
    exit_code = 60
    template = "bundle lacks {}"

    def __init__(self, missing: Sequence[bytes]) -> None:
        super().__init__(tuple(missing))
        self.missing = tuple(missing)


class EditConflict(FirebrickError):
    """Another writer changed the same names of a context since they were read."""

    hint = "Read the context again and repeat the edit."
    exit_code = 61
    template = "context {} changed meanwhile: {}"

    def __init__(self, context: str, names: Sequence[str]) -> None:
        super().__init__(context, tuple(names))
        self.context = context
        self.names = tuple(names)


class NotStorable(FirebrickError):
    """A compiled function cannot be stored faithfully."""

    hint = "The function runs as compiled; the message names what prevents storing it."
    exit_code = 70
    template = "not storable: {}"

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class NotLean(NotStorable):
    """A compiled function cannot take the lean lane: it cannot be restored without torch's compiler."""

    hint = "The function is stored for the full lane; the message names what prevents the lean one."
    exit_code = 72
    template = "not lean: {}"


class Unsupported(FirebrickError):
    """Firebrick does not support this PyTorch, Python or platform."""

    hint = "Use a supported version; programs run as if Firebrick were absent."
    exit_code = 71
    template = "not supported: {}"

    def __init__(self, what: str) -> None:
        super().__init__(what)
        self.what = what


class AuditError(FirebrickError):
    """An audit traced a frame afresh, and the trace differs from the stored one."""

    hint = (
        "The stored function is stale: please report the difference. FIREBRICK_LOAD=0 serves nothing; the "
        "store can be deleted."
    )
    exit_code = 73
    template = "{} ({} lane): what is stored is not what torch makes of it now ({})\n{}"

    def __init__(
        self, function: str, lane: str, parts: Sequence[str], diff: str, stored: str = "", fresh: str = ""
    ) -> None:
        super().__init__(function, lane, tuple(parts), diff, stored, fresh)
        self.function = function
        self.lane = lane
        self.parts = tuple(parts)
        self.diff = diff
        self.stored = stored
        self.fresh = fresh


class WouldCompile(FirebrickError):
    """A start that may not compile met a function that the store does not serve."""

    hint = "Fill the store with `firebrick warm`; `firebrick explain` says why a function was not found."
    exit_code = 74
    template = "locked, and {} would be compiled: {}"

    def __init__(self, function: str, reason: str) -> None:
        super().__init__(function, reason)
        self.function = function
        self.reason = reason


class InternalError(FirebrickError):
    """Firebrick contradicts itself; this is a bug."""

    hint = "Please report it with the message and the versions."
    exit_code = 80

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
