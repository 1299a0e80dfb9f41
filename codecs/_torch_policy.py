"""Say what of torch may occur in a backend artifact, what in it is volatile, and what is worth a blob of its own.

Valid for torch 2.11 to 2.13; names that a release does not have do no harm. Nothing here imports torch. Whoever wants more
stored extends the tables; what they do not admit is refused at encoding, with its name and place.
"""

from __future__ import annotations

import base64
import copyreg
import functools
import hashlib
import re
import sys
from collections import Counter
from typing import Any, Final

from firebrick.codecs._graph_format import Policy
from firebrick.codecs.attached import library_set
from firebrick.codecs.attached import library_set
from firebrick.codecs.graph import Leaf
from firebrick.codecs.library import LibraryCodec
from firebrick.codecs.library import LibraryCodec
from firebrick.codecs.triton import TritonCodec, TritonKernel
from firebrick.codecs.wrapper import WrapperCodec
from firebrick.errors import DecodeError

_AOT: Final = "torch._functorch._aot_autograd"
_BUNDLER: Final = "torch._inductor.triton_bundler"
_FX: Final = "torch._inductor.output_code:CompiledFxGraph"
_HERE: Final = "firebrick.codecs._torch_policy"

# Rebuilt by their builtin __new__ and their attributes.
INSTANCES: Final = (
    _AOT,
    "torch._inductor.cudagraph_utils",
    "torch._inductor.metrics:CachedMetricsDeltas",
    "torch._inductor.output_code",
    "torch._inductor.triton_bundler",
    "torch._inductor.utils:BoxedBool",
    "torch.fx.experimental.symbolic_shapes:SymIntEqByExpr",
    "torch.torch_version:TorchVersion",
)
# Named, never called by us: what the artifact's own machinery looks up or calls.
NAMES: Final = (
    "builtins:dict",
    "builtins:int",
    "builtins:list",
    "builtins:set",
    "torch._dynamo.source:TensorProperty",
    "torch._inductor.decomposition:select_decomp_table",
    "torch._subclasses.functional_tensor:FunctionalTensor",
    "torch.fx._symbolic_trace:Tracer",
    "torch.fx.graph_module:reduce_graph_module",
    "torch.nn.parameter:Parameter",
    "torch:Tensor",
)
# Called: constructors of values, which store their arguments.
CALLABLES: Final = (
    "torch.utils._ordered_set:OrderedSet",
    "firebrick.codecs.attached:library_set",
    "firebrick.codecs.attached:library_set",
    f"{_HERE}:expression",
    f"{_HERE}:kernel_artifacts",
)
SYMPY: Final = frozenset(
    {
        "sympy.core.add:Add",
        "sympy.core.mul:Mul",
        "sympy.core.power:Pow",
        *(f"sympy.core.numbers:{name}" for name in ("Half", "Integer", "NegativeOne", "One", "Rational", "Zero")),
        "sympy.core.symbol:Symbol",
        *(
            f"torch.utils._sympy.functions:{name}"
            for name in (
                "CeilDiv CeilToInt CleanDiv FloatPow FloatTrueDiv FloorDiv FloorToInt IntTrueDiv LShift Max Min Mod "
                "ModularIndexing PowByNatural PythonMod RShift RoundToInt ToFloat TruncToInt Where"
            ).split()
        ),
    }
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

_AOT_ID = re.compile(r"^(# AOT ID: \[')\d+_", re.MULTILINE)
_KERNEL_PATH = re.compile(r"^(\s*# kernel path: ).*[/\\]", re.MULTILINE)


def wrapper_text(source: str) -> str:
    """Take the count of compilations and the cache directory out of the comments of a wrapper."""
    return _KERNEL_PATH.sub(r"\1", _AOT_ID.sub(r"\1", source))


def _code_hash(source: str) -> str:
    # As torch._inductor.codecache.code_hash: the wrapper's file is named so.
    return "c" + base64.b32encode(hashlib.sha256(source.encode()).digest())[:51].decode().lower()


def _instance(value: Any, **changes: Any) -> Any:
    return copyreg.__newobj__, (type(value),), {**vars(value), **changes}  # type: ignore[attr-defined]


def _reduce_fx_graph(graph: Any) -> Any:
    if graph.current_callable is not None:
        raise ValueError("the graph was not prepared for serialisation")
    source = wrapper_text(graph.source_code)
    return _instance(
        graph,
        source_code=Leaf(WrapperCodec(), source),
        cache_key=_code_hash(source),
        counter_deltas=Counter(dict(sorted(graph.counter_deltas.items()))),
        fx_kwargs={**graph.fx_kwargs, "graph_id": None} if "graph_id" in graph.fx_kwargs else graph.fx_kwargs,
    )


def _reduce_libraries(libraries: Any) -> Any:
    return library_set, ({name: Leaf(LibraryCodec(), libraries[name]) for name in sorted(libraries)},)


def _reduce_aot_config(config: Any) -> Any:
    # The id counts compilations in a process; it only makes names in messages and in compiled autograd.
    return _instance(config, aot_id=0, precompile_backend_id=None)


def _reduce_kernels(kernels: Any) -> Any:
    payloads = {artifact.filename: artifact.payload for artifact in kernels.artifacts}
    kernel = TritonKernel.from_payloads(kernels.kernel_hash, payloads)
    return kernel_artifacts, (Leaf(TritonCodec(), kernel), kernels.device)


def kernel_artifacts(kernel: Any, device: Any) -> Any:
    """Make what torch's TritonBundler writes to Triton's cache directory."""
    bundler = sys.modules[_BUNDLER]
    if not isinstance(kernel, TritonKernel) or type(device) is not int:
        raise DecodeError("a kernel's artifacts are a kernel and a device index")
    artifacts = [bundler.TritonKernelArtifact(name, data) for name, data in kernel.payloads().items()]
    return bundler.TritonKernelArtifacts(kernel.kernel_hash, device, artifacts)


def _reduce_expression(value: Any) -> Any:
    name = type(value).__name__
    if name == "Symbol":
        assumptions = tuple(sorted(value._assumptions_orig.items()))
        return expression, (type(value), value.name, assumptions)
    arguments = (int(value.p), int(value.q)) if value.is_Rational else value.args
    return expression, (type(value), *arguments)


def expression(cls: Any, *arguments: Any) -> Any:
    """Rebuild a symbolic expression; text is taken as a symbol's name only, so that SymPy never parses it."""
    sympy = sys.modules["sympy"]
    if f"{cls.__module__}:{cls.__qualname__}" not in SYMPY:
        raise DecodeError(f"{cls!r:.60} is not a known kind of expression")
    if cls is sympy.Symbol:
        name, assumptions = arguments
        if type(name) is not str or not all(type(v) in (bool, type(None)) for _, v in assumptions):
            raise DecodeError("a symbol is a name and its assumptions")
        return sympy.Symbol(name, **dict(assumptions))
    if issubclass(cls, sympy.Rational):
        numerator, denominator = arguments
        if type(numerator) is not int or type(denominator) is not int or not denominator:
            raise DecodeError("a rational number is two integers")
        return sympy.Rational(numerator, denominator)
    if not all(isinstance(argument, sympy.Basic) for argument in arguments):
        raise DecodeError(f"an argument of {cls.__name__} is not an expression")
    return cls(*arguments, evaluate=False) if cls in (sympy.Add, sympy.Mul, sympy.Pow) else cls(*arguments)


def policy() -> Policy:
    """Give the policy for backend artifacts, for what of torch is imported at this moment."""
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
        names=(*NAMES, *SYMPY),
        volatile=VOLATILE,
        replace={
            _FX: _reduce_fx_graph,
            f"{_AOT}.schemas:CacheableAOTConfig": _reduce_aot_config,
            f"{_AOT}.schemas:AOTConfig": _reduce_aot_config,
            f"{_BUNDLER}:TritonKernelArtifacts": _reduce_kernels,
            "firebrick.codecs.attached:LibrarySet": _reduce_libraries,
            "firebrick.codecs.attached:LibrarySet": lambda libraries: (library_set, (dict(libraries),)),
            "firebrick.codecs.library:Library": lambda library: Leaf(LibraryCodec(), library),
            **dict.fromkeys(SYMPY, _reduce_expression),
        },
    )
