"""Names of AOTAutograd and Inductor in torch 2.11 to 2.14 that describe compiled backends.

Source followed: ``torch/_functorch/_aot_autograd/{runtime_wrappers,schemas,aot_autograd_result}.py``,
``torch/_inductor/{codecache,output_code}.py``. Importing this module imports torch's compiler.
"""

from __future__ import annotations

import inspect
from typing import Any

import torch._dynamo  # noqa: F401 - before AOTAutograd, which has a circular import with it
from torch._functorch import config as functorch_config
from torch._functorch._aot_autograd import runtime_wrappers, schemas
from torch._functorch._aot_autograd.aot_autograd_result import BundledAOTAutogradResult
from torch._inductor.codecache import CppCodeCache, CppPythonBindingsCodeCache
from torch._inductor.output_code import CompiledFxGraph

from firebrick.torch_api._plain import PlainGraph
from firebrick.torch_api.library_requests import request_digest
from firebrick.torch_api.minors import has

OutputType = schemas.OutputType
SubclassCreationMeta = schemas.SubclassCreationMeta
PlainTensorMeta = schemas.PlainTensorMeta
AOTDedupeWrapper = runtime_wrappers.AOTDedupeWrapper
AOTSyntheticBaseWrapper = runtime_wrappers.AOTSyntheticBaseWrapper

__all__ = [
    "AOTDedupeWrapper",
    "AOTSyntheticBaseWrapper",
    "BundledAOTAutogradResult",
    "CompiledFxGraph",
    "OutputType",
    "PlainGraph",
    "PlainTensorMeta",
    "SubclassCreationMeta",
    "always_connected",
    "backward_in_context",
    "collective_inputs",
    "defers_alignment",
    "dynamic_mark",
    "functorch_config",
    "is_kernel_free",
    "needs_tangent",
    "pybinding_digest",
    "saved_inputs",
    "shallow_copied_inputs",
]

_WRAPPERS = "torch._functorch._aot_autograd.runtime_wrappers"
_SCHEMAS = "torch._functorch._aot_autograd.schemas"
_OUTPUT_CODE = "torch._inductor.output_code"


def dynamic_mark() -> str:
    """Return the attribute that marks dynamic dimensions of outputs in runtime wrappers."""
    propagated = has(f"{_WRAPPERS}:mark_dynamo_propagated_dynamic_indices")
    return "_dynamo_propagated_dynamic_indices" if propagated else "_dynamo_weak_dynamic_indices"


def always_connected(metadata: Any) -> bool:
    """Tell whether, under ``create_graph``, gradients always join the autograd graph."""
    return has(f"{_WRAPPERS}:_codegen_compiled_backward") and any(
        info.requires_grad for info in metadata.input_info
    )


def backward_in_context() -> bool:
    """Tell whether a backward runs in the ``contextvars`` context of the requesting thread."""
    return has(f"{_WRAPPERS}:<_get_obj_in_tls>")


def needs_tangent(output: Any) -> bool:
    """Tell whether an output's gradient enters the backward, regardless of its kind."""
    if has(f"{_SCHEMAS}:OutputAliasInfo.requires_grad_for_backward"):
        return bool(output.requires_grad_for_backward)
    return bool(output.requires_grad)


def collective_inputs(metadata: Any) -> bool:
    """Tell whether inputs were results of asynchronous collectives, which a wrapper must wait for."""
    if has(f"{_SCHEMAS}:ViewAndMutationMeta.act_input_paths"):
        return bool(metadata.act_input_paths)
    return has(f"{_SCHEMAS}:ViewAndMutationMeta.act_input_indices") and bool(metadata.act_input_indices)


def shallow_copied_inputs(metadata: Any) -> bool:
    """Tell whether ``x.data = y`` replaces the data of inputs."""
    return has(f"{_SCHEMAS}:InputAliasInfo.mutation_is_shallow_copy_data") and any(
        info.mutation_is_shallow_copy_data for info in metadata.input_info
    )


def saved_inputs(metadata: Any) -> tuple[int, ...]:
    """Return which saved tensors are inputs saved unchanged, views or not."""
    if not has(f"{_SCHEMAS}:ViewAndMutationMeta.saved_tensor_is_graph_input"):
        return ()
    return tuple(index for index, is_input in enumerate(metadata.saved_tensor_is_graph_input) if is_input)


def defers_alignment(graph: Any) -> bool:
    """Tell whether the wrapper itself copies misaligned inputs, except mutated ones."""
    return has(f"{_OUTPUT_CODE}:CompiledFxGraph._defers_input_alignment") and bool(
        graph._defers_input_alignment
    )


def is_kernel_free(graph: Any) -> bool:
    """Tell whether torch captures nothing of a graph because it launches no kernel."""
    return has(f"{_OUTPUT_CODE}:CompiledFxGraph.kernel_free_cudagraph") and bool(graph.kernel_free_cudagraph)


class _Asked(Exception):
    """Carries a request's digest out of torch's function that computes it."""


class _Asking(CppPythonBindingsCodeCache):
    @classmethod
    def load_async(cls, *args: Any, **kwargs: Any) -> Any:
        original = inspect.unwrap(inspect.getattr_static(CppCodeCache, "load_async").__func__)
        raise _Asked(request_digest(CppPythonBindingsCodeCache, original, args, kwargs))


def pybinding_digest(argument_types: list[str], source: str) -> str:
    """Return the request digest of ``async_compile.cpp_pybinding``, without compiling."""
    try:
        _Asking.load_pybinding_async(argument_types, source)
    except _Asked as asked:
        return str(asked.args[0])
    raise AssertionError("load_pybinding_async asked for nothing")
