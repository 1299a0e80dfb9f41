"""Record torch's compilations, frame by frame, and publish each bundle as soon as its last part exists.

A bundle is one specialisation of one frame: its guard state, its compiled bytecode, and the resume functions
and backend artifacts that the bytecode names. A backward graph may be compiled much later than its frame;
until then the frame waits here, in memory, and no recipe in the store refers to it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from types import CodeType
from typing import TYPE_CHECKING, Any, Final

from firebrick import torch_api
from firebrick.bundle.recipe import Recipe
from firebrick.capture.artifacts import Artifacts
from firebrick.capture.audited import Audited
from firebrick.capture.devices import TracedDevices
from firebrick.capture.manifest_writer import Part, frame_manifest, generated_names
from firebrick.capture.traced import Traced
from firebrick.codecs.guard_program import GuardProgram
from firebrick.errors import EncodeError, NotStorable, StoreFull
from firebrick.loader.bundles import SELF_TEST
from firebrick.reports.counters import Stats
from firebrick.reports.detectors import divergent
from firebrick.reports.events import (
    BYPASS,
    FULL,
    LEFT,
    LEFT_ALONE,
    NOTICE,
    STORED,
    Event,
    Function,
    function_of,
)
from firebrick.storage.manifest import NoLeanForm
from firebrick.storage.store import Store
from firebrick.validity.facts import OPERATOR
from firebrick.validity.operator_kernels import OF_TORCH
from firebrick.validity.reach import Reach, Scope

if TYPE_CHECKING:
    from firebrick.capture.self_test_runner import SelfTests
    from firebrick.torch_api.late_backwards import PendingBackward


_NOT_RECORDED: Final = NoLeanForm("its guards were not recorded")


@dataclasses.dataclass(repr=False)
class Compilation:
    """One compilation of a frame under way, or waiting for its backends."""

    recipe: Recipe
    code: CodeType
    scope: dict[str, Any]
    started: float = dataclasses.field(default_factory=time.perf_counter)
    seconds: float = 0.0
    traced: bool = False
    guards_state: bytes = b""
    expected: str = ""
    program: GuardProgram | NoLeanForm = _NOT_RECORDED
    not_lean: str | None = None  # why only the full lane may serve it
    not_full: str | None = None  # why only the lean lane may
    bound: dict[str, list[str]] = dataclasses.field(default_factory=dict)  # graph -> tensors it takes first
    buckets: str = ""  # gradient buckets the graph is split for
    compiled: CodeType | None = None
    guarded: set[str] = dataclasses.field(default_factory=set)
    installed: frozenset[str] = frozenset()
    imports: dict[str, str] = dataclasses.field(default_factory=dict)
    resumes: dict[str, CodeType] = dataclasses.field(default_factory=dict)
    requires: dict[str, str] = dataclasses.field(default_factory=dict)
    process: list[list[Any]] = dataclasses.field(default_factory=list)  # function, arguments, answer
    tracing: Traced = dataclasses.field(init=False)
    audited: Audited = dataclasses.field(default_factory=Audited)
    audit: str = ""  # the text an audit compares; empty if it could not be written
    reached: tuple[Scope, Reach] | None = None  # what the traced code can reach, once known
    devices: TracedDevices = dataclasses.field(default_factory=TracedDevices)
    refused: str | None = None
    code_of_refusal: str = "not-storable"
    function: Function | None = None

    def __post_init__(self) -> None:
        self.tracing = Traced(self.code)

    def refuse(self, reason: str, code: str = "not-storable") -> None:
        """Record why the frame cannot be stored; the first reason stands."""
        if not self.refused:
            self.refused, self.code_of_refusal = reason, code

    def event(self, outcome: str, code: str, reason: str) -> Event:
        """Return the frame's outcome as an event."""
        function = self.function or function_of(self.code, self.scope.get("__name__", ""))
        return Event(
            function, FULL, outcome, code, reason, seconds=self.seconds, recipe=self.recipe.key.hex()
        )

    def names(self) -> dict[str, str]:
        """Return the bundle's names for tools: the user's name for the function, and its location."""
        function = self.function or function_of(self.code, self.scope.get("__name__", ""))
        return {"name": function.name or function.qualname, "place": function.place}

    def reach(self, values: Mapping[str, Any]) -> None:
        """Determine what the traced code can reach; refuse the frame if that cannot be known.

        Args:
            values: the frame's locals.
        """
        try:
            for operator in sorted(self.devices.operators):
                self.tracing.fact(OPERATOR, [operator])
            self.reached = self.tracing.walk(self.code, self.scope, values, self.guarded)
        except (NotStorable, EncodeError) as error:
            self.refuse(str(error))


class Recorder:
    """A watcher of compilations that publishes bundles. Thread-safe.

    Args:
        store: where bundles go.
        artifacts: where backend artifacts went.
        stats: counts frames stored and not stored, with the reason.
        fault: called with errors of Firebrick or the store; must not raise unless strict.
        lean: whether bundles get a lean part.
        tests: tests bundles before the lean lane serves them; ``None`` for no tests.
        compile_backward: whether `flush` compiles the backward graphs that frames wait for.
    """

    def __init__(
        self,
        store: Store,
        artifacts: Artifacts,
        stats: Stats,
        fault: Callable[[BaseException], None],
        *,
        lean: bool = True,
        tests: SelfTests | None = None,
        compile_backward: bool = True,
    ) -> None:
        self._store = store
        self._lean = lean
        self._tests = tests
        self._artifacts = artifacts
        self._stats = stats
        self._fault = fault
        self._stack = threading.local()
        self._waiting: dict[int, tuple[Compilation, frozenset[str]]] = {}
        self._compile_backward = compile_backward
        self._backwards: dict[str, PendingBackward] = {}
        self._lock = threading.RLock()

    @property
    def current(self) -> Compilation | None:
        """The innermost compilation of this thread."""
        stack = getattr(self._stack, "items", None)
        return stack[-1] if stack else None

    def refuse(self, reason: str | BaseException) -> None:
        """Record why the frame this thread is compiling cannot be stored."""
        if (compilation := self.current) is not None:
            compilation.refuse(str(reason) or type(reason).__name__)

    @contextlib.contextmanager
    def compiling(self, compilation: Compilation) -> Iterator[Compilation]:
        """Watch one compilation on this thread."""
        if not hasattr(self._stack, "items"):
            self._stack.items = []
        self._stack.items.append(compilation)
        try:
            yield compilation
        finally:
            self._stack.items.pop()
            compilation.seconds = time.perf_counter() - compilation.started

    def compiled(self, compilation: Compilation) -> None:
        """Take a frame that torch compiled: publish it, or keep it until its backends exist."""
        if compilation.compiled is None:
            compilation.refuse("torch did not hand over the compiled frame", "unwatched")
        if compilation.refused is not None or compilation.compiled is None:
            self._bypass(compilation)
            return
        names = generated_names(compilation.compiled, torch_api.load().BACKEND_PREFIX)
        with self._lock:
            self._waiting[id(compilation)] = compilation, names
            self._publish_ready()

    def skipped(self, compilation: Compilation) -> None:
        """Take a frame that torch traced and decided to run uncompiled."""
        with self._lock:
            self._guarded(compilation, lambda: self._publish(compilation, skip=True))

    def backward_waits(self, backward: PendingBackward) -> None:
        """Record a backward graph that torch will compile at its first run."""
        if self._compile_backward:
            with self._lock:
                self._backwards[backward.backend_id] = backward

    def artifact_recorded(self, backend_id: str) -> None:
        """Record that a backend artifact is in the store; publish frames that waited for it."""
        with self._lock:
            self._backwards.pop(backend_id, None)
            if any(backend_id in names for _, names in self._waiting.values()):
                self._publish_ready()

    def artifact_refused(self, backend_id: str, reason: BaseException) -> None:
        """Record that a backend artifact cannot be stored; drop frames that waited for it.

        A backward graph is compiled at its first run, when no frame is being traced.
        """
        self.refuse(reason)
        with self._lock:
            for token, (compilation, names) in list(self._waiting.items()):
                if backend_id in names:
                    del self._waiting[token]
                    compilation.refuse(str(reason) or type(reason).__name__)
                    self._bypass(compilation)

    def flush(self, *, ending: bool = False) -> None:
        """Compile the backward graphs that frames wait for, and publish those frames."""
        with self._lock:
            for compilation, names in list(self._waiting.values()):
                for name in names & self._backwards.keys():
                    try:
                        self._backwards.pop(name).compile(ending=ending)
                    except Exception as error:
                        compilation.refuse(f"backward: {error}", "no-backward")

    def close(self, *, ending: bool = False) -> None:
        """Flush, and count the frames still waiting: their bundles would be incomplete.

        Args:
            ending: whether the process is exiting and can start no threads.
        """
        with self._lock:
            self.flush(ending=ending)
            for compilation, _ in self._waiting.values():
                reason = "no artifact of its backend (backward not compiled, or torch's bypass)"
                compilation.refuse(reason, "no-backward")
                self._bypass(compilation)
            self._waiting.clear()
        if self._tests is not None:
            self._tests.close()

    def _publish_ready(self) -> None:
        for token, (compilation, names) in list(self._waiting.items()):
            parts = {name: self._artifacts.backend_part(name) for name in names}
            if all(part is not None for part in parts.values()):
                del self._waiting[token]
                backends = {name: part for name, part in parts.items() if part is not None}
                self._guarded(compilation, functools.partial(self._publish, compilation, backends))

    def _guarded(self, compilation: Compilation, publish: Callable[[], None]) -> None:
        try:
            publish()
        except (NotStorable, EncodeError) as error:
            compilation.refuse(str(error))
            self._bypass(compilation)
        except StoreFull as error:  # and nothing left to evict
            compilation.refuse(error.detail, "no-room")
            self._bypass(compilation)
            self._fault(error)
        except Exception as error:
            compilation.refuse(f"{type(error).__name__}: {error}", "error")
            self._bypass(compilation)
            self._fault(error)

    def _publish(
        self, compilation: Compilation, backends: dict[str, Part] | None = None, skip: bool = False
    ) -> None:
        if not skip:
            self._check_operators(compilation, backends or {})
        lean = {name: self._artifacts.lean_part(name) for name in backends or {}} if self._lean else None
        manifest, blobs, parts = frame_manifest(compilation, backends or {}, skip=skip, lean=lean)
        recipe = compilation.recipe
        facts: dict[str, Any] = {"seconds": compilation.seconds, "when": time.time(), **compilation.names()}
        if lean is not None and not skip and self._tests is not None and compilation.not_lean is None:
            facts |= self._tests.facts()
        new = self._store.publish(recipe.key, recipe.components, manifest, parts, blobs, facts)
        if new:
            if compilation.traced or not skip:
                self._stats.published()
            self._stats.add_bytes(written=sum(len(blob.data) for blob in (manifest, *blobs)))
            if lean is not None and not skip:
                self._stats.count_not_lean(compilation.not_lean)
            if self._tests is not None and SELF_TEST in facts:
                self._tests.add(manifest.key)
            if others := divergent(self._store, recipe.key, manifest):
                self._stats.record(compilation.event(NOTICE, "divergence", others))
        if compilation.traced or not skip:
            outcome = (
                ("stored", f"stored as {manifest.key.hex()[:12]}")
                if new
                else ("known", "in the store already")
            )
            self._stats.record(
                compilation.event(LEFT if skip else STORED, *(LEFT_ALONE if skip else outcome))
            )

    def _check_operators(self, compilation: Compilation, backends: dict[str, Part]) -> None:
        """Check that the graphs contain no user Python except what Dynamo traced.

        Raises:
            NotStorable: naming what they contain.
        """
        if compilation.devices.opaque:
            raise NotStorable(f"AOTAutograd traces {compilation.devices.opaque}")
        called = set[str]().union(*map(self._artifacts.calls, backends))
        for operator in sorted(compilation.devices.operators - called):
            raise NotStorable(f"operator {operator}, whose parts torch compiled in its place")
        for operator in sorted(called - compilation.devices.operators):  # a gradient calls them
            if operator.partition(".")[0] not in OF_TORCH:
                compilation.tracing.fact(OPERATOR, [operator])
        if compilation.tracing.refused:
            raise NotStorable(compilation.tracing.refused)

    def _bypass(self, compilation: Compilation) -> None:
        self._stats.record(
            compilation.event(BYPASS, compilation.code_of_refusal, compilation.refused or "no reason given")
        )
