"""Serve frames from the store: the full lane.

When no compiled code of this process fits a frame, the bundles of its recipe are read. The first whose guards
pass is passed to torch as if just compiled: it becomes a real cache entry, with torch's own backend check,
recompile limits, ``reset`` and logs. Guards of unneeded specialisations are not built.

torch's ``CompilePackage.install`` is not used: it attaches the code to the frame's code object without
checking the backend, so that two sets of options for one function would get each other's code.
"""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Callable, Mapping
from types import CodeType
from typing import TYPE_CHECKING, Any

from firebrick import torch_api
from firebrick.bundle.recipe import Recipe
from firebrick.errors import DamagedError
from firebrick.guards.failing_guard import expectations_differ, failed, of_state
from firebrick.guards.identity import take_changes
from firebrick.guards.unpickler import read_guard_state
from firebrick.loader.bundles import PENDING, SELF_TEST, Bundles, expectations_digest
from firebrick.loader.full_backends import Backends
from firebrick.loader.generated_globals import resume_function, used_module
from firebrick.reports.absence import absence
from firebrick.reports.counters import Stats
from firebrick.reports.events import FULL, HIT, SERVED, Event, function_of, listed
from firebrick.reports.not_served import Miss
from firebrick.reports.refusals import Refusal, joined, miss, refusal_of
from firebrick.storage.format import Kind
from firebrick.storage.keys import ContentKey
from firebrick.storage.manifest import Compiled
from firebrick.storage.store import Store
from firebrick.validity.stored import Frame

if TYPE_CHECKING:
    from firebrick.validity.audit import Auditor

_log = logging.getLogger("firebrick")


class Frames:
    """The full lane's lookup and installation of compiled frames. Used under torch's compile lock only.

    Args:
        store: holds the bundles.
        backends: rebuilds backend functions.
        stats: counts hits, and misses by reason.
        on_fault: called with damage.
        auditing: returns the auditor of hits, if any.
    """

    def __init__(
        self,
        store: Store,
        backends: Backends,
        stats: Stats,
        on_fault: Callable[[BaseException], None] = lambda error: None,
        auditing: Callable[[], Auditor | None] = lambda: None,
    ) -> None:
        self._store = store
        self._bundles = Bundles(store, stats, on_fault)
        self._backends = backends
        self._auditing = auditing
        self._stats = stats
        self.retest: Callable[[ContentKey], None] | None = None  # for bundles whose test was interrupted
        # guards that were built but did not pass; once they pass, torch owns them
        self._managers: dict[tuple[ContentKey, int], tuple[CodeType, Any]] = {}

    def serve(
        self, recipe: Recipe, frame: Any, frame_state: Any, backend: Any,
        how: Callable[[], Mapping[str, Any]] = dict,
    ) -> Any | None:  # fmt: skip
        """Return a frame converter's result from the store, or ``None`` for a miss.

        Args:
            recipe: the frame's recipe.
            frame: torch's view of the frame; generated names are installed in its globals.
            frame_state: torch's state of the frame.
            backend: Inductor backend whose options apply while backends are rebuilt.
            how: returns the arguments of ``torch.compile`` that affect a trace, for audits.

        Raises:
            AuditError: an audit found the bundle stale.
        """
        code, scope, values = frame.f_code, frame.f_globals, frame.f_locals
        seen = Frame(code, scope, values)
        function = function_of(code, scope.get("__name__", ""), values)
        began, refusals = time.perf_counter(), list[Refusal]()
        try:
            found = self._bundles.of(recipe.key)
        except DamagedError as error:  # healed by the coming recording
            refusals.append(refusal_of(self._bundles.passed_over(error, drop=True)))
            found = {}
        for key, facts in found.items():
            if facts.get(SELF_TEST) == PENDING and self.retest is not None:
                self.retest(key)
            try:
                result = self._install(key, recipe.key, seen, code, scope, values, frame_state, backend)
            except Exception as error:  # whatever is wrong with this bundle, the next one may serve
                refusals.append(refusal_of(self._bundles.passed_over(error, drop=True)))
                _log.debug("bundle %s does not serve %s: %s", key.hex()[:12], code.co_qualname, error)
                continue
            seconds = time.perf_counter() - began
            served = Event(function, FULL, HIT, *SERVED, seconds=seconds, recipe=recipe.key.hex())
            self._stats.record(served, saved=float(facts.get("seconds", 0.0)))
            self._store.touch(key)
            if (auditor := self._auditing()) is not None and result.guarded_code is not None:
                text = functools.partial(self._bundles.audit_text, key)
                auditor.hit(function, FULL, text, frame, how())
            return result
        before = self._stats.events.handed_over(code)
        refusals = refusals or [absence(self._store, recipe, function)]
        seconds = time.perf_counter() - began
        missed = miss(function, FULL, refusals, seconds=seconds, recipe=recipe.key)
        self._stats.record(joined(missed, before))
        return None

    def _install(
        self, key: ContentKey, recipe: bytes, frame: Frame, code: CodeType, scope: dict[str, Any],
        values: Any, frame_state: Any, backend: Any,
    ) -> Any:  # fmt: skip
        api = torch_api.load()
        manifest = self._bundles.usable(key, recipe, frame)
        if (made := manifest.compiled) is None:
            return api.skip_return()
        for alias, module in made.imports.items():
            api.install(scope, alias, used_module(module))
        place = key, id(scope)
        known = self._managers.get(place)
        if known is None or known[0] is not code:
            known = code, self._build_manager(made, code, scope)
            self._managers[place] = known
        manager = known[1]
        if not manager.check(values):
            state = functools.partial(self._guard_state, made)
            raise failed(manager, values, scope, of_state(state))
        del self._managers[place]
        compiled = self._bundles.part(Kind.CODE, made.code)
        for name, part in made.resumes.items():
            api.install(scope, name, resume_function(self._bundles.part(Kind.CODE, part), scope, name))
        for name, part in made.backends.items():
            if name not in scope:
                api.install(scope, name, api.disable(self._backends.load(part, name, backend)))
        return api.guarded_return(frame_state, code, compiled, manager)

    def _build_manager(self, made: Compiled, code: CodeType, scope: dict[str, Any]) -> Any:
        api = torch_api.load()
        state = self._guard_state(made)
        if name := api.builtins_name(state):
            api.install(scope, name, api.builtins_of(scope))
        manager, expected = api.build_manager(code, state, scope)
        if changes := take_changes():
            raise Miss(listed(changes), code="object", changes=changes)
        if expectations_digest(expected) != made.expected:
            stored = self._bundles.part(Kind.TEXT, made.expectations) if made.expectations else ""
            changes = expectations_differ(stored, expected, scope)
            raise Miss(listed(changes), code="value", changes=changes)
        return manager

    def _guard_state(self, made: Compiled) -> Any:
        if made.guards is None:
            raise Miss("only the lane without the compiler can have these guards", code="lane")
        return read_guard_state(self._bundles.part(Kind.GUARDS, made.guards))
