"""Names of AOTAutograd and Inductor in torch 2.11 to 2.13 that describe compiled backends.

Source followed: ``torch/_functorch/_aot_autograd/{runtime_wrappers,schemas,aot_autograd_result}.py``,
``torch/_inductor/{codecache,output_code}.py``. Importing this module imports torch's compiler.
"""

from __future__ import annotations

import inspect
from typing import Any

import torch._dynamo  # noqa: F401 - before AOTAutograd, which imports it in a circle
from torch._functorch import config as functorch_config
from torch._functorch._aot_autograd import runtime_wrappers, schemas
from torch._inductor.codecache import CppCodeCache, CppPythonBindingsCodeCache
from torch._inductor.output_code import CompiledFxGraph

from firebrick.loader.libraries import request_digest

OutputType = schemas.OutputType
SubclassCreationMeta = schemas.SubclassCreationMeta
PlainTensorMeta = schemas.PlainTensorMeta
AOTDedupeWrapper = runtime_wrappers.AOTDedupeWrapper
AOTSyntheticBaseWrapper = runtime_wrappers.AOTSyntheticBaseWrapper

__all__ = [
    "AOTDedupeWrapper",
    "AOTSyntheticBaseWrapper",
    "CompiledFxGraph",
    "OutputType",
    "PlainTensorMeta",
    "SubclassCreationMeta",
    "always_connected",
    "backward_in_context",
    "dynamic_mark",
    "functorch_config",
    "needs_tangent",
    "pybinding_digest",
]

# torch 2.12 and later write their wrappers as source; what they do differs in a few places
_SOURCE = inspect.getsource(runtime_wrappers)


def dynamic_mark() -> str:
    """Return the attribute by which runtime wrappers mark dynamic dimensions of outputs."""
    return (
        "_dynamo_propagated_dynamic_indices"
        if "_dynamo_propagated_dynamic_indices" in _SOURCE
        else "_dynamo_weak_dynamic_indices"
    )


def always_connected(metadata: Any) -> bool:
    """Tell whether, under ``create_graph``, gradients join the autograd graph in any case."""
    return "_codegen_compiled_backward" in _SOURCE and any(i.requires_grad for i in metadata.input_info)


def backward_in_context() -> bool:
    """Tell whether a backward runs in the ``contextvars`` context of the thread that asked for it."""
    return "_get_obj_in_tls" in _SOURCE


def needs_tangent(output: Any) -> bool:
    """Tell whether an output's gradient enters the backward, its kind aside."""
    return bool(getattr(output, "requires_grad_for_backward", output.requires_grad))


class _Asked(Exception):
    """Carries the digest of a request out of torch's function that makes it."""


class _Asking(CppPythonBindingsCodeCache):
    @classmethod
    def load_async(cls, *args: Any, **kwargs: Any) -> Any:
        original = inspect.unwrap(inspect.getattr_static(CppCodeCache, "load_async").__func__)
        raise _Asked(request_digest(CppPythonBindingsCodeCache, original, args, kwargs))


def pybinding_digest(argument_types: list[str], source: str) -> str:
    """Return the digest of the request that ``async_compile.cpp_pybinding`` makes; nothing is compiled."""
    try:
        _Asking.load_pybinding_async(argument_types, source)
    except _Asked as asked:
        return str(asked.args[0])
    raise AssertionError("load_pybinding_async asked for nothing")
