"""Begin a new file where the structure of the store's is damaged, so that recordings heal it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from firebrick.errors import FirebrickError, StoreDamaged, StoreError, StoreVersionError

if TYPE_CHECKING:
    from firebrick.settings import Settings
    from firebrick.storage.store import Store

RENEWED: Final = "beginning a new file, and keeping the damaged one as data.mdb.damaged"
_STRUCTURAL: Final = (StoreError, StoreDamaged, StoreVersionError)  # what LMDB may say of damage


def renewed(
    settings: Settings, path: str, store: Store | None = None, error: BaseException | None = None
) -> str:
    """Replace a store's file if its structure is damaged, and return the first fault; else "".

    Args:
        settings: A file is replaced only where programs are recorded, and faults are passed over.
        path: The directory of the store.
        store: The store, if it is open.
        error: What made it doubtful; nothing is done for errors of other stores, or that damage cannot cause.
            None for a look in advance, which spares large files.
    """
    if settings.readonly or settings.strict or not settings.record:
        return ""
    if error is not None and (type(error) not in _STRUCTURAL or getattr(error, "path", None) != path):
        return ""
    from firebrick.storage.format import VERIFIED_BYTES
    from firebrick.storage.quarantine import set_aside

    most = VERIFIED_BYTES if error is None else 0
    try:
        return set_aside(path, most=most) if store is None else store.set_aside(most=most)
    except FirebrickError:
        return ""  # who records meets it again
