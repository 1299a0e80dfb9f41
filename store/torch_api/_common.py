"""Private names of torch 2.11 to 2.14, and helpers (guards: `dynamo_guards`, settings: `compiler_config`).

Source followed: ``torch/_dynamo/{convert_frame,guards,package,output_graph,eval_frame}.py``,
``torch/_inductor/{codecache,cpu_vec_isa}.py``, ``torch/_functorch/_aot_autograd/autograd_cache.py``.
Importing this module imports torch's compiler.
"""

from __future__ import annotations

import contextlib
import copy
import ctypes
import functools
import pickle
import sys
from collections.abc import Callable, Iterator, MutableMapping
from types import CodeType, ModuleType
from typing import Any

import torch
import torch._inductor.config as inductor_config
from torch._dynamo import convert_frame, eval_frame, exc, output_graph, package, trace_rules, types, utils
from torch._dynamo import guards as dynamo_guards
from torch._functorch._aot_autograd import autograd_cache, graph_compile
from torch._functorch._aot_autograd.aot_autograd_result import BundledAOTAutogradResult
from torch._guards import CompileContext, CompileId, compile_context
from torch._inductor import codecache, cpu_vec_isa
from torch._inductor.output_code import CompiledFxGraph
from torch._inductor.runtime import compile_tasks
from torch._inductor.runtime.runtime_utils import triton_config_to_hashable  # noqa: F401

from firebrick.base.namedtuple import namedtuple_scope
from firebrick.codecs.attached import LIBRARIES, LibrarySet
from firebrick.errors import NotStorable
from firebrick.torch_api.aot_entries import keying_entries, making_entries, saving_entries  # noqa: F401
from firebrick.torch_api.compiler_config import *  # noqa: F403
from firebrick.torch_api.ddp import backend_behind, record_buckets  # noqa: F401
from firebrick.torch_api.device_variables import note_devices  # noqa: F401
from firebrick.torch_api.dynamo_guards import *  # noqa: F403
from firebrick.torch_api.dynamo_guards import CheckFunctionManager, GuardBuilder, share_builtins_name
from firebrick.torch_api.late_backwards import noting_backwards  # noqa: F401
from firebrick.torch_api.process_functions import note_process_functions  # noqa: F401
from firebrick.torch_api.retrace import note_audited, retrace  # noqa: F401
from firebrick.torch_api.shared_object import load_extension
from firebrick.torch_api.tracing import note_tracing  # noqa: F401

ConvertFrame = convert_frame.ConvertFrame
ConvertFrameAssert = convert_frame.ConvertFrameAssert
CatchErrorsWrapper = convert_frame.CatchErrorsWrapper
ConvertFrameReturn = types.ConvertFrameReturn
CompilePackage = package.CompilePackage
OutputGraph = output_graph.OutputGraph
CppCodeCache = codecache.CppCodeCache
PyCodeCache = codecache.PyCodeCache
Unsupported = exc.Unsupported
SkipFrame = exc.SkipFrame
InductorBackend = torch._TorchCompileInductorWrapper
TritonBuild = sys.modules.get("triton.runtime.build")  # if Triton is installed, Dynamo has imported it

BACKEND_PREFIX = "__compiled_fn_"
RESUME_PREFIX = "__resume_at_"
# Why torch leaves a graph out of its packages that holds tensors itself (``compile_and_call_fx_graph``).
STATIC_ADDRESSES = "Graph contains named parameters due to static addresses."


def probe() -> None:
    """Check that the attributes used on instances and inside functions exist.

    Raises:
        AttributeError: naming what is missing.
    """
    for owner, names in (
        (ConvertFrame, ("__call__",)),
        (ConvertFrameAssert, ("__call__",)),
        (CatchErrorsWrapper, ("__call__",)),
        (trace_rules, ("check",)),
        (CheckFunctionManager, ("__init__", "serialize_guards", "id_ref")),
        (GuardBuilder, ("get", "get_guard_manager")),
        (
            CompilePackage,
            (
                "initialize", "code_context", "add_guarded_code", "add_inlined_source",
                "_add_user_function", "_add_function",
            ),
        ),
        (
            OutputGraph,
            ("bypass_package", "install_builtins_dict_in_fglobals", "install_global_by_id"),
        ),
        (CppCodeCache, ("load_async",)),
        (graph_compile, ("_aot_stage2c_make_autograd_function",)),
        (dynamo_guards, ("pickle_guards_state",)),
        (package, ("DynamoCache", "load_guards_state")),
        (autograd_cache, ("should_bundle_autograd_cache",)),
        (eval_frame, ("innermost_backend", "_optimize")),
        (cpu_vec_isa, ("pick_vec_isa",)),
        (compile_tasks, ("_set_triton_ptxas_path",)),
    ):  # fmt: skip
        for name in names:
            getattr(owner, name)


def inductor_backend(convert: Any) -> Any | None:
    """Return the ``torch.compile`` Inductor backend behind a frame converter, else ``None``."""
    backend = backend_behind(convert)
    return backend if type(backend) is InductorBackend else None


def backend_name(convert: Any) -> str:
    """Return the name of the backend behind a frame converter."""
    backend = backend_behind(convert)
    name = getattr(backend, "compiler_name", None) or getattr(backend, "__qualname__", None)
    return str(name or type(backend).__qualname__)


def _inner(convert: Any) -> Any:
    """Return the inner of two nested frame converters, or the only one."""
    return convert._inner_convert if isinstance(convert, ConvertFrame) else convert


def has_inner(convert: Any) -> bool:
    """Tell whether a frame converter delegates to another."""
    return isinstance(convert, ConvertFrame)


def is_export(convert: Any) -> bool:
    """Tell whether a frame converter exports."""
    return bool(_inner(convert)._export)


def is_fullgraph(convert: Any) -> bool:
    """Tell whether a frame converter belongs to ``torch.compile(fullgraph=True)``."""
    return bool(_inner(convert)._one_graph)


def asked_of(convert: Any, backend: Any) -> dict[str, Any]:
    """Return the arguments of ``torch.compile`` that affect a trace, by name."""
    return {"fullgraph": bool(_inner(convert)._one_graph), "dynamic": backend.dynamic}


def as_recorded(patches: Any) -> None:
    """Install the hooks that give Dynamo's generated objects the names they have in recordings."""
    patches.set(OutputGraph, "install_builtins_dict_in_fglobals", share_builtins_name)
    patches.set(OutputGraph, "install_global_by_id", naming_globals(OutputGraph.install_global_by_id))


def may_compile(frame: Any) -> bool:
    """Tell whether torch's own quick checks would let it trace a frame."""
    return frame.f_code not in convert_frame.output_codes and bool(convert_frame.has_tensor_in_frame(frame))


def is_skipped_file(frame: Any) -> bool:
    """Tell whether torch skips frames of this code because of its file."""
    return bool(trace_rules.check(frame.f_code))


def must_compile(convert: Any) -> bool:
    """Tell whether a frame that cannot be compiled is the user's error (``fullgraph``)."""
    inner = _inner(convert)
    return bool(inner._one_graph or inner._box.error_on_graph_break)


def forget_package(context: Any) -> None:
    """Stop a compiled function from recording into its ``CompilePackage``.

    With a package torch insists on serialising guards, and raises in the user's program if it cannot.

    Args:
        context: the ``OptimizeContext`` that made the function.
    """
    callback = context.callback
    convert = _inner(callback._torchdynamo_orig_backend if isinstance(callback, CatchErrorsWrapper) else None)
    if isinstance(convert, ConvertFrameAssert):
        convert._package = None


def pickled_package(package: Any, protocol: Any) -> tuple[Any, ...]:
    """Replace ``CompilePackage.__reduce_ex__``: a compiled module is pickled as if it had no package."""
    return type(None), ()


def copied_package(package: Any, memo: dict[int, Any]) -> Any:
    """Replace ``CompilePackage.__deepcopy__``: unpicklable packages can still be copied."""
    twin = memo[id(package)] = object.__new__(type(package))
    twin.__dict__.update(copy.deepcopy(vars(package), memo))
    return twin


def compile_package(convert: Any) -> Any | None:
    """Return the ``CompilePackage`` that a frame converter records into, if any."""
    return _inner(convert)._package


def guarded_return(frame_state: Any, original: CodeType, compiled: CodeType, manager: Any) -> Any:
    """Return a frame converter's result for a compiled frame: a real cache entry.

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
    """Return a frame converter's result for a frame that runs uncompiled."""
    return ConvertFrameReturn()


@contextlib.contextmanager
def loading_backends(backend: Any) -> Iterator[None]:
    """Apply the Inductor options of a backend inside this block.

    ``deserialize_bundled_cache_entry`` asks the configuration whether to use CUDA graphs. Only one compile
    thread is used: with more, torch would start a pool of worker processes for kernels that all exist.
    """
    options = dict(backend.config) if backend is not None else {}
    with inductor_config.patch(options | {"compile_threads": 1}):
        yield


def disable(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function marked so that Dynamo does not trace it."""
    disabled: Callable[..., Any] = torch._dynamo.disable(function)
    return disabled


def vec_isa_name() -> str:
    """Return the vector instruction set Inductor compiles C++ for, without probing."""
    return str(cpu_vec_isa.pick_vec_isa())


@contextlib.contextmanager
def naming_compile(frame_id: int) -> Iterator[None]:
    """Give torch's logs a compile id while an artifact is rebuilt outside a compilation."""
    if CompileContext.current_compile_id() is not None:
        yield
        return
    with compile_context(CompileContext(CompileId(frame_id=frame_id, frame_compile_id=0))):
        yield


def install(scope: MutableMapping[str, Any], name: str, value: Any) -> None:
    """Add a generated name to a module's globals unless it is present."""
    scope.setdefault(name, value)


def graphs_of(artifact: Any) -> Iterator[Any]:
    """Yield the compiled Inductor graphs of a backend artifact: forward, then backward."""
    content = artifact.content
    if not isinstance(content, BundledAOTAutogradResult):  # of a backend other than Inductor
        return
    for part in (content.compiled_fw, content.compiled_bw):
        if part is not None and isinstance(part.result, CompiledFxGraph):
            yield part.result


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
    """Leave the current frame out of a package, as torch does if it cannot store one."""
    if package_ is not None and package_._current_entry is not None:
        package_.bypass_current_entry()


def load_binding(cls: Any, key: str, path: str) -> Any:
    """Load a shared library as ``CppCodeCache._load_library`` does, from a path without a suffix.

    Args:
        cls: the requesting code cache: of extension modules, or of plain libraries.
        key: unique name of the library.
        path: of its bytes while it is loaded.
    """
    if not issubclass(cls, codecache.CppPythonBindingsCodeCache):
        return ctypes.CDLL(path)
    return load_extension(f"{key}.{cls.entry_function}", path)


def add_nameless(package_: Any, code: CodeType) -> None:
    """Add a code object that torch finds no name for to a package; its entry stays bypassed."""
    package_._add_function(code, "__main__")
    package_._codes[code].bypassed = True


def python_function(fn: Any) -> Any:
    """Return the Python function behind a callable, as ``CompilePackage.initialize`` expects."""
    for _ in range(100):
        fn = eval_frame.innermost_fn(fn)
        if hasattr(fn, "__code__"):
            return fn
        fn = fn.func if isinstance(fn, functools.partial) else type(fn).__call__
    raise NotStorable(f"no Python function behind {type(fn).__qualname__}")


def dynamo_cache(fault: Callable[[BaseException], None]) -> Any:
    """Return a ``DynamoCache`` that records packages but never finds any: frames are served instead."""

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
        artifact: torch's artifact of the graphs, as compiled.
        libraries_of: returns the libraries of a wrapper by its key.
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


def pristine(artifact: Any) -> Any:
    """Return a copy, as it is now, of an artifact that torch found in its cache and is about to load."""
    return type(artifact)(artifact.key, pickle.loads(pickle.dumps(artifact.content)))


def naming_globals(original: Callable[..., str]) -> Callable[..., str]:
    """Wrap ``OutputGraph.install_global_by_id``: name a module's global by name instead of address.

    torch uses addresses, even for ``torch`` itself when a program asks for a tensor's type. No other process
    has a global of that name, so guards that reach through it would never pass again. The same applies to the
    globals of a named tuple's ``__new__``, which belong to no module and are always alike.
    """

    @functools.wraps(original)
    def install_global_by_id(self: Any, prefix: str, value: Any) -> str:
        if not prefix and isinstance(value, ModuleType) and sys.modules.get(value.__name__) is value:
            source = self.root_tx.import_source(value.__name__)
            return str(source.global_name)
        if prefix == "___unnamed_scope" and value == namedtuple_scope(str(value.get("__name__"))):
            name = f"{prefix}_{value['__name__']}"
            self.import_sources[name] = value["__name__"]
            self.global_scope.setdefault(name, value)
            return name
        return original(self, prefix, value)

    return install_global_by_id


def autotuner() -> Any:
    """Return the class that launches Inductor's Triton kernels, or ``None`` without Triton."""
    if TritonBuild is None:
        return None
    from torch._inductor.runtime import triton_heuristics  # otherwise not imported on a CPU

    return triton_heuristics.CachingAutotuner


def pin_ptxas() -> None:
    """Make this process choose Triton's assembler now, like the workers that compile kernels.

    torch chooses before its first compilation, and Triton digests the choice once, when first asked; without
    this, their order would decide the names a process stores and finds kernels under.
    """
    if TritonBuild is not None:
        compile_tasks._set_triton_ptxas_path()
