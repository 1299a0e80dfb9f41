"""Open a session's store and the layers below it as the settings say."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from firebrick.errors import FirebrickError, StoreDamaged, StoreReadOnly, StoreVersionError
from firebrick.session.renewal import RENEWED, renewed

if TYPE_CHECKING:
    from firebrick.settings import Settings
    from firebrick.storage.store import Store

OnFault = Callable[[BaseException, str], None]  # an error, and what is done about it


def open_store(settings: Settings, folder: Path, on_fault: OnFault) -> Store:
    """Open the store, read-only with a warning if it cannot be written."""
    kind = _kind(settings)
    options: dict[str, Any] = {"map_size": settings.map_size, "durable": settings.durable}
    options["max_bytes"] = settings.max_bytes
    try:
        return kind.open(folder, readonly=settings.readonly, **options)
    except (StoreDamaged, StoreVersionError) as error:
        if not renewed(settings, error.path, error=error):
            raise
        on_fault(error, RENEWED)
        return kind.open(folder, **options)
    except StoreReadOnly as error:
        if settings.readonly or settings.strict or not settings.load:
            raise
        try:
            store = kind.open(folder, readonly=True, **options)
        except FirebrickError:
            raise error from None
        if settings.record:
            on_fault(error, "serving from the store, and storing nothing")
        return store


def _kind(settings: Settings) -> type[Store]:
    """Return the class of the store, which signs if there is a key to sign with."""
    if not settings.sign:
        from firebrick.storage.store import Store

        return Store
    from firebrick.trust.opening import trust_folder
    from firebrick.trust.recording import signing

    return signing(trust_folder(settings.trust_dir).secret(settings.sign))


def add_layers(top: Store, settings: Settings, on_fault: Callable[[BaseException], None]) -> Store:
    """Return the store with the layers of the settings below it; it is closed if that fails."""
    from firebrick.trust.opening import layer_name, policy_of, trust_folder, with_layers

    try:
        names = [layer_name(text) for text in settings.layers]
        folder = trust_folder(settings.trust_dir)
        return with_layers(top, names, policy_of(settings.signatures), folder, on_fault)
    except BaseException:
        top.close()
        raise
