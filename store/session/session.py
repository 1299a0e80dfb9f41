"""Join `torch.compile`: enable and disable Firebrick in this process.

No part of torch's compiler is imported before the program does so. When ``torch._dynamo`` is imported its
``_optimize`` is wrapped (`import_hooks`); the first compilation for Inductor installs the other hooks
(`compiler_hooks`). With an unknown torch, or any fault while attaching, torch works as if we were absent.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import logging
import os
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from firebrick.base.gc_pause import no_collection
from firebrick.base.patches import Patches
from firebrick.context.current import ask_session
from firebrick.errors import DamagedError, FirebrickError, StoreClosed, StoreDamaged, Unsupported, UsageError
from firebrick.reports.counters import Stats
from firebrick.reports.log import to_stderr
from firebrick.session.after_import import AfterImport
from firebrick.session.renewal import RENEWED, renewed
from firebrick.session.stores import add_layers, open_store
from firebrick.session.unknown_torch import admit, cautious, is_tried
from firebrick.settings import Settings, worded_misspelt
from firebrick.torch_api import check_installed

if TYPE_CHECKING:
    from firebrick.context.context import Context
    from firebrick.loader.lean_entry import LeanEntry
    from firebrick.session.import_hooks import LazyHooks
    from firebrick.storage.store import Store
    from firebrick.validity.audit import Auditor

_log = logging.getLogger("firebrick")
_DYNAMO = "torch._dynamo"


class FirebrickWarning(RuntimeWarning):
    """Firebrick is inactive or continues without its store; the program runs as it would without it."""


class Session:
    """One process's use of one store: the store, the context, the counters and the hooks.

    Made by `enable`; ended by `disable` or at process exit. After a fork the child continues with the same
    session; its store is reopened on next use.
    """

    def __init__(self, settings: Settings, folder: Path) -> None:
        self.settings = settings
        self.folder = folder
        self.stats = Stats()
        self.store: Store | None = None
        self.context: Context | None = None
        self.entry: LeanEntry | None = None
        self.auditor: Auditor | None = None  # audits hits; usually None
        self.ending = False  # whether the process is exiting and can start no threads
        self._hooks: LazyHooks | None = None
        self._finders: list[AfterImport] = []
        self._patches = Patches()
        self._warned: set[str] = set()
        self._lock = threading.RLock()
        self._closed = False
        self._quiet: Callable[[], None] = lambda: None

    def start(self) -> None:
        """Open the store and wait for torch's compiler, or attach at once if it is loaded."""
        settings = self.settings
        self._quiet = to_stderr(settings.log)
        self.store = open_store(settings, self.folder, self.fault)
        if settings.layers or settings.signatures != "none":
            self.store = add_layers(self.store, settings, self.fault)
        if settings.audit and settings.load:
            from firebrick.session.auditor import auditor_of

            self.auditor = auditor_of(self)
        self._after_import("torch", self._note_shipped)
        if settings.lean:
            self._after_import("torch", self._enter)
        self._after_import(_DYNAMO, self._attach)

    @property
    def recording(self) -> bool:
        """Whether compilations are written to the store."""
        return self.settings.record and self.store is not None and not self.store.readonly

    def _after_import(self, name: str, then: Callable[[], None]) -> None:
        """Call a function now if a module is imported, else right after its import."""
        if name in sys.modules:
            then()
        else:
            self._finders.append(AfterImport(name, then))
            sys.meta_path.insert(0, self._finders[-1])

    def _note_shipped(self) -> None:
        """Note torch as it was shipped, to know what the program registers and patches later."""
        from firebrick.validity import compiler_code, operator_kernels, registrations

        operator_kernels.KERNELS.install(self._patches)
        compiler_code.note_compiler()
        for module in registrations.TABLE_MODULES:
            self._after_import(module, registrations.note_tables)

    def _enter(self) -> None:
        """Replace ``torch.compile``; without that only the full lane serves."""
        try:
            import torch

            from firebrick.loader.compiler_shims import defer_disable, defer_mark_step
            from firebrick.loader.lean_entry import LeanEntry
            from firebrick.torch_api import check_minor

            check_minor()
            if self.store is None:
                return
            self.entry = entry = LeanEntry(self, self.store, torch.compile)

            @functools.wraps(torch.compile)
            def compile(model: Any = None, **arguments: Any) -> Any:
                return entry.compile(model, **arguments)

            self._patches.set(torch, "compile", compile)
            if self.settings.load:
                compiler = torch.compiler
                self._patches.set(compiler, "disable", defer_disable(compiler.disable))
                mark_step = defer_mark_step(compiler.cudagraph_mark_step_begin)
                self._patches.set(compiler, "cudagraph_mark_step_begin", mark_step)
        except Unsupported:
            return  # reported when the compiler is imported
        except Exception as error:
            self.fault(error)

    def opened(self) -> tuple[Store, Context]:
        """Return store and context; the context is opened on first use.

        Raises:
            StoreClosed: before `start` and after `close`.
        """
        if self.store is None or self._closed:
            raise StoreClosed(self.folder, "the session is not open")
        with self._lock:
            if self.context is None:
                from firebrick.context.context import Context

                self.context = Context.open(self.store, self.settings.context, on_fault=self.fault)
                self.context.on_written = lambda size: self.stats.add_bytes(written=size)
        return self.store, self.context

    def fault(self, error: BaseException, outcome: str = "") -> None:
        """Count a fault and warn once per kind of its consequence; in strict mode raise it."""
        self.stats.fault(error)
        if self.settings.strict:
            raise error
        kind = type(error).__name__
        if kind not in self._warned:
            self._warned.add(kind)
            if not outcome and self.store and renewed(self.settings, self.store.path, self.store, error):
                outcome = RENEWED
            if not outcome:
                damage = isinstance(error, DamagedError)
                outcome = "passing over what is damaged" if damage else "going on without the store"
            warn(f"{outcome}: {describe(error)}")
        _log.debug("fault", exc_info=error)

    def renew(self) -> None:
        """Begin a new file, before anything is recorded, if the structure of the store's is damaged."""
        store = self.store
        if store is not None and self.recording and (fault := renewed(self.settings, store.path, store)):
            self.fault(StoreDamaged(store.path, fault), RENEWED)

    def stand_aside(self, error: Unsupported) -> None:
        """Warn once that torch works without Firebrick, and why; in strict mode raise the error."""
        self.stats.fault(error)
        if self.settings.strict:
            raise error
        warn(f"standing aside: {error}")

    def _attach(self) -> None:
        with self._lock:
            if self._closed or self._hooks is not None:
                return
            try:
                from firebrick.session.import_hooks import LazyHooks

                self._hooks = LazyHooks(self)
                self._hooks.start()
            except Unsupported as error:
                self.stand_aside(error)
            except Exception as error:
                self.fault(error)

    def flush(self) -> None:
        """Compile the backward graphs that functions wait for, and store these functions."""
        with self._lock:
            if not self._closed and self._hooks is not None:
                self._hooks.flush()

    def close(self) -> None:
        """Remove the hooks, close the store and log the counters."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            for finder in self._finders:
                with contextlib.suppress(ValueError):
                    sys.meta_path.remove(finder)
            self._patches.undo()
            if self.entry is not None:
                self.entry.close()
            if self._hooks is not None:
                self._hooks.remove()
            if self.context is not None:
                self.context.close()
            if self.store is not None:
                self._keep_events(self.store)
                self.store.close()
            _log.info("%s", self.stats.summary())
            if lost := self.stats.not_stored():
                _log.info("%s", lost)
            self._quiet()
            if (folder := self.settings.stats_dir) is not None and self.store is not None:
                from firebrick.reports.tally import leave

                leave(folder, self.stats)

    def _keep_events(self, store: Store) -> None:
        if self.stats.events.told():
            from firebrick.reports.runs import keep

            try:
                keep(store, self.stats)
            except Exception as error:
                self.fault(error)


_session: Session | None = None
_misspelt_told: str = ""
_aside: Settings | None = None  # the settings for which the warning of an unsupported torch was given
_stats = Stats()
_lock = threading.RLock()


def warn(text: str) -> None:
    """Emit a FirebrickWarning; the user's warning filters apply."""
    warnings.warn(f"firebrick: {text}", FirebrickWarning, stacklevel=2)


def warn_of_misspelt() -> None:
    """Warn about ``FIREBRICK_…`` variables that are not settings, once for the same ones."""
    global _misspelt_told
    if (text := worded_misspelt()) and text != _misspelt_told:
        _misspelt_told = text
        warn(text)


def describe(error: BaseException) -> str:
    """Describe an error in one line: its class, message and advice, if any."""
    text = f"{type(error).__name__}: {error}"
    return f"{text}. {error.hint}" if isinstance(error, FirebrickError) else text


def session() -> Session | None:
    """Return the session of this process, if Firebrick is enabled."""
    return _session


def _context() -> Context | None:
    return None if _session is None else _session.opened()[1]


ask_session(_context)


def enable(path: str | os.PathLike[str] | None = None, **settings: Any) -> None:
    """Enable Firebrick in this process: serve compiled functions from a store, and fill it.

    Enabling again with the same settings does nothing; with others, the first session ends.

    Args:
        path: directory of the store; by default ``FIREBRICK_CACHE_DIR``.
        settings: fields of `Settings`.

    Raises:
        UsageError: a setting is invalid, or no directory is given anywhere.
        Exception: in strict mode, whatever prevents enabling, including an unsupported torch. Otherwise
            Firebrick warns once and the program continues without a store.
    """
    global _aside, _session, _stats
    chosen = Settings.read(cache_dir=path, **settings)
    if (folder := chosen.cache_dir) is None:
        raise UsageError("no folder for the store: give a path or set FIREBRICK_CACHE_DIR")
    if tried := is_tried(chosen):
        chosen = cautious(chosen)
        import torch  # noqa: F401 - its entry point may enable Firebrick, which must not happen further down
    with _lock:
        if chosen in (None if _session is None else _session.settings, _aside):
            return
        disable()
        warn_of_misspelt()
        new = Session(chosen, folder)
        try:
            if tried:
                warn(admit())
            check_installed()
            with no_collection():
                new.start()
        except Unsupported as error:  # nothing has been opened or hooked
            new.stand_aside(error)
            _aside, _stats = chosen, new.stats
            return
        except Exception as error:
            with contextlib.suppress(Exception):
                new.close()
            new._quiet()
            if chosen.strict:
                raise
            warn(f"not enabled: {describe(error)}")
            return
        _session, _stats = new, new.stats
        atexit.register(_end)


def disable() -> None:
    """Restore torch and close the store. Does nothing if Firebrick is not enabled.

    Served functions stay in use until torch drops them (``torch._dynamo.reset``).
    """
    global _aside, _session
    with _lock:
        ended, _session, _aside = _session, None, None
        if ended is not None:
            atexit.unregister(_end)
            ended.close()


def _end() -> None:
    if _session is not None:
        _session.ending = True
    disable()


def flush() -> None:
    """Store now what would be stored at exit: functions whose backward graph has never run.

    Compiles their backward graphs, which takes about as long as their forward graphs did. For programs ended
    by a signal, such as servers, after their warm-up. Does nothing if Firebrick is not enabled or the setting
    ``compile_backward`` is off.
    """
    if _session is not None:
        _session.flush()


@contextlib.contextmanager
def enabled(path: str | os.PathLike[str] | None = None, **settings: Any) -> Iterator[None]:
    """Enable Firebrick for a ``with`` block, then restore the previous session."""
    before = _session
    enable(path, **settings)
    try:
        yield
    finally:
        disable()
        if before is not None:
            fields = before.settings
            enable(fields.cache_dir, **{f: getattr(fields, f) for f in fields._fields[1:]})


def compile(model: Any = None, **options: Any) -> Any:
    """Compile like ``torch.compile``, enabling Firebrick from the environment if necessary.

    Args:
        model: function or module; if omitted, return a decorator.
        options: of ``torch.compile``.

    Raises:
        UsageError: Firebrick is not enabled and ``FIREBRICK_CACHE_DIR`` is not set.
    """
    import torch

    if _session is None:
        enable()
    return torch.compile(model, **options)


def stats() -> Stats:
    """Return the counters of this process since Firebrick was last enabled."""
    return _stats
