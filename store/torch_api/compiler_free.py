"""Private names of torch 2.11 to 2.14 that need no compiler: the basis of the lean lane.

Source followed: ``torch/_dynamo/{eval_frame,convert_frame,types}.py`` for the requirements of the C++ frame
evaluation hook; the hook itself is in ``torch._C`` and exists without Dynamo.
"""

from __future__ import annotations

import collections
import functools
import os
import sys
from collections.abc import Mapping, MutableMapping
from contextvars import ContextVar
from types import CodeType, FunctionType, ModuleType
from typing import Any

import torch
import torch._C._dynamo.eval_frame as _hook
from torch._guards import CompileId, TracingContext
from torch.fx._symbolic_trace import is_fx_symbolic_tracing

from firebrick.torch_api import imported

set_eval_frame = _hook.set_eval_frame
_RUN = _hook._FrameExecStrategy(_hook._FrameAction.DEFAULT, _hook._FrameAction.DEFAULT)
_SKIP = _hook._FrameExecStrategy(_hook._FrameAction.SKIP, _hook._FrameAction.DEFAULT)
_SKIP_ALL = _hook._FrameExecStrategy(_hook._FrameAction.SKIP, _hook._FrameAction.SKIP)
_DYNAMO = "torch._dynamo"
# Prefixes of the names that Dynamo adds to the program's globals.
GENERATED = ("__resume_at_", "__compiled_fn_", "__import_", "__subclass_", "__builtins_dict__")
ORIGINAL = "_torchdynamo_orig_callable"
DISABLED_FORM = "__dynamo_disable"  # where torch keeps the form of its own function that is not traced


def memory_of(tensor: torch.Tensor) -> int:
    """Return the address of the object for a tensor's memory.

    Raises:
        RuntimeError: it has none of its own, like a wrapper around other tensors.
    """
    return int(tensor.untyped_storage()._cdata)


class Guarded:
    """Compiled code with its guards, as the hook accepts it (``GuardedCode`` in torch)."""

    def __init__(self, code: CodeType, manager: Any, compile_id: CompileId) -> None:
        self.code = code
        self.guard_manager = manager
        self.compile_id = compile_id
        self.trace_annotation = f"Torch-Compiled Region: {compile_id}"


class Answer:
    """A callback's answer to the hook about a frame (``ConvertFrameReturn`` in torch)."""

    def __init__(self, strategy: Any, guarded_code: Guarded | None) -> None:
        self.frame_exec_strategy = strategy
        self.apply_to_code = True
        self.guarded_code = guarded_code


_served: list[tuple[CodeType, CodeType]] = []  # (original, compiled), served before Dynamo's import
_frames = 0  # number of frames numbered so far


def guarded_answer(
    frame_state: MutableMapping[str, Any], original: CodeType, code: CodeType, manager: Any
) -> Answer:
    """Return the answer that makes compiled code a real cache entry of a frame."""
    global _frames
    if (convert_frame := imported(f"{_DYNAMO}.convert_frame")) is not None:
        _introduce(convert_frame, original, code)
        compile_id = convert_frame.get_compile_id(frame_state)
    else:
        if "_id" not in frame_state:
            frame_state["_id"] = _frames
            _frames += 1
        compile_id = CompileId(frame_id=frame_state["_id"], frame_compile_id=0)
        _served.append((original, code))
    return Answer(_RUN, Guarded(code, manager, compile_id))


def skip_answer() -> Answer:
    """Return the answer that runs a frame uncompiled from now on; its callees are still considered."""
    return Answer(_SKIP, None)


def never_trace(code: CodeType) -> None:
    """Make the hook ignore frames of this code and everything they call, at no cost per call."""
    _hook.set_code_exec_strategy(code, _SKIP_ALL)


def skip_frames(code: CodeType) -> None:
    """Make the hook ignore frames of this code, but not their callees."""
    _hook.set_code_exec_strategy(code, _SKIP)


def disable_marks(function: Any, original: Any, recursive: bool, reason: str | None) -> dict[str, Any]:
    """Return the attributes by which Dynamo recognises a function made by ``torch.compiler.disable``."""
    return {
        "_torchdynamo_disable": True,
        "_torchdynamo_disable_msg": reason,
        ORIGINAL: original,
        "_torchdynamo_wrapper_id": id(function),
        "_torchdynamo_disable_recursive": recursive,
    }


def undisabled(function: FunctionType) -> FunctionType:
    """Return the plain function behind one that ``torch.compiler.disable``, torch's or ours, made."""
    inner = vars(function).get(ORIGINAL) if vars(function).get("_torchdynamo_disable") else None
    return inner if type(inner) is FunctionType else function


def plain_form(function: FunctionType) -> tuple[FunctionType, str]:
    """Return the plain function behind one that was disabled or compiled, and which; at most 8 deep.

    What the wrapper of a compiled function consists of differs with and without Dynamo.
    """
    marks = []
    for _ in range(8):
        inner = vars(function).get(ORIGINAL)
        if type(inner) is not FunctionType:
            break
        marks.append("disabled" if vars(function).get("_torchdynamo_disable") else "compiled")
        function = inner
    return function, " ".join(marks)


def register_with_dynamo() -> None:
    """Register served functions with Dynamo, just imported, as if it had compiled them."""
    from torch._dynamo import convert_frame

    for original, code in _served:
        _introduce(convert_frame, original, code)
    _served.clear()
    convert_frame.FRAME_COUNTER = max(convert_frame.FRAME_COUNTER, _frames)
    convert_frame.FRAME_COMPILE_COUNTER.update(range(_frames))


def _introduce(convert_frame: Any, original: CodeType, code: CodeType) -> None:
    convert_frame.input_codes.add(original)
    convert_frame.output_codes.add(code)
    sys.modules[f"{_DYNAMO}.utils"].orig_code_map[code] = original


@functools.cache
def leave_distributions_unchecked() -> None:
    """Turn off validation in ``torch.distributions``, as the first ``torch.compile`` of a process does.

    Source followed: ``TorchPatcher.patch`` of ``torch/_dynamo/eval_frame.py``.
    """
    torch.distributions.Distribution.set_default_validate_args(False)


def dynamo() -> ModuleType | None:
    """Return Dynamo's module of frames if the process has loaded it."""
    return imported(f"{_DYNAMO}.eval_frame")


_NAMED_TUPLES = str(collections.__file__)


def is_of_skipped_file(code: CodeType) -> bool:
    """Tell whether Dynamo skips frames of this code because of its file.

    torch's own hook checks this first (``CatchErrorsWrapper`` in ``convert_frame.py``). Without Dynamo it is
    known only for functions that make named tuples.
    """
    place = code.co_name, code.co_filename
    if place == ("__new__", "<string>") or (place[0] == "_make" and place[1] == _NAMED_TUPLES):
        return True
    rules = imported(f"{_DYNAMO}.trace_rules")
    return rules is not None and bool(rules.check(code))


def gradient_buckets() -> str:
    """Return the bucket size in bytes by which torch would split a graph (``DDPOptimizer``); empty for none.

    ``DistributedDataParallel`` imports Dynamo when it is constructed.
    """
    active = torch.nn.parallel.DistributedDataParallel._get_active_ddp_module()
    utils = imported(f"{_DYNAMO}.utils")
    if active is None or utils is None or utils.get_optimize_ddp_mode() != "ddp_optimizer":
        return ""
    return str(active.bucket_bytes_cap)


def asked_of(arguments: Mapping[str, str]) -> dict[str, Any]:
    """Return the arguments of ``torch.compile`` that affect a trace, from their texts."""
    values = {"True": True, "False": False}
    return {"fullgraph": arguments["fullgraph"] == "True", "dynamic": values.get(arguments["dynamic"])}


def compiled_under(context: Any, frame: Any, cache_entry: Any, frame_state: Any) -> Any:
    """Let the compiler answer for a frame of a call that began without it.

    torch's own wrapper applies ``dynamic`` of ``torch.compile`` during a call, through the hooks of its
    context (``compile_wrapper`` in ``eval_frame.py``); here that is done for the frame.

    Args:
        context: torch's ``OptimizeContext``.
        frame, cache_entry, frame_state: as torch's hook passes them.
    """
    cleanups = [enter() for enter in context.enter_exit_hooks]
    try:
        return context.callback(frame, cache_entry, frame_state)
    finally:
        for cleanup in cleanups:
            cleanup()


def is_traced() -> bool:
    """Tell whether the call is made during tracing or export, for which torch has special rules."""
    return bool(
        torch._C._is_tracing()
        or is_fx_symbolic_tracing()
        or TracingContext.try_get() is not None
        or torch.compiler.is_exporting()
    )


def has_default_stance() -> bool:
    """Tell whether ``torch.compiler.set_stance`` leaves compilation unchanged."""
    module = dynamo()
    return module is None or (module._stance.stance == "default" and module._stance.backend is None)


def wants_own_precompile() -> bool:
    """Tell whether the program enabled torch's ``caching_precompile`` and reads its registry."""
    if os.environ.get("TORCH_CACHING_PRECOMPILE") == "1":
        return True
    config: Any = imported(f"{_DYNAMO}.config")
    if config is None:
        return False
    override = config._config["caching_precompile"].user_override
    return (override.get() if isinstance(override, ContextVar) else override) is True


def may_hold_tensors(code: CodeType, scope: Any, values: Any) -> bool:
    """Tell whether torch would consider a frame at all; follows ``has_tensor_in_frame``."""
    for name in code.co_names:
        value = scope.get(name)
        if isinstance(value, ModuleType) and value.__name__.partition(".")[0] in ("torch", "numpy"):
            return True
    seen: set[int] = set()
    return any(_holds_tensor(value, seen) for value in values.values())


def _holds_tensor(value: Any, seen: set[int]) -> bool:
    if id(value) in seen:
        return False
    seen.add(id(value))
    if isinstance(value, torch.Tensor | torch.nn.Module):
        return True
    if type(value) is type:
        return issubclass(value, torch.nn.Module)
    if type(value).__module__ == "numpy":
        return True
    if type(value) in (list, tuple) or (isinstance(value, tuple) and hasattr(value, "_fields")):
        return any(_holds_tensor(item, seen) for item in value)
    if type(value) is dict:
        return any(_holds_tensor(item, seen) for item in list(value.values()))
    return False


def is_triton_kernel(value: Any) -> bool:
    """Tell whether ``triton.jit`` made an object, without importing Triton."""
    kind = type(value)
    return kind.__module__ == "triton.runtime.jit" and kind.__name__ == "JITFunction"
