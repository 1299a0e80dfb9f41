"""Names that only some supported minors of torch have, each declared once.

No name of torch is read with a default: a name declared for the running minor must exist, and others are not
looked for. So a name that moves is a visible error, not a check that silently stops firing. Importing this
module imports neither torch nor its compiler.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Final

_AOT: Final = "torch._functorch._aot_autograd"

# Name -> the first and the last of the minors that have it; "" leaves an end open. The names are fields,
# attributes and arguments; tests compare them with the installed torch.
PRESENT: Final[Mapping[str, tuple[str, str]]] = {
    # torch._C
    "torch._C._dynamo.guards:LocalState": ("2.14", ""),
    "torch._C._dynamo.guards:assert_size_stride_grouped": ("2.14", ""),
    "torch._C._dynamo.guards:copy_if_misaligned": ("2.13", ""),
    # guards
    "torch._dynamo.guards:GuardsState.local_state": ("2.14", ""),
    "torch._guards:Guard._force_dict_keys_match": ("2.14", ""),
    # Dynamo
    "torch._dynamo.variables.base:VariableTracker.tp_methods": ("2.14", ""),
    # AOTAutograd
    f"{_AOT}.schemas:InputAliasInfo.mutation_is_shallow_copy_data": ("2.14", ""),
    f"{_AOT}.schemas:OutputAliasInfo.requires_grad_for_backward": ("2.12", ""),
    f"{_AOT}.schemas:ViewAndMutationMeta.act_input_indices": ("2.12", "2.13"),
    f"{_AOT}.schemas:ViewAndMutationMeta.act_input_paths": ("2.14", ""),
    f"{_AOT}.schemas:ViewAndMutationMeta.saved_tensor_is_graph_input": ("2.14", ""),
    f"{_AOT}.runtime_wrappers:_codegen_compiled_backward": ("2.13", ""),
    f"{_AOT}.runtime_wrappers:<_get_obj_in_tls>": ("2.12", ""),  # used in this source
    f"{_AOT}.runtime_wrappers:mark_dynamo_propagated_dynamic_indices": ("2.13", ""),
    f"{_AOT}.graph_compile:_aot_stage2c_make_autograd_function.bw_compiler": ("2.13", ""),
    "torch.autograd.function:Function.boxed_grads_call": ("2.13", ""),
    # Inductor
    "torch._inductor.output_code:CompiledFxGraph._defers_input_alignment": ("2.12", ""),
    "torch._inductor.output_code:CompiledFxGraph.kernel_free_cudagraph": ("2.14", ""),
    "torch._inductor.cudagraph_utils:CudagraphCachedInfo.user_visible_output_idxs": ("2.14", ""),
    # configuration
    "torch.utils._config_module:ConfigModule._get_dict.readonly_values": ("2.13", ""),
}


def minor_of(version: str) -> str:
    """Return the minor version, ``2.13`` for ``2.13.0+cpu``."""
    return ".".join(version.split("+", 1)[0].split(".")[:2])


def has(name: str, minor: str | None = None) -> bool:
    """Tell whether a minor of torch has a declared name.

    Args:
        name: one of `PRESENT`; any other raises KeyError.
        minor: None means the running torch.
    """
    first, last = PRESENT[name]
    here = _number(minor if minor is not None else _running())
    return _number(first) <= here and (not last or here <= _number(last))


STAND_INS: dict[str, str] = {}  # minor that no table knows -> the one whose surface it has


def stand_in(minor: str, known: str) -> None:
    """Let a minor be used from here on as a supported one is, whose surface it has."""
    STAND_INS[minor] = known
    _running.cache_clear()


@functools.cache
def _running() -> str:
    import torch

    minor = minor_of(torch.__version__)
    return STAND_INS.get(minor, minor)


def _number(minor: str) -> tuple[int, ...]:
    return tuple(map(int, minor.split(".")))
