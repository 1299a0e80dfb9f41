"""Record in `clock` the keys a transaction needs, so that upkeep knows what it must not remove.

Upkeep looks for unneeded entries while others write. The journal lists everything needed since it began, by
transaction number. Entries also tell how long ago keys were put or released, for their grace.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence

from firebrick.errors import DamagedError, StoreLocked
from firebrick.storage import format as fmt
from firebrick.storage.format import KEY_BYTES
from firebrick.storage.reader import Keys, split_bundle
from firebrick.storage.transaction import Transaction

_MOST = 100_000  # keys per entry
_KEPT_S = 3600.0  # longer than any upkeep takes


def note(txn: Transaction, keys: Sequence[bytes]) -> None:
    """Record keys of bundles and blobs under this transaction's number, and drop old entries."""
    if not keys:
        return
    now = _now().to_bytes(8, "little")
    start = fmt.CLOCK_JOURNAL + txn.number.to_bytes(8, "big")
    taken = sum(1 for _ in txn.items("clock", prefix=start))
    for number, at in enumerate(range(0, len(keys), _MOST), taken):
        entry = start + number.to_bytes(4, "big")
        txn.put_record("clock", entry, now + b"".join(keys[at : at + _MOST]))
    first = next((key for key, _ in txn.items("clock", prefix=fmt.CLOCK_JOURNAL)), None)
    if first is not None and is_over(txn, first):
        txn.delete("clock", first)
        txn.put_record("clock", fmt.CLOCK_DROPPED, first[1:9])


def is_over(txn: Transaction, entry: bytes) -> bool:
    """Tell whether a journal entry is obsolete, as damaged ones are."""
    with contextlib.suppress(DamagedError):
        body = txn.record("clock", entry)
        return body is None or abs(_now() - int.from_bytes(body[:8], "little")) > _KEPT_S
    return True


def needed(txn: Transaction, since: int, grace: float = 0.0) -> set[bytes]:
    """Return the keys that transactions need, with the parts of bundles.

    Args:
        txn: the transaction to read in.
        since: number of a transaction; later ones count.
        grace: seconds; entries within it count as well.

    Raises:
        StoreLocked: An entry that counts was dropped, because the clock jumped; try again.
    """
    with contextlib.suppress(DamagedError):
        dropped = txn.record("clock", fmt.CLOCK_DROPPED) or b""
        if int.from_bytes(dropped, "big") > since:
            raise StoreLocked(txn.path, "the clock jumped, so what others came to need is not known")
    found, now, prefix = set[bytes](), _now(), fmt.CLOCK_JOURNAL
    start = prefix if grace else prefix + (since + 1).to_bytes(8, "big")
    for key, _ in txn.items("clock", start, prefix):
        with contextlib.suppress(DamagedError):
            body = txn.record("clock", key) or b""
            recent = abs(now - int.from_bytes(body[:8], "little")) < grace
            if recent or int.from_bytes(key[1:9], "big") > since:
                found.update(body[at : at + KEY_BYTES] for at in range(8, len(body), KEY_BYTES))
    for key in [key for key in found if txn.has("bundles", key)]:
        found.update(parts_of(txn, key))
    return found


def parts_of(txn: Transaction, bundle: bytes) -> Keys:
    """Return the parts of a bundle, as far as readable."""
    value = txn.get("bundles", bundle)
    with contextlib.suppress(DamagedError):
        return [] if value is None else split_bundle(bundle, value)[1]
    return []


def _now() -> int:
    return max(0, int(time.time()))
