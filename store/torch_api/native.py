"""Private names of torch that need no compiler, including C++ ones: the only table of them.

Each is read when this module is imported, so that a missing one shows at start and not at the first call;
`probe` looks for names that only a CUDA build has. Names that only some minors have are declared in `minors`.
Names in texts (allow-lists, names in stored bytes) are data, not uses.
"""

from __future__ import annotations

import sys
from typing import Any, Final

import torch
import torch.utils._device as _device
from torch._C._dynamo import eval_frame as eval_frame
from torch._C._dynamo import guards as guards
from torch._library import simple_registry
from torch._library.custom_ops import OPDEFS as OPDEFS
from torch.nn.modules import module as _nn_module
from torch.optim.optimizer import _foreach_supported_types as _optimized_types
from torch.utils import _pytree
from torch.utils._foreach_utils import _foreach_supported_types as _foreach_types
from torch.utils._pytree import SUPPORTED_NODES as SUPPORTED_NODES

# typed by their use: torch's stubs lack some of them
_C: Any = torch._C

FOREACH_TYPES: Final = (_optimized_types, _foreach_types)  # to which importing the compiler adds

functionalization: Any = _C._functionalization
InductorBackend = torch._TorchCompileInductorWrapper

# autograd
DisableAutocast = _C._DisableAutocast
RecordFunctionFast = _C._profiler._RecordFunctionFast
increment_version = _C._increment_version
is_any_autocast_enabled = _C._is_any_autocast_enabled
is_view_replay_enabled = _C._is_view_replay_enabled
keeps_graph = _C._autograd._get_current_graph_task_keep_graph
saved_tensors_hooks = _C._autograd._top_saved_tensors_default_hooks
set_grad_enabled = _C._set_grad_enabled
set_view_replay_enabled = _C._set_view_replay_enabled

# threads
get_obj_in_tls = _C._get_obj_in_tls
is_key_in_tls = _C._is_key_in_tls

# dispatch
DisableTorchDispatch = _C._DisableTorchDispatch
DisableTorchFunction = _C.DisableTorchFunction
ForceDispatchKeyGuard = _C._ForceDispatchKeyGuard
dispatch_dump = _C._dispatch_dump
dispatch_keys_from = _C.DispatchKeySet.from_raw_repr
enable_torch_function = torch.overrides._enable_torch_function
excluded_dispatch_keys = _C._dispatch_tls_local_exclude_set
function_modes: Any = torch.overrides._get_current_function_mode_stack
included_dispatch_keys = _C._dispatch_tls_local_include_set
is_functional_tensor = torch._is_functional_tensor
is_functorch_wrapped = _C._functorch.is_functorch_wrapped_tensor
peek_interpreter_stack = _C._functorch.peek_interpreter_stack

# tensors
as_tensor_fullprec: Any = torch._as_tensor_fullprec
foreach_copy = torch._foreach_copy_
internal_overlap = torch._debug_has_internal_overlap
unsafe_view = torch.ops.aten._unsafe_view
set_conj = _C._set_conj
set_neg = _C._set_neg
storage_use_count = _C._storage_Use_Count

# operators, modules, configuration
OPERATOR_CLASSES: Final = (torch._ops.OpOverload, torch._ops.OpOverloadPacket, torch._ops.HigherOrderOperator)
disable_dynamo = torch._compile._disable_dynamo
has_any_global_hook: Any = _nn_module._has_any_global_hook
python_kernels = torch.library._impls
registered_operators = simple_registry.singleton
_importing: Final = torch._import_device_backends.__code__
CAPSULE: Final = type(_C._get_tracing_state.__self__)


def alone_in_import() -> bool:
    """Tell whether ``import torch`` is under way and calls no extension but Firebrick.

    Source followed: ``torch/__init__.py`` (``_import_device_backends``).
    """
    frame = sys._getframe()
    while frame.f_back is not None:
        frame = frame.f_back
        if frame.f_code is _importing:
            return len(frame.f_locals["backend_extensions"]) == 1
    return False


def is_profiled() -> bool:
    """Tell whether a profiler is running."""
    return bool(torch.autograd.profiler._is_profiler_enabled)


def unset() -> Any:
    """Return the sentinel for a configuration value that is not set."""
    from torch.utils._config_module import _UNSET_SENTINEL  # exists only once a configuration does

    return _UNSET_SENTINEL


def current_device() -> Any:
    """Return the device set by ``torch.set_default_device``, if any."""
    return _device.CURRENT_DEVICE


_OF_CUDA: Final = (
    "_construct_CUDA_Tensor_From_Storage_And_Metadata",
    "_cuda_clearCublasWorkspaces",
    "_cuda_getCurrentRawStream",
    "_cuda_get_conv_benchmark_empty_cache",
    "_cudnn_set_conv_benchmark_empty_cache",
    "_tensors_data_ptrs_at_indices_equal",
)


def probe() -> None:
    """Check that a CUDA build has all required names.

    Raises:
        AttributeError: naming what is missing.
    """
    for name in _OF_CUDA if torch.backends.cuda.is_built() else ():
        getattr(_C, name)


def static_launcher_class() -> Any:
    """Return torch's class that launches kernels from binaries; None in a build without CUDA."""
    return getattr(_C, "_StaticCudaLauncher", None)


def raw_stream() -> Any:
    """Return the function for a GPU's raw stream; None in a build without CUDA."""
    return _C._cuda_getCurrentRawStream if torch.backends.cuda.is_built() else None


def tensor_in_memory(facts: Any, memory: Any) -> Any:
    """Return a tensor with these properties in GPU memory owned by others."""
    return _C._construct_CUDA_Tensor_From_Storage_And_Metadata(facts, memory)


def same_addresses(tensors: Any, addresses: Any, indices: Any) -> bool:
    """Tell whether tensors are still at these addresses."""
    return bool(_C._tensors_data_ptrs_at_indices_equal(tensors, addresses, indices))


def clear_cublas_workspaces() -> None:
    """Free the workspaces of cuBLAS."""
    _C._cuda_clearCublasWorkspaces()


def conv_benchmark_empties_cache() -> bool:
    """Tell whether convolution benchmarks empty the memory cache."""
    return bool(_C._cuda_get_conv_benchmark_empty_cache())


def let_conv_benchmark_empty_cache(empties: bool) -> None:
    """Choose whether convolution benchmarks empty the memory cache."""
    _C._cudnn_set_conv_benchmark_empty_cache(empties)


def set_disable_dynamo(function: Any) -> None:
    """Replace the decorator by which torch keeps functions from being traced, for modules yet to use it."""
    torch._disable_dynamo = function


def pytree_nodes() -> dict[Any, Any]:
    """Return torch's present table of pytree nodes."""
    return _pytree.SUPPORTED_NODES
