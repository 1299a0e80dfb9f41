"""Events of a frame's compilation: guards, bytecode, inlined functions, refusals."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from firebrick.bundle.platform import CURRENT_GPU, NO_FACT, process_fact
from firebrick.capture.devices import TracedDevices
from firebrick.capture.recorder import Compilation, Recorder
from firebrick.codecs.code import module_files
from firebrick.codecs.guard_program import GuardProgram
from firebrick.errors import NotLean, NotStorable
from firebrick.guards.serialize import recording_init
from firebrick.storage.manifest import NoLeanForm

if TYPE_CHECKING:
    from firebrick.base.patches import Patches
    from firebrick.capture.audited import Audited
    from firebrick.capture.traced import Traced
    from firebrick.guards.record import GuardRecorder


class CompileEvents:
    """Records torch's events on the compilation under way. Serialised by torch's compile lock.

    Args:
        api: interface to the running torch.
        recorder: knows the compilation.
        programs: records guard programs; ``None`` if nothing is recorded for the lean lane.
        fault: called with an error of Firebrick.
    """

    def __init__(
        self,
        api: Any,
        recorder: Recorder,
        programs: GuardRecorder | None,
        fault: Callable[[BaseException], None],
    ) -> None:
        self._api = api
        self._recorder = recorder
        self._programs = programs
        self._fault = fault
        self._told: Mapping[str, str] | None = None

    def install(self, patches: Patches) -> None:
        """Install the hooks."""
        api, package = self._api, self._api.CompilePackage
        patches.set(
            api.CheckFunctionManager,
            "__init__",
            recording_init(api.CheckFunctionManager.__init__, self._guards_built),
        )
        for name, wrap in (
            ("initialize", self._initializing),
            ("_add_user_function", self._adding_function),
            ("code_context", self._tracing),
            ("add_guarded_code", self._adding_code),
            ("add_inlined_source", self._adding_sources),
        ):
            patches.set(package, name, wrap(getattr(package, name)))
        patches.set(api.OutputGraph, "bypass_package", self._bypassing)
        api.note_tracing(patches, self._tracing_of)
        api.note_audited(patches, self._audited)
        api.note_devices(patches, api.OutputGraph, self._devices)
        api.note_process_functions(patches, self._asked, self._recorder.refuse)

    def _devices(self) -> TracedDevices | None:
        return None if (compilation := self._recorder.current) is None else compilation.devices

    def _audited(self) -> Audited | None:
        return None if (compilation := self._recorder.current) is None else compilation.audited

    def _tracing_of(self) -> Traced | None:
        return None if (compilation := self._recorder.current) is None else compilation.tracing

    def _asked(self, name: str, arguments: list[Any]) -> None:
        if (compilation := self._recorder.current) is not None:
            said = process_fact(name, arguments)
            if said.startswith(NO_FACT):  # it tells Dynamo something
                raise NotStorable(f"{name} of what cannot be kept")
            if (fact := [name, arguments, said]) not in compilation.process:
                compilation.process.append(fact)

    def _guards_built(
        self, manager: Any, graph: Any, identities: set[str], expected: str, error: BaseException | None
    ) -> None:
        compilation = self._recorder.current
        if compilation is not None and error is not None:
            compilation.not_full = error.reason if isinstance(error, NotStorable) else str(error)
        if error is not None or (compilation is not None and compilation.not_full):
            self._api.bypass(graph.package)
        if compilation is not None:
            if compilation.devices.current:
                self._asked(CURRENT_GPU, [])
            compilation.guarded |= identities
            compilation.audited.guards(graph.guards)
            compilation.expected = expected
            compilation.installed = frozenset(graph.installed_globals)
            compilation.imports = dict(graph.import_sources)
            if self._programs is not None:
                compilation.program = self._guard_program(self._programs, manager, compilation)

    def _guard_program(
        self, programs: GuardRecorder, manager: Any, compilation: Compilation
    ) -> GuardProgram | NoLeanForm:
        """Return the recorded guard program of a frame, or the reason there is none."""
        names: dict[int, str] = {}
        held, compilation.tracing.bound = compilation.tracing.bound, {}
        try:
            program = programs.program(manager, compilation.scope, compilation.code, names)
            for graph, tensors in held.items():
                if not all(id(tensor) in names for tensor in tensors):
                    raise NotLean("a graph that holds tensors which no guard knows by their addresses")
                compilation.bound[graph] = [names[id(tensor)] for tensor in tensors]
            return program
        except NotStorable as error:
            return NoLeanForm(error.reason)
        except Exception as error:
            self._fault(error)
            return NoLeanForm(f"guards: {type(error).__name__}")

    def _tracing(self, original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def code_context(self_: Any, code: Any) -> Any:
            if (compilation := self._recorder.current) is not None:
                compilation.traced = True
            return original(self_, code)

        return code_context

    def _adding_code(self, original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def add_guarded_code(self_: Any, guards_state: bytes, dynamo_code: Any) -> None:
            if (compilation := self._recorder.current) is not None:
                compilation.guards_state, compilation.compiled = guards_state, dynamo_code
            original(self_, guards_state, dynamo_code)

        return add_guarded_code

    def _adding_sources(self, original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def add_inlined_source(self_: Any, sources: list[Any]) -> None:
            self._tell_inspect()
            try:  # for code without a file torch searches all modules
                original(self_, [code for code in sources if not code.co_filename.startswith("<")])
            except Exception:  # no source text: torch's entry omits the frame, the bundle need not
                self._api.bypass(self_)

        return add_inlined_source

    def _tell_inspect(self) -> None:
        """Give ``inspect.getmodule`` the files of all modules; it would resolve every path itself."""
        if (files := module_files()) is not self._told:
            known = getattr(inspect, "modulesbyfile", {})
            known.update({**files, **known})
            self._told = files

    def _adding_function(self, original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def add_user_function(self_: Any, code: Any) -> None:
            try:
                original(self_, code)
            except Exception:  # torch finds no name for it: its entry omits the frame
                self._api.add_nameless(self_, code)

        return add_user_function

    def _initializing(self, original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def initialize(self_: Any, fn: Any, *args: Any, **kwargs: Any) -> None:
            original(self_, self._api.python_function(fn), *args, **kwargs)

        return initialize

    @property
    def _bypassing(self) -> Callable[..., Any]:
        def bypass_package(self_: Any, reason: str = "", **kwargs: Any) -> None:
            if reason == self._api.STATIC_ADDRESSES and self._programs is not None:
                return  # the lane without the compiler hands these tensors to the graph
            self._recorder.refuse(reason)
            self._api.bypass(self_.package)
            self_.package = None

        return bypass_package
