"""Serve frames from the store without torch's compiler: the lean lane.

The first bundle of a frame's recipe whose recorded guards pass goes to torch's C++ hook as compiled code: a
real cache entry, which the compiler adopts when it is imported later.
"""

from __future__ import annotations

import functools
import importlib
import logging
import sys
import threading
import time
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from types import CodeType, ModuleType
from typing import TYPE_CHECKING, Any

from firebrick.bundle.platform import host_facts
from firebrick.bundle.recipe import SKIPPED_FILE, make_recipe
from firebrick.codecs.code import rename
from firebrick.codecs.guard_program import GuardProgram
from firebrick.guards.manager import Manager
from firebrick.guards.replay import build, on_dynamo_imported, stand_ins
from firebrick.loader.bundles import PENDING, SELF_TEST, Bundles
from firebrick.loader.device_remap import DeviceRemap, moved_code, moved_name, moved_program, remaps_of
from firebrick.loader.generated_globals import resume_function, used_module
from firebrick.loader.lean_backends import LeanBackends
from firebrick.reports.counters import Stats
from firebrick.reports.events import HIT, LEAN, LEFT, LEFT_ALONE, SERVED, Event, function_of
from firebrick.reports.not_served import Miss
from firebrick.runtime import helpers
from firebrick.storage.format import Kind
from firebrick.storage.keys import ContentKey
from firebrick.storage.manifest import Manifest, NoLeanForm
from firebrick.storage.msgpack import unpack
from firebrick.storage.store import Store
from firebrick.torch_api import compiler_free as api
from firebrick.validity.configuration import AMBIENT, OPTIONS, ambient_key
from firebrick.validity.stored import Frame

if TYPE_CHECKING:
    from firebrick.validity.audit import Auditor

_log = logging.getLogger("firebrick")


class LeanFrames:
    """The lean lane's lookup and installation of compiled frames. Thread-safe; one thread at a time works.

    Args:
        store: holds the bundles.
        stats: counts hits. The full lane, which is next, counts misses.
        tested: skip bundles whose test is pending.
        on_fault: called with damage.
        auditing: returns the auditor of hits, if any.
    """

    def __init__(
        self,
        store: Store,
        stats: Stats,
        *,
        tested: bool,
        on_fault: Callable[[BaseException], None] = lambda error: None,
        auditing: Callable[[], Auditor | None] = lambda: None,
    ) -> None:
        self._store = store
        self._tested = tested
        self._auditing = auditing
        self._bundles = Bundles(store, stats, on_fault)
        self._backends = LeanBackends(store, stats=stats)
        self._stats = stats
        self._lock = threading.RLock()
        self._stand_ins: list[tuple[dict[str, Any], str, str]] = []  # scope, alias, module
        for helper in helpers.functions():
            api.never_trace(helper.__code__)

    def on_dynamo_imported(self) -> None:
        """Replace the stand-ins of Dynamo's modules by the modules, just imported."""
        with self._lock:
            for scope, alias, module in self._stand_ins:
                if alias in scope:
                    scope[alias] = importlib.import_module(module)
            self._stand_ins.clear()

    def options(self, arguments: Mapping[str, str]) -> dict[str, str] | None:
        """Return the options of recipes for these arguments of ``torch.compile``, if known."""
        packed = self._store.registry_get(AMBIENT, OPTIONS, ambient_key(arguments))
        options: dict[str, str] | None = unpack(packed) if packed is not None else None
        return options

    def knows(self, code: CodeType, module: str, options: Mapping[str, str]) -> bool:
        """Tell whether a frame has a bundle that this lane may be able to serve."""
        recipe = make_recipe(code, module, options, host_facts())
        try:
            found = self._bundles.of(recipe.key)
            return any(
                self._bundles.manifest(key).serves_lean and not self._untested(facts)
                for key, facts in found.items()
            )
        except Exception:  # damaged: the full lane reports it
            return False

    def serve(
        self, frame: Any, frame_state: MutableMapping[str, Any], arguments: Mapping[str, str]
    ) -> Any | None:
        """Return the answer for torch's hook, or ``None`` if the compiler must be asked.

        Args:
            frame: torch's view of the frame; generated names are installed in its globals.
            frame_state: torch's state of the frame.
            arguments: of ``torch.compile``.

        Raises:
            AuditError: an audit found the bundle stale.
        """
        audits: list[Callable[[], None]] = []
        with self._lock:
            answer = self._serve(frame, frame_state, arguments, audits)
        for audit in audits:  # imports the compiler, which needs this lock and has its own
            audit()
        return answer

    def _serve(
        self,
        frame: Any,
        frame_state: MutableMapping[str, Any],
        arguments: Mapping[str, str],
        audits: list[Callable[[], None]],
    ) -> Any | None:
        code, scope, values = frame.f_code, frame.f_globals, frame.f_locals
        if api.is_of_skipped_file(code):
            return api.skip_answer()
        if (options := self.options(arguments)) is None:
            return None
        module = scope.get("__name__", "")
        recipe = make_recipe(code, module, options, host_facts())
        found = self._bundles.of(recipe.key)
        if not found:
            skipped = make_recipe(code, module, SKIPPED_FILE, host_facts())
            looked_at = not self._store.bundles(skipped.key) and api.may_hold_tensors(code, scope, values)
            return None if looked_at else api.skip_answer()
        seen = Frame(code, scope, values)
        function = function_of(code, module, values)
        began, refusals = time.perf_counter(), list[Exception]()
        for key, facts in found.items():
            if verdict := self._untested(facts):
                refusals.append(Miss(f"its test: {verdict}", code="untested"))
                continue
            try:
                answer = self._install(key, recipe.key, seen, code, scope, values, frame_state)
            except Exception as error:  # whatever is wrong with this bundle, the next one may serve
                refusals.append(self._bundles.passed_over(error))
                _log.debug("bundle %s, lean, does not serve %s: %s", key.hex()[:12], code.co_qualname, error)
                continue
            served = answer.guarded_code is not None
            outcome, seconds = (HIT, *SERVED) if served else (LEFT, *LEFT_ALONE), time.perf_counter() - began
            event = Event(function, LEAN, *outcome, seconds=seconds, recipe=recipe.key.hex())
            self._stats.record(event, saved=float(facts.get("seconds", 0.0)))
            if served:
                self._store.touch(key)
                if (auditor := self._auditing()) is not None:
                    text, how = functools.partial(self._bundles.audit_text, key), api.asked_of(arguments)
                    audits.append(functools.partial(auditor.hit, function, LEAN, text, frame, how))
            return answer
        from firebrick.reports.refusals import miss, refusal_of  # not needed for a hit

        reasons = [refusal_of(error) for error in refusals]
        missed = miss(function, LEAN, reasons, seconds=time.perf_counter() - began, recipe=recipe.key)
        self._stats.record(missed)
        self._stats.events.handing_over(code, missed)
        return None

    def _untested(self, facts: Mapping[str, Any]) -> str:
        """Return how a bundle's test prevents its use; empty if it does not."""
        verdict: str = facts.get(SELF_TEST, "")
        return "" if verdict == PENDING and not self._tested else verdict

    def _install(
        self, key: ContentKey, recipe: bytes, frame: Frame, code: CodeType, scope: dict[str, Any],
        values: Any, frame_state: MutableMapping[str, Any],
    ) -> api.Answer:  # fmt: skip
        owners = _prepared(self._bundles.manifest(key), frame)
        manifest = self._bundles.usable(key, recipe, frame, moving=True)
        if (made := manifest.compiled) is None:
            return api.skip_answer()
        if isinstance(lean := manifest.lean, NoLeanForm):
            raise Miss(lean.reason, code="lane")
        moves = remaps_of(lean, manifest.process)
        for alias, module in lean.imports.items():
            if alias not in scope:
                scope[alias] = found = _module(module)
                if not isinstance(found, ModuleType | dict):
                    self._stand_ins.append((scope, alias, module))
        opened = _opening(lean.opens) if made.requires else None
        program = self._bundles.part(Kind.GUARD_PROGRAM, lean.guards)
        refused: Miss | None = None
        for move in moves:
            try:
                manager = _guards(program, move, scope, code, values)
                break
            except Miss as error:
                refused = error
        else:
            raise refused or Miss("no GPU that it could be moved to", code="process")
        if api.dynamo() is not None:
            on_dynamo_imported()
        compiled = self._bundles.part(Kind.CODE, made.code)
        for name, part in made.resumes.items():
            if name not in scope:
                scope[name] = resume_function(self._bundles.part(Kind.CODE, part), scope, name)
        renamed = {}
        for name, part in lean.backends.items():
            installed = name if move is None else moved_name(name, move)
            if name in lean.bound:
                function = self._backends.load(ContentKey(part), device=None if move is None else move.to)
                tensors = [manager.statics[tensor] for tensor in lean.bound[name]]
                from firebrick.loader.static_inputs import bind

                renamed[installed] = bind(scope, installed, function, tensors, owners)
            elif installed not in scope:
                function = self._backends.load(ContentKey(part), device=None if move is None else move.to)
                api.never_trace(function.__code__)
                scope[installed] = function
        if move is not None:
            compiled = moved_code(compiled, lean.backends, move)
        if renamed:
            compiled = rename(compiled, renamed)
        if opened is not None:
            opened()
        return api.guarded_answer(frame_state, code, compiled, manager)


def _prepared(manifest: Manifest, frame: Frame) -> list[Any]:
    """Bring optimizers into the state in which Dynamo traces their steps; return them."""
    lean = manifest.lean
    if isinstance(lean, NoLeanForm) or not lean.optimizers:
        return []
    from firebrick.loader.static_inputs import initialise  # most frames have none

    frame.forget()
    return initialise(lean.optimizers, frame.scope, frame.values)


def _guards(
    program: GuardProgram, move: DeviceRemap | None, scope: dict[str, Any], code: CodeType, values: Any
) -> Manager:
    """Return the manager of a bundle's guards; a `Miss` names the guard that fails."""
    with stand_ins():
        program = program if move is None else moved_program(program, move)
        manager = build(program, scope, code, values)
        if not manager.check(values):
            from firebrick.guards.failing_guard import failed, of_program  # not needed for a hit

            raise failed(manager, values, scope, of_program(program))
        return manager


def _opening(libraries: Sequence[str]) -> Callable[[], None]:
    from firebrick.runtime.cuda_warmup import open_libraries  # not needed for a start on a CPU

    return open_libraries(libraries)


def _module(name: str) -> Any:
    """Return a module named by compiled code; for one of the compiler, its stand-in."""
    if name in sys.modules:
        return sys.modules[name]
    if (helper := helpers.stand_in_for(name)) is not None:
        return helper
    return used_module(name)
