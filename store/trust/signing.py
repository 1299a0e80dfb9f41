"""Sign the contents of a store or pack, and list its signatures."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection, Iterator

from firebrick.base.digest import digest
from firebrick.base.namedtuple import NamedTuple
from firebrick.errors import StoreUntrusted, StrPath, Untrusted
from firebrick.storage.blob import decode_record
from firebrick.storage.keys import short
from firebrick.storage.pack import Pack, Seal
from firebrick.storage.store import Store
from firebrick.storage.view import ReadView
from firebrick.trust.guard import Judge, stored
from firebrick.trust.signing_keys import PublicKey, SecretKey
from firebrick.trust.statements import PACK, RECIPE, VALUE, Signature, Statement, record_key, sign


class Verdict(NamedTuple):
    """Whether the signature of one entry is trusted."""

    what: str
    reason: str  # why it is not trusted; empty if it is
    key: str = ""  # name of the trusted key
    version: int = 0


def sign_store(
    store: Store,
    key: SecretKey,
    *,
    recipes: Collection[bytes] | None = None,
    expires: int = 0,
    now: float | None = None,
) -> int:
    """Sign the index of a store: each recipe with its present bundles, each registry value.

    The signer answers for the contents. Signatures of the same key are replaced, those of others stay.

    Args:
        store: Open for writing, without layers.
        key: The key to sign with.
        recipes: Keys of the recipes to sign, without the registry; None for everything.
        expires: Seconds since 1970 at which the signatures expire; 0 for never.
        now: Seconds since 1970, the version unless there is a higher one; default the clock.

    Returns:
        The number of entries signed.
    """
    with store.snapshot() as snapshot:
        view = snapshot.view
        version = max(int(time.time() if now is None else now), _highest(view, key.public) + 1)
        entries = [*_entries(view, recipes)]
    statements = (Statement(*entry, version, expires) for entry in entries)
    signatures = [sign(statement, key) for statement in statements]
    store.attach({record_key(signature): signature.pack() for signature in signatures})
    return len(signatures)


def sealer(key: SecretKey, *, expires: int = 0, now: float | None = None) -> Callable[[bytes], Seal]:
    """Return a function that signs the index of a pack."""
    version = int(time.time() if now is None else now)

    def seal(index: bytes) -> Seal:
        signature = sign(Statement(PACK, b"", (index,), version, expires), key)
        return Seal(signature.key_id, version, expires, signature.signature)

    return seal


def verify_pack(pack: Pack, judge: Judge) -> Signature:
    """Return the newest trusted signature of a pack; StoreUntrusted if there is none."""
    signatures = (
        Signature(
            Statement(PACK, b"", (pack.digest,), seal.version, seal.expires), seal.key_id, seal.signature
        )
        for seal in pack.seals
    )
    try:
        return judge.newest(signatures, "the pack", pack.path, PACK.encode())
    except Untrusted as error:
        raise StoreUntrusted(pack.path, error.reason) from None


def verdicts(view: ReadView, judge: Judge, place: StrPath) -> Iterator[Verdict]:
    """Yield for every recipe and registry value whether it is trusted."""
    for kind, subject, content in _entries(view, None):
        what = f"{kind} {short(subject)}"
        try:
            best = judge.newest(stored(view, kind, subject), what, os.fspath(place), subject)
        except Untrusted as error:
            yield Verdict(what, error.reason)
            continue
        name = judge.folder.trusted()[best.key_id].name
        same = set(content) <= set(best.statement.content)
        yield Verdict(what, "" if same else "it is not what was signed", name, best.statement.version)


def _entries(
    view: ReadView, recipes: Collection[bytes] | None
) -> Iterator[tuple[str, bytes, tuple[bytes, ...]]]:
    for recipe in dict.fromkeys(key for key, _ in view.items("recipes")):
        if recipes is None or recipe in recipes:
            yield RECIPE, recipe, tuple(view.duplicates("recipes", recipe))
    if recipes is None:
        for key, value in view.items("registry"):
            yield VALUE, key, (digest(decode_record("registry", key, value)),)


def _highest(view: ReadView, key: PublicKey) -> int:
    """Return the highest version that a key has signed in a store; a new one must exceed it."""
    found = (
        signature for kind, subject, _ in _entries(view, None) for signature in stored(view, kind, subject)
    )
    own = (signature for signature in found if signature.made_with(key))
    return max((signature.statement.version for signature in own), default=0)
