"""Take torch objects apart for encoding, and rebuild them.

The `reduce_…` functions replace the objects' own `__reduce_ex__`; the others are called at decoding and are
on the allow-list of `_torch_policy`. Nothing here imports torch.
"""

from __future__ import annotations

import base64
import copyreg
import hashlib
import os
import re
import sys
from collections import Counter
from typing import Any, Final

from firebrick.codecs.attached import library_set
from firebrick.codecs.graph import Leaf
from firebrick.codecs.library import LibraryCodec
from firebrick.codecs.triton import TritonCodec, TritonKernel
from firebrick.codecs.wrapper import WrapperCodec
from firebrick.errors import DecodeError

_BUNDLER: Final = "torch._inductor.triton_bundler"
_GRAPH: Final = "torch.fx.graph_module:GraphModule"
_CACHE_DIR: Final = "torch._inductor.runtime.cache_dir_utils"
_SYMPY: Final = {
    "sympy.core.add": "Add",
    "sympy.core.mul": "Mul",
    "sympy.core.power": "Pow",
    "sympy.core.numbers": "Half Integer NegativeOne One Rational Zero",
    "sympy.core.symbol": "Symbol",
    "torch.utils._sympy.functions": (
        "CeilDiv CeilToInt CleanDiv FloatPow FloatTrueDiv FloorDiv FloorToInt IntTrueDiv LShift "
        "Max Min Mod ModularIndexing PowByNatural PythonMod RShift RoundToInt ToFloat TruncToInt "
        "Where"
    ),
}
SYMPY: Final = frozenset(f"{module}:{name}" for module, names in _SYMPY.items() for name in names.split())
_AOT_ID = re.compile(r"^(# AOT ID: \[')\d+_", re.MULTILINE)
_KERNEL_PATH = re.compile(r"^(\s*# kernel path: ).*[/\\]", re.MULTILINE)


def wrapper_text(source: str) -> str:
    """Remove the compilation count and the cache directory from a wrapper's comments."""
    return _KERNEL_PATH.sub(r"\1", _AOT_ID.sub(r"\1", source))


def _code_hash(source: str) -> str:
    # As torch._inductor.codecache.code_hash, which names the wrapper's file.
    return "c" + base64.b32encode(hashlib.sha256(source.encode()).digest())[:51].decode().lower()


def _instance(value: Any, **changes: Any) -> Any:
    return copyreg.__newobj__, (type(value),), {**vars(value), **changes}  # type: ignore[attr-defined]


def reduce_fx_graph(graph: Any) -> Any:
    """Take a compiled graph apart: its wrapper becomes a child, compilation counts go."""
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


def reduce_graph_module(serialized: Any) -> Any:
    """Take a serialised graph apart, so that subgraphs (of `torch.cond` and similar) stay serialised too.

    Decoding yields text: modules are made when torch asks for the outer one.
    """
    body, imports = serialized.args
    inner = {
        name: type(serialized)(child) if _is_graph(child) else child
        for name, child in body["_modules"].items()
    }
    if not any(isinstance(child, type(serialized)) for child in inner.values()):
        return _instance(serialized)
    return _instance(serialized, fn=graph_module, args=({**body, "_modules": inner}, imports))


def _is_graph(module: Any) -> bool:
    return any(f"{base.__module__}:{base.__qualname__}" == _GRAPH for base in type(module).__mro__)


def graph_module(body: dict[str, Any], imports: str) -> Any:
    """Make a graph's module, with its subgraphs, from the parts `reduce_graph_module` kept."""
    modules = {
        name: child.deserialize() if hasattr(child, "deserialize") else child
        for name, child in body["_modules"].items()
    }
    make = sys.modules["torch.fx.graph_module"].reduce_graph_module
    return make({**body, "_modules": modules}, imports)


def reduce_libraries(libraries: Any) -> Any:
    """Take a LibrarySet apart, in the order of the digests."""
    return library_set, (dict(sorted(libraries.items())),)


def reduce_library(library: Any) -> Any:
    """Make a library a child blob."""
    return Leaf(LibraryCodec(), library)


def reduce_aot_config(config: Any) -> Any:
    """Take an AOTConfig apart without its id, a compilation count used only in names."""
    return _instance(config, aot_id=0, precompile_backend_id=None)


class CachePath:
    """A path in Inductor's cache directory, while an artifact is encoded."""

    def __init__(self, path: str) -> None:
        """Accept a path whose last two components locate it in the directory."""
        self.parts = re.split(r"[/\\\\]", path)[-2:]


def cache_path(*parts: Any) -> str:
    """Return the path of a file in this process's Inductor cache directory."""
    if not all(
        type(part) is str and part not in ("", "..") and not set(part) & set("/\\\0") for part in parts
    ):
        raise DecodeError(f"{parts!r:.80} is not a path in a cache directory")
    directory: str = sys.modules[_CACHE_DIR].cache_dir()
    return os.path.join(directory, *parts)


def reduce_cache_path(path: Any) -> Any:
    """Turn a marked path into one of the decoding process."""
    return cache_path, tuple(path.parts)


def reduce_autotuner(tuner: Any) -> Any:
    """Take a CachingAutotuner apart without times, its file relative to the cache."""
    state = tuner.__getstate__()
    changes = {
        "autotune_time_taken_ns": 0,
        "compile_id": None,
        "filename": CachePath(state["filename"]) if state.get("filename") else None,
        "precompile_time_taken_ns": 0,
    }
    state.update((key, value) for key, value in changes.items() if key in state)
    return copyreg.__newobj__, (type(tuner),), state  # type: ignore[attr-defined]


def reduce_autotune_cache(cache: Any) -> Any:
    """Take an AutotuneCache apart, its file relative to the cache."""
    state = cache.__getstate__()
    if state.get("local_cache"):
        backend, path = state["local_cache"]
        state["local_cache"] = (backend, CachePath(path))
    return copyreg.__newobj__, (type(cache),), state  # type: ignore[attr-defined]


def reduce_bundle(bundle: Any) -> Any:
    """Take a TritonBundle apart, its kernels sorted: parallel compilation shuffles them."""
    kernels = sorted(bundle.kernel_artifacts, key=lambda kernel: (kernel.kernel_hash, kernel.device))
    return _instance(bundle, kernel_artifacts=kernels)


def reduce_kernels(kernels: Any) -> Any:
    """Make a kernel's files a child, without intermediate representations."""
    return kernel_artifacts, (Leaf(TritonCodec(), TritonKernel.from_bundled(kernels)), kernels.device)


def kernel_artifacts(kernel: Any, device: Any) -> Any:
    """Make the object that torch's TritonBundler writes to Triton's cache directory."""
    bundler = sys.modules[_BUNDLER]
    if not isinstance(kernel, TritonKernel) or type(device) is not int:
        raise DecodeError("a kernel's artifacts are a kernel and a device index")
    artifacts = [bundler.TritonKernelArtifact(name, data) for name, data in kernel.payloads().items()]
    return bundler.TritonKernelArtifacts(kernel.kernel_hash, device, artifacts)


def reduce_expression(value: Any) -> Any:
    """Take a symbolic expression apart into its class and arguments."""
    name = type(value).__name__
    if name == "Symbol":
        assumptions = tuple(sorted(value._assumptions_orig.items()))
        return expression, (type(value), value.name, assumptions)
    arguments = (int(value.p), int(value.q)) if value.is_Rational else value.args
    return expression, (type(value), *arguments)


def expression(cls: Any, *arguments: Any) -> Any:
    """Rebuild a symbolic expression.

    Text is only ever a symbol's name, so that SymPy never parses it.
    """
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
    options = {"evaluate": False} if cls in (sympy.Add, sympy.Mul, sympy.Pow) else {}
    return cls(*arguments, **options)
