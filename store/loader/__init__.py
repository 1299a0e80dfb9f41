"""The serving side: turns bundles into functions. The full lane may import torch's compiler."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from firebrick.storage.store import Store

__all__ = ["load"]


def load(key: bytes | str, store: Store) -> Callable[..., Any]:
    """Rebuild one backend function from its artifact alone: no ``torch.compile``, no guards.

    Nothing is compiled, and no C++ compiler is needed. An artifact in lean form is restored without torch's
    compiler; torch's own artifact imports it.

    Args:
        key: content key of an artifact, as bytes or in hexadecimal: of a blob of kind ``BACKEND``,
            ``LEAN_BACKEND`` or ``LEAN_SPLIT``. A context returns it for torch's id of a backend:
            ``context.history(backend_id)[-1].content``.
        store: holds the artifact; may be closed afterwards.

    Returns:
        The function that the compiled bytecode calls: it takes the graph's inputs as positional arguments and
        returns its outputs as a sequence. The caller must pass inputs of the types, shapes and strides it was
        compiled for: nothing checks them.

    Raises:
        UsageError: the key is malformed.
        BlobMissing, DamagedError, CodecError: a part cannot be read, or is of another kind.
        Unsupported: this CPU lacks something the function needs, or torch differs from the artifact's.
    """
    from firebrick.errors import Unsupported, UsageError
    from firebrick.reports.counters import Stats
    from firebrick.storage.format import Kind
    from firebrick.storage.keys import ContentKey

    if isinstance(key, str):
        try:
            key = bytes.fromhex(key)
        except ValueError as error:
            raise UsageError(f"expected a content key in hexadecimal, got {key!r}") from error
    if store.get(key).kind in (Kind.LEAN_BACKEND, Kind.LEAN_SPLIT):
        from firebrick.loader.lean_backends import LeanBackends

        return LeanBackends(store).load(key)
    from firebrick import torch_api
    from firebrick.base.patches import Patches
    from firebrick.loader.full_backends import Backends
    from firebrick.loader.libraries import Libraries
    from firebrick.loader.wrapper_libraries import WrapperLibraries

    cache, libraries, patches = torch_api.load().CppCodeCache, Libraries(), Patches()
    load_async = WrapperLibraries(libraries).loading_library(cache.load_async.__func__)
    patches.set(cache, "load_async", classmethod(load_async))
    try:
        return Backends(store, libraries, Stats()).load(key, ContentKey(key).hex())
    except (AttributeError, ImportError, TypeError) as error:  # another torch's layout
        raise Unsupported(f"artifact {key.hex()[:12]} is not of this torch: {error}") from error
    finally:
        patches.undo()
