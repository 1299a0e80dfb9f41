"""Backward graphs that torch has not compiled yet.

torch compiles a backward graph when it first runs, and saves nothing of the frame before. A program that runs
inference with gradients enabled never gets there; the missing graph can be compiled afterwards. Follows
``_AutogradBackwardCompiler.get_or_compile`` of ``torch/_functorch/_aot_autograd/runtime_wrappers.py``.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import inspect
import warnings
from collections.abc import Callable
from typing import Any

import torch
import torch._inductor.config as inductor_config
from torch._dynamo.utils import dynamo_timed, get_metrics_context
from torch._functorch._aot_autograd.logging_utils import track_graph_compiling
from torch._guards import compile_context, tracing

from firebrick.errors import NotStorable
from firebrick.torch_api.minors import has

_COMPILER = "torch._functorch._aot_autograd.graph_compile:_aot_stage2c_make_autograd_function.bw_compiler"


class PendingBackward:
    """A backward graph that awaits its first run.

    Attributes:
        backend_id: id of its backend.
        done: whether it is compiled, by torch or by `compile`.
    """

    def __init__(self, made: dict[str, Any]) -> None:
        """Store the arguments of ``_aot_stage2c_make_autograd_function`` by name."""
        self._made = made
        self._save = made["try_save_cache_entry"]
        self.backend_id: str = made["aot_config"].precompile_backend_id
        self.done = False

    def save(self, *args: Any) -> Any:
        """Replace torch's ``try_save_cache_entry``."""
        self.done = True
        self._made = {}
        return self._save(*args)

    def compile(self, *, ending: bool) -> None:
        """Compile the graph and save its entry, as torch does at the first run.

        No buffer is donated: the result serves ``retain_graph=True`` as well. Pointwise Triton kernels get
        one configuration: only launches show which of several is fastest.

        Args:
            ending: whether the process is exiting: then Python starts no threads, so this one compiles alone.

        Raises:
            NotStorable: the graph is one of several of a split frame (``DDPOptimizer``).
            Exception: whatever torch's compiler raises.
        """
        made, config = self._made, self._made["aot_config"]
        info, metadata = made["lazy_backward_info"], made["fw_metadata"]
        context = info.saved_context
        if context is not None and context.ddp_optimizer_ctx is not None:
            raise NotStorable("the backward of a split frame did not run")
        for of in (metadata, None if context is None else context.fw_metadata):
            if of is not None:
                of.bw_donated_idxs = []
        with (
            tracing(context),
            compile_context(info.saved_compile_context),
            torch._C._DisableAutocast(),
            torch.no_grad(),
            track_graph_compiling(config, "backward"),
            get_metrics_context(),
            dynamo_timed("backward._backward_impl", phase_name="entire_backward_compile"),
            inductor_config.patch({"triton.autotune_pointwise": False}),
            inductor_config.patch(compile_threads=1) if ending else contextlib.nullcontext(),
            warnings.catch_warnings(),
        ):
            if ending:
                warnings.simplefilter("ignore")  # torch's progress bar finds that it has no thread
            compiler = made["bw_compiler"] if has(_COMPILER) else config.bw_compiler
            compiled = compiler(copy.deepcopy(info.bw_module), info.placeholder_list)
            self.save(compiled, info.bw_module, metadata, config)


def noting_backwards(
    original: Callable[..., Any], note: Callable[[PendingBackward], None]
) -> Callable[..., Any]:
    """Wrap ``_aot_stage2c_make_autograd_function``: report each backward left for later."""
    signature = inspect.signature(original)

    @functools.wraps(original)
    def make(*args: Any, **kwargs: Any) -> Any:
        made = signature.bind(*args, **kwargs).arguments
        backend_id = made["aot_config"].precompile_backend_id
        if made["try_save_cache_entry"] is None or made["compiled_bw_func"] is not None or not backend_id:
            return original(*args, **kwargs)
        pending = PendingBackward(dict(made))
        result = original(**made | {"try_save_cache_entry": pending.save})
        note(pending)
        return result

    return make
