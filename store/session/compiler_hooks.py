"""The hooks into torch's compiler.

`Hooks.attach` installs them at the first Inductor backend (see `import_hooks`). torch then records packages
through its own ``caching_precompile``, whose ``DynamoCache`` we replace and whose loss of guards we repair.

A hook never raises an error of its own: faults go to `Session.fault`, and torch's own function runs.
"""

from __future__ import annotations

import contextlib
import functools
import threading
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from firebrick import torch_api
from firebrick.base.gc_pause import no_collection
from firebrick.base.patches import Patches
from firebrick.bundle.platform import gpu_facts, host_facts
from firebrick.bundle.recipe import SKIPPED_FILE, Recipe, make_recipe
from firebrick.capture.artifacts import Artifacts
from firebrick.capture.compile_events import CompileEvents
from firebrick.capture.manifest_writer import generated_names
from firebrick.capture.recorder import Compilation, Recorder
from firebrick.capture.self_test_runner import SelfTests
from firebrick.capture.triton_kernels import encoded_winner
from firebrick.errors import AuditError, InternalError, NotStorable, Unsupported, WouldCompile
from firebrick.loader.autotune import AutotuneResults
from firebrick.loader.full_backends import Backends
from firebrick.loader.full_frames import Frames
from firebrick.loader.libraries import Libraries
from firebrick.loader.triton_modules import TritonModules
from firebrick.loader.wrapper_libraries import WrapperLibraries
from firebrick.reports.events import BYPASS, FULL, LEFT, LEFT_ALONE, Event, function_of
from firebrick.storage.msgpack import pack
from firebrick.torch_api import registry
from firebrick.torch_api.compiler_free import gradient_buckets
from firebrick.validity.audit import text_of
from firebrick.validity.configuration import AMBIENT, ARGUMENTS, OPTIONS, ambient_key, recipe_options

if TYPE_CHECKING:
    from firebrick.session.session import Session


class Hooks:
    """All hooks of one session into torch. Serialised by torch's compile lock."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._recording = session.recording
        self._lean = session.settings.lean
        self._asked = False
        self._api: Any = None
        self._contexts: weakref.WeakSet[Any] = weakref.WeakSet()  # of compilations under this session
        self._ambient: set[str] = set()
        self._patches = Patches()
        self._watching: Recorder | None = None
        self._attached = False
        self._lock = threading.RLock()
        self._serving = threading.local()

    def flush(self) -> None:
        """Store functions that wait for a backward graph that has not run."""
        if self._watching is not None:
            self._watching.flush()

    def remove(self) -> None:
        """Restore torch."""
        with self._lock:
            if self._watching is not None:
                self._watching.close(ending=self._session.ending)
            self._patches.undo()
            for context in self._contexts if self._api is not None else ():
                self._api.forget_package(context)
            self._attached = False

    @property
    def _recorder(self) -> Recorder:
        if self._watching is None:
            raise InternalError("a hook ran before it was in place")
        return self._watching

    def optimize(self, original: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Replace a call of ``_optimize`` for Inductor: all hooks are installed before it begins."""
        self.attach()
        made = original(*args, **kwargs)
        if self._recording and not self._asked:
            self._contexts.add(made)
        return made

    def paused(self) -> contextlib.AbstractContextManager[None]:
        """Return a context for other backends, in which nothing is recorded."""
        return registry.without_precompile() if self._attached else contextlib.nullcontext()

    def attach(self) -> None:
        """Install the hooks that need the whole compiler; do nothing the second time."""
        with self._lock:
            if self._attached:
                return
            self._attached = True
            try:
                self._attach()
            except Unsupported as error:
                self.remove()
                self._session.stand_aside(error)
            except Exception as error:
                self.remove()
                self._session.fault(error)

    def _attach(self) -> None:
        session, patches = self._session, self._patches
        store, _ = session.opened()
        session.renew()
        api = self._api = torch_api.load()
        # a program that enables torch's own precompile wants compilations in torch's registry
        self._asked = bool(api.dynamo_config.caching_precompile)
        libraries = Libraries()
        kernels = WrapperLibraries(libraries, session.fault)
        backends = Backends(store, libraries, session.stats)
        self._frames = Frames(store, backends, session.stats, session.fault, lambda: session.auditor)
        artifacts = Artifacts(session, kernels)
        tests = None
        if self._recording and self._lean and session.settings.self_test:
            tests = SelfTests(store, session.fault)
            self._frames.retest = tests.add
        self._watching = Recorder(
            store, artifacts, session.stats, session.fault,
            lean=self._lean, tests=tests, compile_backward=session.settings.compile_backward,
        )  # fmt: skip

        for owner, name, wrap in (
            (api.PyCodeCache, "load_by_key_path", kernels.loading_wrapper),
            (api.CppCodeCache, "load_async", kernels.loading_library),
        ):
            patches.set(owner, name, classmethod(wrap(getattr(owner, name).__func__)))
        winners = AutotuneResults(
            store, self._recording, session.fault, api.triton_config_to_hashable,
            encoded_winner if self._lean else None,
        )  # fmt: skip
        winners.install(patches, api.AutotuneFiles, api.autotuner())
        if api.TritonBuild is not None:
            api.pin_ptxas()
            TritonModules(store, self._recording, session.fault).install(patches, api.TritonBuild)
        patches.set(api.InductorBackend, "get_compiler_config", api.get_compiler_config)
        for owner in (api.ConvertFrame, api.ConvertFrameAssert):
            patches.set(owner, "__call__", self._converting(owner.__call__))
        if not self._recording:
            return
        programs = None
        if self._lean:
            from firebrick.guards.record import GuardRecorder  # needs the compiler

            programs = GuardRecorder()
            programs.install(patches)
            patches.set(api.CatchErrorsWrapper, "__call__", self._catching(api.CatchErrorsWrapper.__call__))
        CompileEvents(api, self._watching, programs, session.fault).install(patches)
        patches.set(api.OutputGraph, "install_builtins_dict_in_fglobals", api.share_builtins_name)
        patches.set(
            api.autograd_cache,
            "autograd_cache_key",
            api.keying_entries(api.autograd_cache.autograd_cache_key, self._recorder.refuse),
        )
        making = "_aot_stage2c_make_autograd_function"
        patches.set(
            api.graph_compile,
            making,
            api.noting_backwards(getattr(api.graph_compile, making), self._recorder.backward_waits),
        )
        graph = api.OutputGraph
        patches.set(graph, "install_global_by_id", api.naming_globals(graph.install_global_by_id))
        cache = api.autograd_cache.AOTAutogradCache
        patches.set(
            cache,
            "make_entry",
            staticmethod(api.making_entries(cache.make_entry, self._recorder.refuse)),
        )
        patches.set(cache, "save", staticmethod(api.saving_entries(cache.save)))
        for method, stand_in in (
            ("__reduce_ex__", api.pickled_package),
            ("__deepcopy__", api.copied_package),
        ):
            patches.set(api.package.CompilePackage, method, stand_in)
        patches.set(api.package, "DynamoCache", api.dynamo_cache(self._session.fault))
        if not self._asked:
            splits = artifacts.splits(self._recorder)
            api.record_buckets(patches, splits.bucket_compiled, splits.made)
        torch_registry = registry.registry_class()
        patches.set(
            torch_registry,
            "record_artifact",
            classmethod(artifacts.recording(torch_registry.record_artifact.__func__, self._recorder)),
        )
        # the default, not the value: a value applies to the thread that sets it
        patches.set(api.dynamo_config._config["caching_precompile"], "default", True)

    # Frames.

    def _converting(self, original: Callable[..., Any]) -> Callable[..., Any]:
        """Wrap a frame converter: serve the frame from the store, or else watch its compilation."""

        @functools.wraps(original)
        def convert(
            self_: Any,
            frame: Any,
            cache_entry: Any,
            hooks: Any,
            frame_state: Any,
            *args: Any,
            **kw: Any,
        ) -> Any:
            if getattr(self._serving, "recipe", None) is not None:  # the inner of two converters
                return self._watched(original, self_, frame, cache_entry, hooks, frame_state, *args, **kw)
            backend = self._api.inductor_backend(self_)
            if backend is None or self._api.is_export(self_) or not self._api.may_compile(frame):
                result = original(self_, frame, cache_entry, hooks, frame_state, *args, **kw)
                self._unwatched(self_, frame, result, backend)
                return result
            try:
                recipe = self._recipe(self_, frame, backend)
                served = self._serve(recipe, frame, frame_state, backend, self_)
            except AuditError:
                raise
            except NotStorable as error:  # something in the recipe has no digest
                self._note(frame, BYPASS, "not-storable", str(error))
                return original(self_, frame, cache_entry, hooks, frame_state, *args, **kw)
            except Exception as error:
                self._note(frame, BYPASS, "error", f"{type(error).__name__}: {error}")
                self._session.fault(error)
                return original(self_, frame, cache_entry, hooks, frame_state, *args, **kw)
            if served is not None:
                return served
            if self._session.settings.locked and not self._asked:
                raise self._locked(frame)
            self._serving.recipe = recipe
            try:
                run = original if self._api.has_inner(self_) else functools.partial(self._watched, original)
                return run(self_, frame, cache_entry, hooks, frame_state, *args, **kw)
            finally:
                self._serving.recipe = None

        return convert

    def _locked(self, frame: Any) -> WouldCompile:
        function = function_of(frame.f_code, frame.f_globals.get("__name__", ""), frame.f_locals)
        missed = self._session.stats.events.told()
        reason = next((e.reason for e in reversed(missed) if e.function == function), "it was not looked up")
        return WouldCompile(function.name or function.place, reason)

    def _note(self, frame: Any, outcome: str, code: str, reason: str) -> None:
        """Record the outcome of a frame that is neither looked up nor watched."""
        function = function_of(frame.f_code, frame.f_globals.get("__name__", ""), frame.f_locals)
        self._session.stats.record(Event(function, FULL, outcome, code, reason))

    def _unwatched(self, converter: Any, frame: Any, result: Any, backend: Any) -> None:
        """Record that torch compiled a frame that Firebrick ignores."""
        if getattr(result, "guarded_code", None) is None:
            return
        if self._api.is_export(converter):
            self._note(frame, LEFT, "export", "torch exports it")
        elif backend is None:
            name = self._api.backend_name(converter)
            self._note(frame, LEFT, "other-backend", f"it is compiled by the backend {name}")
        else:
            self._note(frame, BYPASS, "unwatched", "torch compiled what it says it does not look at")

    def _recipe(self, converter: Any, frame: Any, backend: Any) -> Recipe:
        api = self._api
        options = recipe_options(backend.dynamic, api.is_fullgraph(converter), backend.config, api.CONFIGS)
        if self._recording and self._lean:
            self._note_ambient(backend, options)
        return make_recipe(frame.f_code, frame.f_globals.get("__name__", ""), options, host_facts())

    def _note_ambient(self, backend: Any, options: dict[str, str]) -> None:
        """Store the options frames are recorded under, for processes that cannot ask the compiler."""
        if (arguments := getattr(backend, ARGUMENTS, None)) is None:
            return
        key = ambient_key(arguments)
        if key not in self._ambient:
            self._ambient.add(key)
            packed, (store, _) = pack(options), self._session.opened()
            if store.registry_get(AMBIENT, OPTIONS, key) != packed:
                store.registry_update(AMBIENT, {(OPTIONS, key): packed})

    def _catching(self, original: Callable[..., Any]) -> Callable[..., Any]:
        """Wrap ``CatchErrorsWrapper.__call__``: record the frames that torch does not trace."""

        @functools.wraps(original)
        def catch(self_: Any, frame: Any, cache_entry: Any, frame_state: Any) -> Any:
            result = original(self_, frame, cache_entry, frame_state)
            try:
                module = frame.f_globals.get("__name__", "")
                if (
                    result.guarded_code is None
                    and not module.startswith("torch._dynamo")
                    and self._api.inductor_backend(self_._torchdynamo_orig_backend) is not None
                    and self._api.is_skipped_file(frame)
                ):
                    recipe = make_recipe(frame.f_code, module, SKIPPED_FILE, host_facts())
                    if not self._session.opened()[0].bundles(recipe.key):
                        self._recorder.skipped(Compilation(recipe, frame.f_code, frame.f_globals))
            except Exception as error:
                self._session.fault(error)
            return result

        return catch

    def _serve(
        self, recipe: Recipe, frame: Any, frame_state: Any, backend: Any, converter: Any
    ) -> Any | None:
        if self._asked:
            self._note(frame, LEFT, "own-precompile", "the program uses torch's own precompile")
        if not self._session.settings.load or self._asked:
            return None
        with no_collection():
            return self._frames.serve(
                recipe, frame, frame_state, backend, lambda: self._api.asked_of(converter, backend)
            )

    def _watched(
        self,
        original: Callable[..., Any],
        self_: Any,
        frame: Any,
        cache_entry: Any,
        *args: Any,
        **kw: Any,
    ) -> Any:
        recipe, self._serving.recipe = self._serving.recipe, None  # inner frames are separate frames
        package = self._api.compile_package(self_)
        if not self._recording or package is None:
            result = original(self_, frame, cache_entry, *args, **kw)
            if self._recording and not self._asked and result.guarded_code is not None:
                self._note(
                    frame, BYPASS, "unwatched", "torch records nothing of it (made before Firebrick was on)"
                )
            return result
        watched = Compilation(recipe, frame.f_code, frame.f_globals)
        watched.function = function_of(frame.f_code, frame.f_globals.get("__name__", ""), frame.f_locals)
        watched.buckets = gradient_buckets()
        with self._recorder.compiling(watched) as compilation:
            try:
                result = original(self_, frame, cache_entry, *args, **kw)
            except self._api.Unsupported as error:
                if self._api.must_compile(self_):
                    self._failed(compilation, error)
                else:
                    self._skipped(compilation, frame, cache_entry)
                raise
            except self._api.SkipFrame:
                self._skipped(compilation, frame, cache_entry)
                raise
            except BaseException as error:
                self._failed(compilation, error)
                raise
        if result.guarded_code is None:
            if not self._api.must_compile(self_):
                self._skipped(compilation, frame, cache_entry)
            return result
        try:
            compilation.reach(frame.f_locals)
            compilation.resumes = {
                name: code
                for name, code in self._api.resume_functions(package).items()
                if compilation.compiled is not None
                and name in generated_names(compilation.compiled, self._api.RESUME_PREFIX)
            }
            self._audited(compilation)
            compilation.requires = gpu_facts() if self._api.uses_gpu(package) else {}
            self._recorder.compiled(compilation)
        except Exception as error:
            self._session.stats.record(compilation.event(BYPASS, "error", f"{type(error).__name__}: {error}"))
            self._session.fault(error)
        return result

    def _audited(self, compilation: Compilation) -> None:
        """Write the text for audits of the bundle; a frame without it is served as well."""
        try:
            texts = compilation.audited.texts(compilation.compiled, compilation.resumes, compilation.code)
            compilation.audit = text_of(texts)
        except Exception as error:
            self._session.fault(error)

    def _failed(self, compilation: Compilation, error: BaseException) -> None:
        text = str(error).strip().partition("\n")[0]
        reason = f"torch could not compile it: {type(error).__name__}: {text:.200}"
        self._session.stats.record(compilation.event(BYPASS, "failed", reason))

    def _skipped(self, compilation: Compilation, frame: Any, cache_entry: Any) -> None:
        # a frame of torch is shared by many modules: its behaviour for one says nothing about the others
        module = compilation.recipe.components["function.module"]
        shared = module.startswith("torch.") and not module.startswith("torch.optim.")
        if compilation.traced and cache_entry is None and compilation.refused is None and not shared:
            compilation.reach(frame.f_locals)
            if compilation.refused is None:
                self._recorder.skipped(compilation)
        elif compilation.traced:
            self._session.stats.record(compilation.event(LEFT, *LEFT_ALONE))
