"""Generate, write and read Ed25519 keys.

As text a key is `NAME:BASE64`, as in Nix: the name is for people, the id is a hash of the public key.
Everything here needs the package `cryptography`, the extra `sign`.

Source: RFC 8032; Nix, "Signing store paths".
"""

from __future__ import annotations

import base64
import binascii
import re
from typing import Any

from firebrick.base.namedtuple import NamedTuple
from firebrick.errors import Unsupported, UsageError
from firebrick.storage.keys import short_hash

KEY_BYTES = 32
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


class PublicKey(NamedTuple):
    """A key for verifying signatures; immutable."""

    name: str
    raw: bytes

    @property
    def id(self) -> bytes:
        """The 16 bytes by which signatures refer to the key."""
        return short_hash("signing key", self.raw)

    @property
    def text(self) -> str:
        """The key as a line of a key file."""
        return f"{self.name}:{base64.b64encode(self.raw).decode()}"

    def signed(self, signature: bytes, message: bytes) -> bool:
        """Tell whether a signature of a message was made with this key."""
        from cryptography.exceptions import InvalidSignature

        try:
            _ed25519().Ed25519PublicKey.from_public_bytes(self.raw).verify(signature, message)
        except (InvalidSignature, ValueError):
            return False
        return True


class SecretKey(NamedTuple):
    """A key for making signatures; immutable. Its repr does not reveal it."""

    name: str
    raw: bytes

    def __repr__(self) -> str:
        """Show only the name."""
        return f"SecretKey({self.name!r})"

    @classmethod
    def generate(cls, name: str) -> SecretKey:
        """Return a new key; UsageError for a name that is not a valid file name."""
        return cls(checked_name(name), _ed25519().Ed25519PrivateKey.generate().private_bytes_raw())

    @property
    def public(self) -> PublicKey:
        """The key for verification by others."""
        key = _ed25519().Ed25519PrivateKey.from_private_bytes(self.raw)
        return PublicKey(self.name, key.public_key().public_bytes_raw())

    @property
    def text(self) -> str:
        """The key as the line of its file; a secret."""
        return f"{self.name}:{base64.b64encode(self.raw).decode()}"

    def sign(self, message: bytes) -> bytes:
        """Return the signature of a message: 64 bytes."""
        signature: bytes = _ed25519().Ed25519PrivateKey.from_private_bytes(self.raw).sign(message)
        return signature


def parse_public(text: str) -> PublicKey:
    """Parse `NAME:BASE64` of a public key; UsageError for anything else."""
    return PublicKey(*_parse(text))


def parse_secret(text: str) -> SecretKey:
    """Parse `NAME:BASE64` of a secret key; UsageError, which does not show it, for anything else."""
    try:
        return SecretKey(*_parse(text))
    except UsageError:
        raise UsageError("not a secret key: expected NAME:BASE64 of 32 bytes") from None


def checked_name(name: str) -> str:
    """Return a name for a key; UsageError if it is not a plain word."""
    if not _NAME.fullmatch(name):
        raise UsageError(f"not a name for a key: {name!r}; expected letters, digits, dots and dashes")
    return name


def _parse(text: str) -> tuple[str, bytes]:
    name, colon, encoded = text.strip().partition(":")
    try:
        raw = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        raw = b""
    if not colon or len(raw) != KEY_BYTES:
        raise UsageError(f"not a key: {text.strip()[:100]!r}; expected NAME:BASE64 of {KEY_BYTES} bytes")
    return checked_name(name), raw


def _ed25519() -> Any:
    try:
        from cryptography.hazmat.primitives.asymmetric import ed25519
    except ImportError as error:
        advice = "signatures need the package cryptography: pip install firebrick[sign]"
        raise Unsupported(f"{advice} ({error})") from None
    return ed25519
