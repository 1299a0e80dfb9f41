"""Private names of torch 2.11 to 2.13 and small verbs on them.

Source followed: ``torch/_dynamo/{convert_frame,guards,package,output_graph,eval_frame}.py``,
``torch/_inductor/{codecache,cpu_vec_isa}.py``, ``torch/_functorch/_aot_autograd/autograd_cache.py``.
Importing this module imports torch's compiler.
"""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import functools
import hashlib
import importlib.machinery
import importlib.util
import logging
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from types import CellType, CodeType, FunctionType
from typing import Any

import torch
import torch._dynamo.config as dynamo_config
import torch._functorch.config as functorch_config
import torch._inductor.config as inductor_config
from torch._dynamo import convert_frame, eval_frame, exc, output_graph, package, types, utils
from torch._dynamo import guards as dynamo_guards
from torch._dynamo.source import (
    AttrSource,
    TypeSource,
    get_global_source_name,
    get_local_source_name,
)
from torch._functorch._aot_autograd import autograd_cache
from torch._guards import CompileContext, CompileId, Guard, GuardsSet, compile_context
from torch._inductor import codecache, cpu_vec_isa
from torch._inductor.output_code import CompiledFxGraph
from torch.utils._ordered_set import OrderedSet

from firebrick._patches import Patches
from firebrick.codecs.attached import LIBRARIES, LibrarySet
from firebrick.errors import InternalError, NotStorable
from firebrick.loader.guard_state import rebuild_mapping

ConvertFrame = convert_frame.ConvertFrame
ConvertFrameAssert = convert_frame.ConvertFrameAssert
ConvertFrameReturn = types.ConvertFrameReturn
CheckFunctionManager = dynamo_guards.CheckFunctionManager
GuardBuilder = dynamo_guards.GuardBuilder
CompilePackage = package.CompilePackage
OutputGraph = output_graph.OutputGraph
CppCodeCache = codecache.CppCodeCache
PyCodeCache = codecache.PyCodeCache
SkipFrame = exc.SkipFrame
Unsupported = exc.Unsupported
InductorBackend = torch._TorchCompileInductorWrapper

BACKEND_PREFIX = "__compiled_fn_"
RESUME_PREFIX = "__resume_at_"
BUILTINS_NAME = "__builtins_dict___firebrick"

# Guards on the identity of an object: torch can not serialise them.
IDENTITY_GUARDS = frozenset(
    {"ID_MATCH", "FUNCTION_MATCH", "CLASS_MATCH", "MODULE_MATCH", "CLOSURE_MATCH", "BUILTIN_MATCH"}
)
REFUSED_GUARDS = frozenset({"DICT_VERSION", "NN_MODULE", "WEAKREF_ALIVE"})

# Configuration that does not change what is computed (folders, compilers' names, logs, limits), by
# prefix, beside what torch itself leaves out of its cache keys.
_IGNORED_CONFIG: Mapping[str, tuple[str, ...]] = {
    "inductor": (
        "cpp.cxx", "cuda.cuda_cxx", "cutlass.cuda_cxx", "rocm.rocm_home", "rocm.ck_dir",
        "xpu.oneapi_root", "halide.", "aot_inductor.", "debug", "profile", "verbose_progress",
        "bundled_autotune_remote_cache", "bundle_triton_into_fx_graph_cache", "quiesce_async",
        "autotune_local_cache", "write_are_deterministic_algorithms_enabled", "benchmark_harness",
    ),
    "dynamo": (
        "caching_precompile", "strict_precompile", "recompile_limit", "accumulated_recompile_limit",
        "cache_size_limit", "accumulated_cache_size_limit", "fail_on_recompile_limit_hit",
        "constant_functions", "skipfiles_inline_module_allowlist", "debug_dir_root", "log_", "repro_",
        "replay_", "verbose", "report_guard_failures", "base_dir", "reorderable_logging_functions",
        "record_compile_time", "record_pre_graph", "record_runtime_overhead", "run_gc_after_compile",
        "graph_break_", "suppress_errors", "cprofile", "dynamo_profiler", "print_",
    ),
    "functorch": ("enable_autograd_cache", "bundled_autograd_cache", "strict_autograd_cache",
                  "enable_remote_autograd_cache", "autograd_cache_", "debug_"),
}  # fmt: skip
_CONFIGS = {
    "inductor": inductor_config,
    "dynamo": dynamo_config,
    "functorch": functorch_config,
}
_PLAIN_DICTS = frozenset({"builtins", "collections", "torch.nn.modules.container"})
_ADDRESS = re.compile(r" at 0x[0-9a-f]+")


def probe() -> None:
    """Check that what is used on instances and inside functions is there.

    Raises:
        AttributeError: naming what is missing.
    """
    for owner, names in (
        (ConvertFrame, ("__call__",)),
        (ConvertFrameAssert, ("__call__",)),
        (CheckFunctionManager, ("__init__", "serialize_guards", "id_ref")),
        (GuardBuilder, ("get", "get_guard_manager")),
        (
            CompilePackage,
            (
                "initialize", "code_context", "add_guarded_code", "add_inlined_source",
                "_add_user_function", "_add_function",
            ),
        ),
        (OutputGraph, ("bypass_package", "install_builtins_dict_in_fglobals")),
        (CppCodeCache, ("load_async",)),
        (dynamo_guards, ("pickle_guards_state",)),
        (package, ("DynamoCache", "load_guards_state")),
        (autograd_cache, ("should_bundle_autograd_cache",)),
        (eval_frame, ("innermost_backend", "_optimize")),
        (cpu_vec_isa, ("pick_vec_isa",)),
    ):  # fmt: skip
        for name in names:
            getattr(owner, name)


def text_of(value: Any) -> str:
    """Return a value of an option or of the configuration as text that holds no address."""
    if value is None or type(value) in (bool, int, float, str):
        return repr(value)
    if callable(getattr(value, "uuid", None)):
        return f"uuid:{value.uuid()!r}"
    if callable(value) and hasattr(value, "__qualname__"):
        return f"{value.__module__}.{value.__qualname__}"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{k!r}: {text_of(v)}" for k, v in sorted(value.items())) + "}"
    if isinstance(value, set | frozenset):
        return "{" + ", ".join(sorted(map(text_of, value))) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(text_of, value)) + "]"
    return _ADDRESS.sub("", repr(value))


@functools.cache
def _config_names(part: str) -> tuple[str, ...]:
    """Return the sorted names of one configuration that change what is computed."""
    config = _CONFIGS[part]
    ignored = ("_", *getattr(config, "_cache_config_ignore_prefix", ()), *_IGNORED_CONFIG[part])
    return tuple(sorted(name for name in config._config if not name.startswith(ignored)))


def configuration() -> dict[str, str]:
    """Return the compiler's configuration as it stands in this thread now, one text per part.

    A text is the digest of all values, followed by those that differ from their defaults.
    """
    parts = {}
    for part, config in _CONFIGS.items():
        values = [(name, config.__getattr__(name)) for name in _config_names(part)]
        texts = [(name, text_of(value)) for name, value in values]
        changed = [f"{n}={text}" for n, text in texts if text != text_of(config._config[n].default)]
        digest = hashlib.sha256(repr(texts).encode()).hexdigest()[:32]
        parts[f"config.{part}"] = "; ".join([digest, *changed])
    return parts


def compiler_config(backend: Any) -> dict[str, Any]:
    """Return Inductor's configuration with a backend's options, without importing its code generators.

    Stands for ``_TorchCompileInductorWrapper.get_compiler_config`` of ``torch/__init__.py``.
    """
    with inductor_config.patch(backend.config):
        copied: dict[str, Any] = inductor_config.get_config_copy()
    return copied


def inductor_backend(convert: Any) -> Any | None:
    """Return the ``torch.compile`` Inductor backend behind a frame converter, else ``None``."""
    backend = eval_frame.innermost_backend(convert)
    return backend if type(backend) is InductorBackend else None


def options(convert: Any, backend: Any) -> dict[str, str]:
    """Return the options of ``torch.compile`` behind a frame converter, and the configuration."""
    inner = getattr(convert, "_inner_convert", convert)
    return {
        "backend": "inductor",
        "dynamic": repr(backend.dynamic),
        "fullgraph": repr(bool(inner._one_graph)),
        "inductor": text_of(backend.config),
        **configuration(),
    }


def may_compile(frame: Any) -> bool:
    """Tell whether torch would go on to trace a frame, by its own quick checks."""
    return frame.f_code not in convert_frame.output_codes and bool(convert_frame.has_tensor_in_frame(frame))


def compile_package(convert: Any) -> Any | None:
    """Return the ``CompilePackage`` that a frame converter records into, if any."""
    return getattr(convert, "_inner_convert", convert)._package


def builtins_name(state: Any) -> str | None:
    """Return the global name under which a guard state expects the builtins."""
    name: str | None = state.output_graph.name_of_builtins_dict_key_in_fglobals
    return name


def builtins_of(scope: dict[str, Any]) -> Any:
    """Return the builtins dictionary of a module's globals."""
    return output_graph.get_builtins_dict(scope)


def build_manager(code: CodeType, state: Any, scope: dict[str, Any]) -> Any:
    """Build the guard manager of a loaded guard state against live globals.

    Follows ``load_guard_manager`` of ``torch/_dynamo/package.py``.
    """
    if name := builtins_name(state):
        state.output_graph.global_scope[name] = output_graph.get_builtins_dict(scope)
    log = logging.getLogger("torch._guards")
    quiet, log.disabled = (
        log.disabled,
        True,
    )  # a guard that can not be built here is a miss, no error
    try:
        return CheckFunctionManager(
            code,
            output_graph.OutputGraphCommon(state.output_graph),
            shape_code_parts=state.shape_code_parts,
            runtime_global_scope=scope,
        ).guard_manager
    finally:
        log.disabled = quiet


def guarded_return(frame_state: Any, original: CodeType, compiled: CodeType, manager: Any) -> Any:
    """Return what a frame converter returns for a compiled frame: a real cache entry.

    Follows the end of ``_compile`` in ``torch/_dynamo/convert_frame.py``.
    """
    convert_frame.input_codes.add(original)
    convert_frame.output_codes.add(compiled)
    utils.orig_code_map[compiled] = original
    utils.increment_frame()
    compile_id = convert_frame.get_compile_id(frame_state)
    guarded = types.GuardedCode(compiled, manager, compile_id, f"Torch-Compiled Region: {compile_id}")
    return types.wrap_guarded_code(guarded)


def skip_return() -> Any:
    """Return what a frame converter returns for a frame that runs as it is."""
    return ConvertFrameReturn()


def guard_types(guard: Any) -> frozenset[str]:
    """Return the kinds of a guard that has been built once: its own and those derived from it."""
    return frozenset({guard.create_fn_name(), *(guard.guard_types or ())})


def is_closure_guard(guard: Any, value: Any) -> bool:
    """Tell whether a guard compares a Python function by its code object, not by itself."""
    return guard.create_fn_name() == "CLOSURE_MATCH" and hasattr(value, "__code__")


def fresh_guard(source: Any, create: Callable[..., None]) -> Any:
    """Return a guard without stacks, texts and addresses."""
    return Guard(source, create)


def code_source(source: Any) -> Any:
    """Return the source of a function's code object."""
    return AttrSource(source, "__code__")


def guard_set(guards: list[Any]) -> Any:
    """Return guards as the set that torch keeps them in, in an order of their own."""
    result = GuardsSet(OrderedSet(sorted(guards, key=_guard_order)))
    for guard in guards:
        guard._hash = None  # computed by the set; differs in every process
    return result


def _guard_order(guard: Any) -> tuple[Any, ...]:
    return (*guard.sort_key()[:4], guard.create_fn_name(), repr(guard.originating_source))


@contextlib.contextmanager
def keeping_identity_guards() -> Iterator[None]:
    """Build guards without torch's ``caching_precompile`` filter, which drops identity guards."""
    with dynamo_config.patch(caching_precompile=False):
        yield


def saving_manager(code: CodeType, graph: Any, guards: list[Any], pickled: Callable[..., bytes]) -> Any:
    """Build a frame's guards a second time, to be stored, and return the manager with the state.

    Args:
        code: the frame's code object.
        graph: torch's output graph of the frame.
        guards: what is to be stored instead of the graph's own guards.
        pickled: called instead of ``pickle_guards_state`` with the original, the state and a builder.

    Raises:
        PackageError: of torch, for a guard that can not be serialised.
    """
    state = dataclasses.replace(graph.dump_guards_state(), _guards=guard_set(guards), skip_guards_check=True)
    common = output_graph.OutputGraphCommon(
        state,
        graph.import_sources,
        graph.shape_env,
        graph.export_metadata,
        graph.tracked_fakes_id_to_source,
    )
    pickler = dynamo_guards.GuardsStatePickler
    patches = Patches()
    patches.set(
        dynamo_guards,
        "pickle_guards_state",
        functools.partial(pickled, dynamo_guards.pickle_guards_state),
    )
    patches.set(pickler, "reducer_override", _reducing(pickler.reducer_override))
    try:
        return CheckFunctionManager(code, common, save_guards=True, strict_error=True)
    finally:
        patches.undo()


def _reducing(original: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap ``GuardsStatePickler.reducer_override`` so that more values that guards look at are kept.

    Functions that are not what their name stands for (a decorator's), which torch marks as missing, keep
    their code and what guards look at in their closure. Mappings of a class of the user's are
    kept by their contents, so that no constructor need be called when they are read.
    """

    def reducer_override(self: Any, obj: Any) -> Any:
        if isinstance(obj, FunctionType) and id(obj) in self.guard_tree_values:
            found: Any = sys.modules.get(obj.__module__)
            for name in obj.__qualname__.split("."):
                found = getattr(found, name, None)
            if found is not obj:
                closure = obj.__closure__ and tuple(map(functools.partial(_cell, self), obj.__closure__))
                return self._unpickle_nested_function, (
                    obj.__code__, obj.__module__, obj.__qualname__, obj.__defaults__, closure,
                )  # fmt: skip
        cls = type(obj)
        if cls is Guard:  # its other fields are empty: see `canonical_state`
            return Guard, (obj.originating_source, obj.create_fn)
        result = original(self, obj)
        if result is NotImplemented and isinstance(obj, dict) and cls.__module__ not in _PLAIN_DICTS:
            return rebuild_mapping, (cls, list(dict.items(obj)), vars(obj))
        return result

    return reducer_override


def _cell(pickler: Any, cell: CellType) -> CellType:
    try:
        value = cell.cell_contents
    except ValueError:
        return cell
    return cell if id(value) in pickler.guard_tree_values else CellType(None)


def canonical_state(state: Any) -> Any:
    """Return a guard state in which nothing hangs on addresses, stacks or the hash seed."""
    graph = state.output_graph
    guards = [fresh_guard(g.originating_source, g.create_fn) for g in graph._guards]
    return dataclasses.replace(
        state,
        output_graph=dataclasses.replace(
            graph,
            _guards=guard_set(guards),
            guard_on_key_order=OrderedSet(sorted(graph.guard_on_key_order, key=repr)),
        ),
    )


def live_value(builder: Any, guard: Any) -> Any:
    """Evaluate a guard's source against the live globals and the builder's locals."""
    scope = {**builder.scope, "G": builder.runtime_global_scope}
    return guard.originating_source.get_value(scope, dynamo_guards._get_closure_vars(), {})


def type_of(source: Any) -> Any | None:
    """Return the source whose type a source stands for, if it stands for a type."""
    return source.base if isinstance(source, TypeSource) else None


def local_name(source: Any) -> str | None:
    """Return the local variable that a source starts from, ``None`` for another start."""
    name = get_local_source_name(source)
    return name if isinstance(name, str) else None


def global_name(source: Any) -> str | None:
    """Return the global variable that a source starts from, ``None`` for another start."""
    name = get_global_source_name(source)
    return name if isinstance(name, str) else None


def add_id_guard(builder: Any, guard: Any, value: Any, text: str) -> None:
    """Add a guard on the identity of a live object, dropped with the object.

    Follows ``GuardBuilder.id_match_unchecked`` of ``torch/_dynamo/guards.py``.
    """
    # what a stored state has in place of a local may be a mark that it is missing
    builder.src_get_value_cache[guard.originating_source] = value
    identity = builder.id_ref(value, guard.name)
    builder.get_guard_manager(guard).add_id_match_guard(identity, [text], guard.user_stack)


def add_lambda_guard(builder: Any, guard: Any, check: Callable[[Any], bool], text: str) -> None:
    """Add a guard that calls a Python function with the object."""
    builder.src_get_value_cache.setdefault(guard.originating_source, None)
    builder.get_guard_manager(guard).add_lambda_guard(check, [text], guard.user_stack)


def add_failing_guard(builder: Any, text: str) -> None:
    """Make a frame's guards fail whatever the inputs."""
    builder.guard_manager.root.add_lambda_guard(lambda _: False, [text], None)


@contextlib.contextmanager
def loading_backends(backend: Any) -> Iterator[None]:
    """Run with the Inductor options of a backend in force.

    ``deserialize_bundled_cache_entry`` asks the configuration whether to use CUDA graphs.
    """
    with inductor_config.patch(backend.config if backend is not None else {}):
        yield


def disable(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function marked so that Dynamo does not trace it."""
    disabled: Callable[..., Any] = torch._dynamo.disable(function)  # type: ignore[no-untyped-call]
    return disabled


def vec_isa_name() -> str:
    """Return the vector instruction set for which Inductor compiles C++, without a probe of ours."""
    return str(cpu_vec_isa.pick_vec_isa())


@contextlib.contextmanager
def naming_compile(frame_id: int) -> Iterator[None]:
    """Give logs of torch a compile id while an artifact is rebuilt outside a compilation."""
    if CompileContext.current_compile_id() is not None:
        yield
        return
    with compile_context(CompileContext(CompileId(frame_id=frame_id, frame_compile_id=0))):
        yield


def install(scope: MutableMapping[str, Any], name: str, value: Any) -> None:
    """Put a generated name into a module's globals unless it is there."""
    scope.setdefault(name, value)


def graphs_of(artifact: Any) -> Iterator[Any]:
    """Yield the compiled Inductor graphs of a backend artifact: forward, then backward."""
    content = artifact.content
    for part in ("compiled_fw", "compiled_bw"):
        graph = getattr(getattr(content, part, None), "result", None)
        if isinstance(graph, CompiledFxGraph):
            yield graph


def uses_gpu(package_: Any) -> bool:
    """Tell whether the graphs that a package recorded run on a GPU."""
    return bool(package_._device_type not in ("cpu", "meta"))


def resume_functions(package_: Any) -> dict[str, CodeType]:
    """Return the resume functions that a package recorded: name -> code object."""
    return {
        name: code
        for code, entry in package_._codes.items()
        if entry.install_to_global
        for name in entry.function_names
    }


def bypass(package_: Any) -> None:
    """Leave the frame under way out of a package, as torch does for what it can not store."""
    if package_ is not None and package_._current_entry is not None:
        package_.bypass_current_entry()


def share_builtins_name(graph: Any) -> str:
    """Install the builtins of a frame's module under one name for all compilations, and return it.

    torch counts (``__builtins_dict___3``); a loaded guard state must find the name it was built with,
    and must not take one that the compiler of this process is about to make.
    Stands for ``OutputGraph.install_builtins_dict_in_fglobals``.
    """
    scope = graph.global_scope
    scope.setdefault(BUILTINS_NAME, output_graph.get_builtins_dict(scope))
    return BUILTINS_NAME


def load_binding(cls: Any, key: str, path: str) -> Any:
    """Load a shared library as ``CppCodeCache._load_library`` does, from a path without a suffix.

    Args:
        cls: the code cache that asks: one of extension modules, or of plain libraries.
        key: unique name of the library.
        path: where its bytes are while it is loaded.
    """
    if not issubclass(cls, codecache.CppPythonBindingsCodeCache):
        return ctypes.CDLL(path)
    os.environ["_TORCHINDUCTOR_PYOBJECT_TENSOR_DATA_PTR"] = str(
        torch._C._dynamo.guards._torchinductor_pyobject_tensor_data_ptr  # type: ignore[attr-defined]
    )
    name = f"{key}.{cls.entry_function}"
    loader = importlib.machinery.ExtensionFileLoader(name, path)
    spec = importlib.util.spec_from_loader(name, loader, origin=path)
    if spec is None:
        raise InternalError(f"no module specification for {name}")
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module


def add_nameless(package_: Any, code: CodeType) -> None:
    """Enter a code object into a package that torch finds no name for; its entry stays bypassed."""
    package_._add_function(code, "__main__")
    package_._codes[code].bypassed = True


def python_function(fn: Any) -> Any:
    """Return the Python function behind a callable, as ``CompilePackage.initialize`` wants one."""
    for _ in range(100):
        fn = eval_frame.innermost_fn(fn)
        if hasattr(fn, "__code__"):
            return fn
        fn = fn.func if isinstance(fn, functools.partial) else type(fn).__call__
    raise NotStorable(f"no Python function behind {type(fn).__qualname__}")


def dynamo_cache(fault: Callable[[BaseException], None]) -> Any:
    """Return a ``DynamoCache`` that records packages and never finds any: frames are served instead."""

    class Cache(package.DiskDynamoCache):
        def load(self, fn: Callable[..., Any]) -> None:
            return None

        def record_package(self, package: Any) -> None:
            try:
                super().record_package(package)
            except Exception as error:
                fault(error)

    return Cache(package.DynamoCache.path_prefix())


@contextlib.contextmanager
def holding_libraries(artifact: Any, libraries_of: Callable[[str], Any]) -> Iterator[None]:
    """Let the graphs of an artifact carry the shared libraries that their wrappers load.

    Args:
        artifact: torch's artifact of the graphs as they were compiled.
        libraries_of: gives the libraries of a wrapper by its key.
    """
    graphs = list(graphs_of(artifact))
    for graph in graphs:
        if not hasattr(graph, LIBRARIES):
            setattr(graph, LIBRARIES, LibrarySet(libraries_of(graph.cache_key)))
    try:
        yield
    finally:
        for graph in graphs:
            vars(graph).pop(LIBRARIES, None)
