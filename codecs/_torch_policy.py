"""The torch objects that a backend artifact may hold, its volatile values, and the parts stored separately.

Valid for torch 2.11 to 2.14; names that a release lacks do no harm. Nothing here imports torch. To store
more, extend the tables; anything they do not admit is refused at encoding, with its name and path.
"""

from __future__ import annotations

import functools
import sys
from typing import Final

from firebrick.codecs import _torch_reduce as reduce
from firebrick.codecs._graph_format import Policy

_AOT: Final = "torch._functorch._aot_autograd"
_BUNDLER: Final = "torch._inductor.triton_bundler"
_FX: Final = "torch._inductor.output_code:CompiledFxGraph"
_RUNTIME: Final = "torch._inductor.runtime"
_REBUILD: Final = "firebrick.codecs._torch_reduce"

# Rebuilt by their builtin __new__ and their attributes.
INSTANCES: Final = (
    _AOT,
    "firebrick.torch_api._plain:PlainGraph",
    "torch._guards:CompileId",
    "torch._inductor.cudagraph_utils",
    "torch._inductor.metrics:CachedMetricsDeltas",
    "torch._inductor.output_code",
    "torch._inductor.remote_cache:LocalAutotuneCache",  # torch 2.13
    "torch._inductor.remote_cache:LocalCacheBackend",
    "torch._inductor.remote_cache:RemoteCacheJsonSerde",
    f"{_RUNTIME}.autotune_cache",
    f"{_RUNTIME}.coordinate_descent_tuner:CoordescTuner",
    f"{_RUNTIME}.hints",
    f"{_RUNTIME}.static_triton_launcher",
    f"{_RUNTIME}.triton_heuristics",
    "torch._inductor.triton_bundler",
    "torch._inductor.utils:BoxedBool",
    "torch._inductor.utils:GraphPartitionMap",
    "torch.compiler._cache:CacheArtifactRecorder",  # torch 2.13
    "torch.fx.experimental.symbolic_shapes:SymIntEqByExpr",
    "torch.torch_version:TorchVersion",
    "triton.runtime.autotuner:Config",
    "triton.runtime.jit",
)
# Named, never called by us: the artifact's own machinery looks them up or calls them.
NAMES: Final = (
    "builtins:dict",
    "builtins:int",
    "builtins:list",
    "builtins:set",
    "inspect:_ParameterKind",
    "inspect:_empty",
    "torch._dynamo.source:TensorProperty",
    "torch._inductor.decomposition:select_decomp_table",
    "torch.fx._symbolic_trace:Tracer",
    "torch.fx.experimental.proxy_tensor:PythonKeyTracer",
    f"{_REBUILD}:graph_module",
    "torch.fx.graph_module:reduce_graph_module",
    "torch:SymBool",
    "torch:SymFloat",
    "torch:SymInt",
    "triton.language.core:constexpr",
)
# Called: constructors of values, which store their arguments.
CALLABLES: Final = (
    "inspect:Parameter",
    "inspect:Parameter.__setstate__",
    "inspect:Signature",
    "inspect:Signature.__setstate__",
    f"{_RUNTIME}.autotune_cache:AutotuneCache.__setstate__",
    f"{_RUNTIME}.triton_heuristics:CachingAutotuner.__setstate__",
    f"{_RUNTIME}.triton_heuristics:InductorConfig.__setstate__",
    "torch.utils._ordered_set:OrderedSet",
    "triton.runtime.autotuner:Config.__setstate__",
    "firebrick.codecs.attached:library_set",
    f"{_REBUILD}:cache_path",
    f"{_REBUILD}:expression",
    f"{_REBUILD}:kernel_artifacts",
)
VOLATILE: Final = {
    _FX: frozenset(
        {
            "_fx_graph_cache_debug_lines",
            "_fx_graph_cache_key",
            "_time_taken_ns",
            "cache_linemap",
            "inductor_post_grad_graph_str",
            "inductor_provenance_mapping_str",
            "inductor_provenance_stack_traces_str",
            "runnable_graph_str",
        }
    ),
    f"{_AOT}.aot_autograd_result:BundledAOTAutogradResult": frozenset(
        {
            "aot_backward_graph_str",
            "aot_forward_graph_str",
            "aot_joint_graph_str",
            "backward_time_taken_ns",
            "forward_time_taken_ns",
            "min_cut_info_str",
        }
    ),
    f"{_AOT}.schemas:ViewAndMutationMeta": frozenset({"compile_id_str", "tangent_source_stack_traces"}),
}


def policy() -> Policy:
    """Return the policy for backend artifacts, for the parts of torch imported at this moment."""
    modules = ("torch._dynamo.source", "torch._C._functionalization", "sympy")
    return _policy(tuple(name in sys.modules for name in modules))


@functools.lru_cache(8)
def _policy(imported: tuple[bool, ...]) -> Policy:
    sources, views, _ = imported
    callables = {*CALLABLES}
    if sources:
        module = sys.modules["torch._dynamo.source"]
        base = module.Source
        callables |= {
            f"{module.__name__}:{name}"
            for name, value in vars(module).items()
            if isinstance(value, type) and issubclass(value, base) and value.__module__ == module.__name__
        }
    if views:
        module = sys.modules["torch._C._functionalization"]
        for name in vars(module):
            if name.endswith("_ViewMeta") or name == "InverseReturnMode":
                callables |= {f"{module.__name__}:{name}", f"{module.__name__}:{name}.__setstate__"}
    return Policy(
        callables=frozenset(callables),
        instances=INSTANCES,
        names=(*NAMES, *reduce.SYMPY),
        tensor_classes=True,
        volatile=VOLATILE,
        replace={
            _FX: reduce.reduce_fx_graph,
            f"{_AOT}.schemas:AOTConfig": reduce.reduce_aot_config,
            f"{_AOT}.schemas:CacheableAOTConfig": reduce.reduce_aot_config,
            f"{_AOT}.aot_autograd_result:SerializedGraphModule": reduce.reduce_graph_module,
            f"{_BUNDLER}:TritonBundle": reduce.reduce_bundle,
            f"{_BUNDLER}:TritonKernelArtifacts": reduce.reduce_kernels,
            f"{_REBUILD}:CachePath": reduce.reduce_cache_path,
            f"{_RUNTIME}.autotune_cache:AutotuneCache": reduce.reduce_autotune_cache,
            f"{_RUNTIME}.triton_heuristics:CachingAutotuner": reduce.reduce_autotuner,
            "firebrick.codecs.attached:LibrarySet": reduce.reduce_libraries,
            "firebrick.codecs.library:Library": reduce.reduce_library,
            **dict.fromkeys(reduce.SYMPY, reduce.reduce_expression),
        },
    )
