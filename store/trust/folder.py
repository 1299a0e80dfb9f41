"""Read the trusted keys from this user's own directory, outside every store.

| file | what it is |
|---|---|
| `trusted` | public keys, one `NAME:BASE64` a line; `#` begins a comment |
| `revoked` | public keys that are believed no longer, whatever `trusted` says |
| `NAME.key` | a secret key, mode 0600; only where something is signed |
| `marks` | the highest versions that were seen (`marks`) |

Whoever can write to the directory decides what is trusted. It is checked through descriptors, and refused if
others may write to it or to one of its files. To rotate a key, trust the new one, sign again with it, and
revoke the old one.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Final

from firebrick.errors import StorePermissionError, UsageError
from firebrick.storage.os_errors import from_system
from firebrick.trust.signing_keys import PublicKey, SecretKey, checked_name, parse_public, parse_secret

TRUSTED: Final = "trusted"
REVOKED: Final = "revoked"
_MOST_BYTES: Final = 1 << 20
Stamp = tuple[int, int, int]


class TrustFolder:
    """The keys of a directory, reread when their files change. Thread-safe."""

    def __init__(self, path: Path) -> None:
        """Refer to a directory; it need not exist, and then nobody is trusted."""
        self.path = path
        self._read: dict[str, tuple[Stamp | None, dict[bytes, PublicKey]]] = {}

    def trusted(self) -> dict[bytes, PublicKey]:
        """Return the trusted keys that are not revoked, by id."""
        revoked = self.revoked()
        return {key_id: key for key_id, key in self._keys(TRUSTED).items() if key_id not in revoked}

    def revoked(self) -> dict[bytes, PublicKey]:
        """Return the revoked keys, by id."""
        return self._keys(REVOKED)

    def trust(self, key: PublicKey) -> bool:
        """Trust a key; return False if it already was. UsageError if it is revoked."""
        if key.id in self.revoked():
            raise UsageError(f"key {key.name} is revoked: sign with a new one")
        return self._add(TRUSTED, key)

    def revoke(self, key: PublicKey) -> bool:
        """Revoke a key, even if trusted; return False if it already was."""
        return self._add(REVOKED, key)

    def find(self, name: str) -> PublicKey:
        """Return a key by name, by the digits of its id, or from `NAME:BASE64`; UsageError."""
        if ":" in name:
            return parse_public(name)
        known = self._keys(TRUSTED) | self.revoked()
        found = [key for key_id, key in known.items() if key.name == name or key_id.hex() == name]
        if len(found) != 1:
            raise UsageError(f"{len(found)} keys are called {name!r}: give the id, or NAME:BASE64")
        return found[0]

    def make(self, name: str) -> PublicKey:
        """Create a secret key, and trust it here; UsageError if the name exists."""
        key = SecretKey.generate(name)
        self._write(f"{name}.key", key.text, os.O_EXCL)
        self.trust(key.public)
        return key.public

    def secret(self, name: str) -> SecretKey:
        """Return a secret key; UsageError if there is none of this name."""
        file = f"{checked_name(name)}.key"
        data, _ = self._load(file)
        if data is None:
            raise UsageError(f"no secret key {self.path / file}: make one with `firebrick keys new {name}`")
        return parse_secret(data.decode(errors="replace"))

    def secrets(self) -> list[str]:
        """Return the names of the secret keys present, sorted."""
        return sorted(file.stem for file in self.path.glob("*.key"))

    # -- files

    def _keys(self, file: str) -> dict[bytes, PublicKey]:
        before = self._read.get(file)
        data, stamp = self._load(file, before[0] if before is not None else None)
        if data is None and before is not None and stamp == before[0]:
            return before[1]
        texts = (
            line.partition("#")[0].strip() for line in (data or b"").decode(errors="replace").splitlines()
        )
        keys = {key.id: key for key in map(parse_public, filter(None, texts))}
        self._read[file] = stamp, keys
        return keys

    def _load(self, file: str, known: Stamp | None = None) -> tuple[bytes | None, Stamp | None]:
        """Read a file and its change stamp; nothing if it is missing or unchanged since `known`."""
        try:
            fd = self.open(file, os.O_RDONLY)
        except FileNotFoundError:
            return None, None
        except OSError as error:
            raise from_system(os.fspath(self.path / file), error) from error
        with open(fd, "rb") as opened:
            info = os.fstat(fd)
            stamp = info.st_ino, info.st_size, info.st_mtime_ns
            return (None if stamp == known else opened.read(_MOST_BYTES)), stamp

    def open(self, file: str, flags: int) -> int:
        """Open a file of the directory, through no symbolic link, if only its owner may write to it.

        Raises:
            StorePermissionError: Others may write to the directory or the file.
            OSError: The system refuses it.
        """
        folder = os.open(self.path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            _refuse_shared(self.path, os.fstat(folder))
            fd = os.open(file, flags | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600, dir_fd=folder)
        finally:
            os.close(folder)
        try:
            _refuse_shared(self.path / file, os.fstat(fd))
        except BaseException:
            os.close(fd)
            raise
        return fd

    def _add(self, file: str, key: PublicKey) -> bool:
        if key.id in self._keys(file):
            return False
        self._write(file, key.text, os.O_APPEND)
        return True

    def _write(self, file: str, line: str, flags: int) -> None:
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            with open(self.open(file, os.O_WRONLY | os.O_CREAT | flags), "w") as opened:
                opened.write(line + "\n")
        except FileExistsError:
            raise UsageError(f"{self.path / file} is there already") from None
        except OSError as error:
            raise from_system(os.fspath(self.path / file), error) from error


def _refuse_shared(path: Path, info: os.stat_result) -> None:
    if info.st_uid not in (os.geteuid(), 0):
        raise StorePermissionError(path, f"it belongs to user {info.st_uid}, not {os.geteuid()}")
    if stat.S_IMODE(info.st_mode) & 0o022:
        raise StorePermissionError(
            path, f"its mode is {stat.S_IMODE(info.st_mode):o}: others may write to it"
        )
