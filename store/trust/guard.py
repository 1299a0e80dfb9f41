"""Accept entries signed by trusted keys: the guard of a layer."""

from __future__ import annotations

import enum
import time
from collections.abc import Callable, Iterator

from firebrick.base.digest import digest
from firebrick.errors import DamagedError, DecodeError, FirebrickError, Untrusted
from firebrick.storage.blob import decode_record
from firebrick.storage.keys import Data, short
from firebrick.storage.view import ReadView
from firebrick.trust.folder import TrustFolder
from firebrick.trust.marks import Marks
from firebrick.trust.statements import RECIPE, VALUE, Signature, prefix_of, unpack_signature


class SignaturePolicy(enum.StrEnum):
    """The use of a layer's signatures."""

    NONE = "none"  # none: whoever can write to the layer is trusted
    WARN = "warn"  # unsigned entries serve, with one warning
    REQUIRE = "require"  # unsigned entries do not serve


class Judge:
    """A judge of signatures: keys, expiry and marks. Thread-safe."""

    def __init__(self, folder: TrustFolder, clock: Callable[[], float] = time.time) -> None:
        """Judge by the keys and marks of a folder."""
        self.folder = folder
        self._marks = Marks(folder)
        self._clock = clock
        self._verified: set[Signature] = set()

    def check(self, signature: Signature, what: str) -> None:
        """Raise Untrusted unless a signature is trusted, regardless of its age."""
        if (key := self.folder.trusted().get(signature.key_id)) is None:
            revoked = self.folder.revoked().get(signature.key_id)
            name = f"the key {signature.key_id.hex()} of its signature is not trusted"
            raise Untrusted(what, name if revoked is None else f"its key {revoked.name} is revoked")
        if signature not in self._verified:
            if not signature.made_with(key):
                raise Untrusted(what, f"its signature was not made with {key.name}, which it names")
            self._verified.add(signature)
        expires = signature.statement.expires
        if expires and self._clock() > expires:
            raise Untrusted(what, f"its signature by {key.name} has expired")

    def newest(self, signatures: Iterator[Signature], what: str, place: str, subject: bytes) -> Signature:
        """Return the newest trusted signature of an entry.

        Raises:
            Untrusted: There is none, or it is older than one already met at this place.
        """
        believed: list[Signature] = []
        refused: list[Untrusted] = []  # those with a trusted key explain most
        for signature in signatures:
            try:
                self.check(signature, what)
            except Untrusted as error:
                refused.insert(0 if signature.key_id in self.folder.trusted() else len(refused), error)
            else:
                believed.append(signature)
        if not believed:
            raise refused[0] if refused else Untrusted(what, "it is not signed")
        best = max(believed, key=lambda signature: signature.statement.version)
        if not self._marks.rose(place, subject, best.statement.version):
            raise Untrusted(what, f"version {best.statement.version} is older than one that was met before")
        return best


class Verifier:
    """The guard of a layer whose entries are signed one by one."""

    def __init__(
        self, judge: Judge, policy: SignaturePolicy, place: str, on_refused: Callable[[BaseException], None]
    ) -> None:
        """Guard a layer.

        Args:
            judge: Decides which signatures are trusted.
            policy: WARN or REQUIRE.
            place: Path of the layer; marks belong to it.
            on_refused: Called with the error for each untrusted entry.
        """
        self._judge = judge
        self._strict = policy is SignaturePolicy.REQUIRE
        self._place = place
        self._on_refused = on_refused

    def bundles(self, view: ReadView, recipe: bytes, found: list[bytes]) -> list[bytes]:
        """Return the trusted bundles of a recipe."""
        what = f"recipe {short(recipe)} of {self._place}"
        content = self._content(view, RECIPE, recipe, what)
        if content is None:
            return [] if self._strict else found
        if extra := [bundle for bundle in found if bundle not in content]:
            self._on_refused(
                Untrusted(what, f"its bundle {short(extra[0])} is not among those that are signed")
            )
        return [bundle for bundle in found if bundle in content] if self._strict else found

    def value(self, view: ReadView, key: bytes, value: Data) -> bool:
        """Tell whether a registry entry is trusted."""
        what = f"registry entry {short(key)} of {self._place}"
        content = self._content(view, VALUE, key, what)
        try:
            believed = content is not None and content == (digest(decode_record("registry", key, value)),)
        except DamagedError:
            return True  # the reader reports it
        if content is not None and not believed:
            self._on_refused(Untrusted(what, "its signature is of another value"))
        return believed or not self._strict

    def _content(self, view: ReadView, kind: str, subject: bytes, what: str) -> tuple[bytes, ...] | None:
        try:
            signatures = stored(view, kind, subject)
            return self._judge.newest(signatures, what, self._place, subject).statement.content
        except FirebrickError as error:  # an unreadable key directory trusts nothing
            self._on_refused(error)
            return None


def stored(view: ReadView, kind: str, subject: bytes) -> Iterator[Signature]:
    """Yield the signatures of an entry, except damaged ones."""
    prefix = prefix_of(kind, subject)
    for key, value in view.items("meta", prefix=prefix):
        try:
            body = decode_record("meta", key, value)
            yield unpack_signature(kind, subject, key[len(prefix) :], body)
        except (DamagedError, DecodeError):
            continue
