"""Turn torch's backend artifact into one that needs no compiler, or say why that is impossible.

Source followed: ``torch/_functorch/_aot_autograd/aot_autograd_result.py``,
``CompiledFxGraph.post_compile`` of ``torch/_inductor/output_code.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from types import CodeType
from typing import Any

from firebrick.capture.aot_program import aot_program
from firebrick.capture.triton_kernels import Tuners, autotuned
from firebrick.capture.wrapper_source import Wrapper, plain_wrapper, rewrite
from firebrick.codecs.launch import Autotuned
from firebrick.codecs.lean_backend import CudaGraphs, LeanBackend, LeanGraph
from firebrick.codecs.library import Library
from firebrick.errors import NotLean
from firebrick.runtime import cuda_warmup
from firebrick.torch_api import aot as api

LibrariesOf = Callable[[str], Mapping[str, Library]]


def lean_backend(artifact: Any, libraries_of: LibrariesOf, tuners_of: Tuners) -> LeanBackend:
    """Return the lean form of a backend artifact.

    Args:
        artifact: torch's artifact as recorded; only read.
        libraries_of: returns the libraries of a wrapper by its key, like `WrapperLibraries.of`.
        tuners_of: returns the autotuners of a wrapper by its key, like `WrapperLibraries.tuners_of`.

    Raises:
        NotLean: naming what is not in the closed vocabulary.
        NotStorable: a library is missing.
    """
    results = _results(artifact)
    program = aot_program(artifact.content)
    libraries: dict[str, Library] = {}
    graphs = [
        None if result is None else _graph(result, libraries_of, tuners_of, libraries) for result in results
    ]
    if graphs[0] is None:
        raise NotLean("no forward graph")
    return LeanBackend(program, graphs[0], graphs[1], libraries)


def _results(artifact: Any) -> list[Any]:
    """Return the compiled graphs of an artifact, forward and backward; None if there is no backward."""
    entry = artifact.content
    if not isinstance(entry, api.BundledAOTAutogradResult):
        raise NotLean(f"an artifact that holds no graphs ({type(entry).__name__})")
    return [None if part is None else part.result for part in (entry.compiled_fw, entry.compiled_bw)]


def gpus_of(artifact: Any, backend: LeanBackend) -> tuple[frozenset[int], str]:
    """Return the indices of the GPUs a backend runs on, and why it cannot move to another.

    Args:
        artifact: the artifact it was made from.
        backend: the lean form.
    """
    gpus: set[int] = set()
    pinned = ""
    for result, graph in zip(_results(artifact), (backend.forward, backend.backward), strict=True):
        if graph is None:
            continue
        here = set() if isinstance(result, api.PlainGraph) else set(result.device_idxs)
        gpus |= here
        if here and here != {graph.device}:
            pinned = pinned or "a wrapper that names several GPUs, or one in another way"
        if any(value.device.type == "cuda" for value in graph.constants.values()):
            pinned = pinned or "a constant on a GPU"
    return frozenset(gpus), pinned


def libraries_of(backend: LeanBackend) -> frozenset[str]:
    """Return which of CUDA's libraries a backend calls, by the names of `firebrick.runtime.cuda_warmup`."""
    graphs = [graph for graph in (backend.forward, backend.backward) if graph is not None]
    return cuda_warmup.libraries_of(set().union(*(_names_of(graph.code) for graph in graphs)))


def _graph(
    graph: Any, libraries_of: LibrariesOf, tuners_of: Tuners, libraries: dict[str, Library]
) -> LeanGraph:
    if isinstance(graph, api.PlainGraph):
        return _plain_graph(graph)
    if type(graph) is not api.CompiledFxGraph:
        raise NotLean(f"a graph of type {type(graph).__name__}")
    for reason in _refusals(graph):
        raise NotLean(reason)
    constants = dict(graph.constants or {})
    wrapper = rewrite(graph.source_code, constants.keys(), api.pybinding_digest)
    known = libraries_of(graph.cache_key) if wrapper.kernels else {}
    for digest in sorted(set(wrapper.kernels.values())):
        if digest not in known:
            raise NotLean("a kernel whose library was not seen to be loaded")
        libraries[digest] = known[digest]
    launches = _launches(graph, wrapper, tuners_of) if wrapper.launches else {}
    used = _names_of(wrapper.code)
    mutated = frozenset(graph.mutated_input_idxs)
    deferred = api.defers_alignment(graph)
    check = [index for index in graph.inputs_to_check or () if not deferred or index in mutated]
    return LeanGraph(
        wrapper.code,
        wrapper.kernels,
        {name: value for name, value in constants.items() if name in used},
        tuple(check),
        tuple(index for index in check if index in mutated),
        launches,
        _cuda_graphs(graph, wrapper),
        wrapper.device,
    )


def _launches(graph: Any, wrapper: Wrapper, tuners_of: Tuners) -> dict[str, Autotuned]:
    """Return the Triton kernels of a wrapper by their names in it."""
    from firebrick.torch_api.autotuners import bundled_kernels  # not imported if there are no such kernels

    tuners, kernels = tuners_of(graph.cache_key), bundled_kernels(graph)
    launches = {}
    for name, counts in wrapper.launches.items():
        if (tuner := tuners.get(name)) is None:
            raise NotLean(f"Triton kernel {name}: its autotuner was not seen")
        launches[name] = autotuned(name, tuner, counts, kernels)
    return launches


def _cuda_graphs(graph: Any, wrapper: Wrapper) -> CudaGraphs | None:
    """Return what torch would capture of a wrapper in CUDA graphs; None for nothing.

    Source followed: ``cudagraph_partition_post_compile`` of ``torch/_inductor/output_code.py``.
    """
    info = graph.cudagraph_info
    skipped = graph.disabled_cudagraphs_reason or (info is not None and info.cudagraph_fail_reasons)
    if info is None or skipped or not graph.device_idxs or api.is_kernel_free(graph):
        return None
    if not graph.fx_kwargs["is_inference"]:
        raise NotLean("CUDA graphs in training")
    maps = graph.partition_maps or ()
    if len(graph.device_idxs) != 1 or not maps or len(maps) != wrapper.partitions:
        raise NotLean("CUDA graphs of several devices, or of a wrapper without partitions")
    static = set(graph.fx_kwargs["static_input_idxs"] or ())
    if not static.issuperset(graph.mutated_input_idxs):
        raise NotLean("CUDA graphs that change their inputs")
    kept = ((i for i, index in enumerate(part.input_index_mapping) if index in static) for part in maps)
    return CudaGraphs(next(iter(graph.device_idxs)), tuple(map(tuple, kept)))


def _names_of(code: Any) -> set[str]:
    inner = [constant for constant in code.co_consts if isinstance(constant, CodeType)]
    return set(code.co_names).union(*map(_names_of, inner))


def _refusals(graph: Any) -> Iterator[str]:
    """Yield the names of features of a graph that the runtime lacks."""
    if devices := sorted(set(graph.device_types) - {"cpu", "cuda", "meta"}):
        yield f"device {', '.join(devices)}"
    if graph.fx_kwargs.get("cpp_wrapper"):
        yield "C++ wrapper"
    if graph.frozen_param_names:
        yield "frozen parameters"
    if graph.torchbind_constants:
        yield "TorchBind constants"
    if graph.opaque_value_type_classes:
        yield "opaque values"
    if graph._wrap_compiled_regions:
        yield "wrapped compiled regions"


def _plain_graph(graph: api.PlainGraph) -> LeanGraph:
    """Write a graph that Inductor left alone: its outputs are inputs or constants."""
    inputs: list[str] = []
    outputs: list[object] = []
    names: dict[Any, str] = {}
    for node in graph.graph.deserialize().graph.nodes:
        if node.op == "placeholder":
            names[node] = f"input_{len(inputs)}"
            inputs.append(names[node])
        elif node.op == "output":
            (values,) = node.args
            outputs = [_value(value, names) for value in values]
        else:
            raise NotLean(f"a graph left as it is that calls {node.target}")
    return LeanGraph(plain_wrapper(inputs, outputs).code, {}, {})


def _value(value: Any, names: Mapping[Any, str]) -> object:
    if value is None or type(value) in (bool, int):
        return value
    if value in names:
        return names[value]
    raise NotLean(f"a graph left as it is that returns a {type(value).__name__}")
