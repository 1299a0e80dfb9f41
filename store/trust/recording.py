"""A store that signs what is recorded into it, so that a required signature needs no second step."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from firebrick.base.digest import digest
from firebrick.storage.blob import Blob, decode_record
from firebrick.storage.keys import ContentKey, pack_strings
from firebrick.storage.reader import registry_key
from firebrick.storage.store import Store
from firebrick.storage.transaction import Transaction
from firebrick.storage.view import ReadView
from firebrick.trust.guard import stored
from firebrick.trust.signing_keys import SecretKey
from firebrick.trust.statements import RECIPE, VALUE, Statement, record_key, sign


class SigningStore(Store):
    """A `Store` that signs each bundle and each registry value that it is given.

    A signature names the bundles that this key has signed before and the new one; what others put under the
    same recipe stays unsigned.

    Attributes:
        signer: The key; None signs nothing. See `signing`.
    """

    signer: SecretKey | None = None

    def publish(
        self,
        recipe: bytes,
        components: Mapping[str, str],
        manifest: Blob,
        parts: Sequence[ContentKey],
        blobs: Iterable[Blob] = (),
        facts: Mapping[str, Any] | None = None,
    ) -> bool:
        """Publish a bundle, as `Store.publish`, and sign it, whoever published it first."""
        new = super().publish(recipe, components, manifest, parts, blobs, facts)
        if self.signer is not None:
            self._sign([(RECIPE, recipe, manifest.key)])
        return new

    def registry_update(
        self,
        context: str,
        changes: Mapping[tuple[str, str], bytes | None],
        *,
        blobs: Iterable[Blob] = (),
        expect: Mapping[tuple[str, str], bytes | None] | None = None,
    ) -> None:
        """Change values of a context, as `Store.registry_update`, and sign those that are set."""
        super().registry_update(context, changes, blobs=blobs, expect=expect)
        if self.signer is not None:
            bodies = {
                registry_key(context, *name): (context.encode(), *(text.encode() for text in name), value)
                for name, value in changes.items()
                if value is not None
            }
            self._sign([(VALUE, key, digest(pack_strings(body))) for key, body in bodies.items()])

    def _sign(self, entries: Sequence[tuple[str, bytes, bytes]]) -> None:
        """Sign entries, given as kind, subject and what is added to the content, where that is to do."""
        with self._open.top.begin() as view:
            due = [entry for entry in entries if self._statement(view, *entry) is not None]
        if due:
            self._write(lambda txn: self._attach(txn, due))

    def _attach(self, txn: Transaction, entries: Sequence[tuple[str, bytes, bytes]]) -> None:
        for entry in entries:
            statement = self._statement(txn, *entry)
            if statement is not None and self.signer is not None:
                signature = sign(statement, self.signer)
                txn.put_record("meta", record_key(signature), signature.pack())

    def _statement(self, view: ReadView, kind: str, subject: bytes, added: bytes) -> Statement | None:
        """Return what is to be signed; None if it is signed, or others have replaced it."""
        if self.signer is None:
            return None
        key = self.signer.public
        old = next((found for found in stored(view, kind, subject) if found.made_with(key)), None)
        if kind == RECIPE:
            present = view.duplicates("recipes", subject)
            known = {added, *(old.statement.content if old else ())}
            content = tuple(bundle for bundle in present if bundle in known)
        else:
            value = view.get("registry", subject)
            body = b"" if value is None else decode_record("registry", subject, value)
            content = (added,) if digest(body) == added else ()
        if added not in content or (old is not None and old.statement.content == content):
            return None
        version = max(int(time.time()), old.statement.version + 1 if old else 0)
        return Statement(kind, subject, content, version)


def signing(key: SecretKey) -> type[SigningStore]:
    """Return the class of stores that sign with a key."""
    return type(SigningStore.__name__, (SigningStore,), {"signer": key})
