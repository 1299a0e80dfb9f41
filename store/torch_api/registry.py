"""torch's registry of precompiled functions: its class, its contents, and its mirror.

Source followed: ``torch/_dynamo/precompile_context.py`` and ``torch/_dynamo/package.py`` of torch
2.11 to 2.14. Importing this module imports neither torch nor its compiler; calling into it does.
"""

from __future__ import annotations

import copy
import functools
import importlib.util
import inspect
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from types import SimpleNamespace
from typing import Any, Protocol

_ARTIFACTS = "_backend_artifacts_by_key"
_ENTRIES = "_dynamo_cache_entries"
_left_behind: list[Any] = []  # values of the last context left in torch's registry


class InMemory(Protocol):
    """A mapping that can list its values in memory."""

    def __setitem__(self, key: str, value: Any, /) -> None: ...

    def __contains__(self, key: object, /) -> bool: ...

    def in_memory(self) -> dict[str, Any]:
        """Return the values now in memory, as a plain dictionary."""


class RegistryMirror(Protocol):
    """The interface of a mirror of torch's registry."""

    @property
    def backend_artifacts(self) -> InMemory:
        """The artifacts by key."""

    @property
    def dynamo_cache_entries(self) -> InMemory:
        """The entries by key."""

    def edit_artifact(self, key: str, edit_fn: Callable[..., Any], /) -> None:
        """Replace the content of an artifact."""

    def clear(self) -> None:
        """Remove everything."""

    def create_cache_entries(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Join entries and artifacts."""


def precompile_module() -> Any:
    """Return torch's module of the registry and of backend artifacts."""
    import torch._dynamo.precompile_context

    return torch._dynamo.precompile_context


def package_module() -> Any:
    """Return torch's module of Dynamo entries."""
    import torch._dynamo.package

    return torch._dynamo.package


@contextmanager
def without_precompile() -> Iterator[None]:
    """Turn ``caching_precompile`` off in this thread without a trace in the configuration.

    ``config.patch`` leaves one: it turns the default it found into a value that was set.
    """
    import torch._dynamo.config as config

    entry: Any = config._config["caching_precompile"]  # type: ignore[attr-defined]
    override = entry.user_override
    if isinstance(override, ContextVar):
        token = override.set(False)
        try:
            yield
        finally:
            override.reset(token)
    else:  # torch 2.11 keeps one value for all threads
        entry.user_override = False
        try:
            yield
        finally:
            entry.user_override = override


def artifact_module() -> Any:
    """Return torch's module of AOTAutograd's and Inductor's artifacts.

    Importing it imports every module whose classes such an artifact may hold.
    """
    import torch._functorch._aot_autograd.aot_autograd_result
    import torch._functorch._aot_autograd.autograd_cache
    import torch._inductor.codecache
    import torch._inductor.decomposition

    if importlib.util.find_spec("triton") is not None:
        import torch._inductor.cudagraph_utils
        import torch._inductor.runtime.static_triton_launcher
        import torch._inductor.runtime.triton_heuristics
        import torch._inductor.triton_bundler

    return torch._functorch._aot_autograd.aot_autograd_result


def entry_class() -> Any:
    """Return the class of torch's record of one compiled function."""
    return package_module()._DynamoCacheEntry


def registry_class() -> Any:
    """Return torch's ``PrecompileContext``."""
    return precompile_module().PrecompileContext


def no_dispatch() -> AbstractContextManager[None]:
    """Disable torch's dispatch modes, ``FakeTensorMode`` among them, for a ``with`` block."""
    from torch.utils._mode_utils import no_dispatch

    guard: AbstractContextManager[None] = no_dispatch()
    return guard


def private_copy(artifact: Any) -> Any:
    """Return a deep copy of an artifact, made as torch does when recording."""
    with no_dispatch():
        return copy.deepcopy(artifact)


def debug_dump(entries: dict[str, Any], artifacts: dict[str, Any]) -> dict[str, Any]:
    """Return torch's description, fit for JSON, of recorded entries and artifacts."""
    dump: dict[str, Any] = registry_class().dump_debug_info(entries, artifacts)
    return dump


def run_on(method: str, artifacts: dict[str, Any], entries: dict[str, Any], **others: Any) -> Any:
    """Run a class method of torch's registry on two given mappings instead of torch's own.

    Args:
        method: name of the class method; torch's own function runs, even while wrapped.
        artifacts: replace the recorded artifacts, by key.
        entries: replace the recorded entries, by key.
        others: replace other attributes of the class.
    """
    function = inspect.unwrap(inspect.getattr_static(registry_class(), method).__func__)
    return function(SimpleNamespace(**{_ARTIFACTS: artifacts, _ENTRIES: entries}, **others))


def contents(torch_class: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the two mappings of a registry class: artifacts and entries, by key."""
    return getattr(torch_class, _ARTIFACTS), getattr(torch_class, _ENTRIES)


def mirror_onto(torch_class: Any, context: RegistryMirror) -> Callable[[], None]:
    """Unite torch's registry with a context: both use the same two mappings and cannot drift.

    Previous recordings of torch are first written to the context, except those the last context left behind,
    which are already in a store. From then on an in-place edit through the class is written through, and
    clearing it clears the context in one transaction.

    Args:
        torch_class: torch's ``PrecompileContext``, or a class of the same shape.
        context: its mirror, which must stay open until the undo is called.

    Returns:
        A function that restores the class's own methods, with plain dictionaries of the values in memory at
        that moment (unread values stay in the store); calling it again does nothing.
    """
    artifacts, entries = contents(torch_class)
    for own, mirror in (
        (artifacts, context.backend_artifacts),
        (entries, context.dynamo_cache_entries),
    ):
        for key, value in own.items():
            if not any(value is left for left in _left_behind):
                mirror[key] = value
    _left_behind.clear()

    saved = {
        name: inspect.getattr_static(torch_class, name)
        for name in ("edit_artifact", "clear", "create_cache_entries")
    }

    @functools.wraps(saved["edit_artifact"].__func__)
    def edit_artifact(cls: Any, key: str, edit_fn: Callable[..., Any]) -> None:
        if key in context.backend_artifacts:
            context.edit_artifact(key, edit_fn)
        else:
            inspect.unwrap(edit_artifact)(cls, key, edit_fn)  # raises as torch does

    @functools.wraps(saved["clear"].__func__)
    def clear(cls: Any) -> None:
        context.clear()

    @functools.wraps(saved["create_cache_entries"].__func__)
    def create_cache_entries(cls: Any) -> Any:
        return context.create_cache_entries()

    for method in (edit_artifact, clear, create_cache_entries):
        setattr(torch_class, method.__name__, classmethod(method))
    setattr(torch_class, _ARTIFACTS, context.backend_artifacts)
    setattr(torch_class, _ENTRIES, context.dynamo_cache_entries)

    def undo() -> None:
        if not saved:
            return
        for name, mirror in (
            (_ARTIFACTS, context.backend_artifacts),
            (_ENTRIES, context.dynamo_cache_entries),
        ):
            contents = mirror.in_memory()
            setattr(torch_class, name, contents)
            _left_behind.extend(contents.values())
        for name, original in saved.items():
            setattr(torch_class, name, original)
        saved.clear()

    return undo
