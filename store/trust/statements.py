"""State the content of an index entry, and sign the statement.

A digest protects a blob from changes, but not a recipe from leading to another bundle, whose digest is right
too. So the entry is signed: a recipe's bundles, a registry value, or the index of a sealed pack. A statement
names the complete set of a recipe's bundles, so that a withdrawn one is not trusted through an older
signature; versions only rise.

Source: The Update Framework (version, expiry, thresholds of keys); cosign; Nix's narinfo.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from firebrick.base.namedtuple import NamedTuple
from firebrick.errors import CodecError, DecodeError
from firebrick.storage.format import KEY_BYTES, META_SIGNATURE
from firebrick.storage.keys import Data
from firebrick.storage.msgpack import Limits, pack, unpack
from firebrick.trust.signing_keys import PublicKey, SecretKey

RECIPE: Final = "recipe"  # the subject is its key, the content the keys of its bundles
VALUE: Final = "value"  # the subject is the key of a registry entry, the content its digest
PACK: Final = "pack"  # there is no subject; the content is the digest of the index
SIGNATURE_BYTES: Final = 64
KEY_ID_BYTES: Final = 16
_DOMAIN: Final = b"firebrick signature 1\n"
_LIMITS: Final = Limits(size=1 << 20, depth=3, items=1 << 14)


class Statement(NamedTuple):
    """A statement of an entry's content; immutable."""

    kind: str
    subject: bytes
    content: tuple[bytes, ...]  # sorted
    version: int  # never lower than in an older statement on the same subject
    expires: int = 0  # seconds since 1970; 0 for never

    def message(self, key_id: bytes) -> bytes:
        """Return the bytes to sign."""
        fields = [key_id, self.kind, self.subject, [*self.content], self.version, self.expires]
        return _DOMAIN + pack(fields, maps=False)


class Signature(NamedTuple):
    """A statement with a key's id and its signature; not verified."""

    statement: Statement
    key_id: bytes
    signature: bytes

    def made_with(self, key: PublicKey) -> bool:
        """Tell whether it was made with this key."""
        return key.id == self.key_id and key.signed(self.signature, self.statement.message(self.key_id))

    def pack(self) -> bytes:
        """Return everything except the subject and the key's id, which are in the record's key."""
        statement = self.statement
        fields = [[*statement.content], statement.version, statement.expires, self.signature]
        return pack(fields, maps=False)


def sign(statement: Statement, key: SecretKey) -> Signature:
    """Sign a statement."""
    key_id = key.public.id
    return Signature(statement, key_id, key.sign(statement.message(key_id)))


def prefix_of(kind: str, subject: bytes) -> bytes:
    """Return the common prefix of the keys of an entry's signatures in `meta`."""
    return META_SIGNATURE + kind[:1].encode() + subject


def record_key(signature: Signature) -> bytes:
    """Return the key of a signature's record in `meta`."""
    statement = signature.statement
    return prefix_of(statement.kind, statement.subject) + signature.key_id


def unpack_signature(kind: str, subject: bytes, key_id: bytes, body: Data) -> Signature:
    """Parse the result of `Signature.pack`; DecodeError for anything else."""
    try:
        fields = unpack(body, _LIMITS)
    except CodecError as error:
        raise DecodeError(f"a signature: {error}") from None
    if not (isinstance(fields, list) and len(fields) == 4 and isinstance(fields[0], list)):
        raise DecodeError("a signature has other fields")
    content, version, expires, signature = fields
    if not (_are_bytes(content, KEY_BYTES) and _are_bytes([signature], SIGNATURE_BYTES)):
        raise DecodeError("a signature has a field of another length")
    if not all(type(number) is int and 0 <= number < 1 << 63 for number in (version, expires)):
        raise DecodeError("the version or the expiry of a signature is no number")
    return Signature(Statement(kind, subject, tuple(content), version, expires), key_id, signature)


def _are_bytes(values: Iterable[object], length: int) -> bool:
    return all(type(value) is bytes and len(value) == length for value in values)
