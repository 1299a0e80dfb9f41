"""Trace a frame with Dynamo as if compiling it, leaving no code, caches or counters behind.

Source followed: ``torch/_dynamo/convert_frame.py`` (``_compile``), ``pgo.py`` and ``output_graph.py``.
Importing this module imports torch's compiler.
"""

from __future__ import annotations

import collections
import contextlib
import copy
import functools
import re
from collections.abc import Callable, Iterator, MutableMapping
from types import CodeType
from typing import Any, NamedTuple, Protocol

import torch
from torch._dynamo import convert_frame, exc, output_graph, utils
from torch._dynamo.eval_frame import set_enable_dynamic
from torch._dynamo.pgo import FrameStateSizeEntry, InferStride, auto_dynamic, auto_unset
from torch._dynamo.variables import builder
from torch._dynamo.variables.torch_function import torch_function_mode_stack_state_mgr
from torch._guards import CompileContext, CompileId, compile_context
from torch.fx._lazy_graph_module import _use_lazy_graph_module
from torch.utils._python_dispatch import _disable_current_modes

from firebrick.base.patches import Patches

# Globals that Dynamo creates while tracing.
_MADE = re.compile(
    r"__compiled_fn_|__resume_at_|__import_|__builtins_dict__|___context_manager_|___unnamed_scope"
    r"|__comprehension_|.*_\d+_c\d+(_\d+)*$"
)


# Whether torch keeps the sizes at which an input became dynamic; torch 2.11 does not.
_EXCLUDES = "excluded_sizes" in FrameStateSizeEntry.__dataclass_fields__


class Listener(Protocol):
    """An observer of Dynamo's trace of a frame."""

    def graph(self, owner: object, module: Any) -> None:
        """Take a graph; each attempt at a frame has a separate owner, and the last one counts."""

    def sized(self, name: str, entry: list[Any]) -> None:
        """Take Dynamo's knowledge of an input's sizes, including earlier compilations."""

    def known(self, name: str) -> list[Any] | None:
        """Return the knowledge to use instead of this process's; ``None`` outside an audit."""


class Retraced(NamedTuple):
    """Dynamo's result for a frame.

    Attributes:
        code: the bytecode; ``None`` if torch runs the frame uncompiled.
        resumes: names in it -> code of its resume functions.
        guards: torch's guards, built, so that they have texts.
    """

    code: CodeType | None
    resumes: dict[str, CodeType]
    guards: list[Any]


def note_audited(patches: Patches, listener: Callable[[], Listener | None]) -> None:
    """Make Dynamo report its graphs and its knowledge of sizes, until the patches are undone.

    Args:
        patches: keeps the originals.
        listener: returns the observer of the current compilation; ``None`` for none.
    """
    graph = output_graph.OutputGraph
    patches.set(graph, "call_user_compiler", _telling(graph.call_user_compiler, listener))
    patches.set(builder, "process_automatic_dynamic", _sizing(builder.process_automatic_dynamic, listener))


def _telling(original: Callable[..., Any], listener: Callable[[], Listener | None]) -> Callable[..., Any]:
    @functools.wraps(original)
    def call_user_compiler(self: Any, module: Any, *args: Any, **kwargs: Any) -> Any:
        if (told := listener()) is not None:
            told.graph(self, module)
        return original(self, module, *args, **kwargs)

    return call_user_compiler


def _sizing(original: Callable[..., Any], listener: Callable[[], Listener | None]) -> Callable[..., Any]:
    """Wrap ``process_automatic_dynamic``, which gives a second compilation of a frame dynamic shapes.

    Its answer depends on earlier compilations: an audit uses the answer from the recording.
    """

    @functools.wraps(original)
    def process_automatic_dynamic(tx: Any, name: str, entry: Any, **kwargs: Any) -> Any:
        if (told := listener()) is None:
            return original(tx, name, entry, **kwargs)
        if (known := told.known(name)) is None:
            found = original(tx, name, entry, **kwargs)
            told.sized(name, _plain(found))
            return found
        merged, before = _entry(known), _entry(known)
        merged |= entry
        if _EXCLUDES:
            merged.excluded_sizes, merged.excluded_scalar = before.excluded_sizes, before.excluded_scalar
        return merged

    return process_automatic_dynamic


def _plain(entry: Any) -> list[Any]:
    def tuple_of(value: Any) -> Any:
        return [one(item) for item in value] if isinstance(value, tuple) else one(value)

    def one(value: Any) -> Any:
        if value is auto_dynamic:
            return "dynamic"
        if value is auto_unset:
            return "unset"
        return {"dim": value.dim} if isinstance(value, InferStride) else value

    sizes = [one(entry.scalar), tuple_of(entry.size), tuple_of(entry.stride)]
    if not _EXCLUDES:
        return [*sizes, None, None]
    excluded = entry.excluded_sizes
    return [*sizes, None if excluded is None else list(excluded), entry.excluded_scalar]


def _entry(plain: list[Any]) -> Any:
    def one(value: Any) -> Any:
        if type(value) is dict:
            return InferStride(value["dim"])
        return {"dynamic": auto_dynamic, "unset": auto_unset}.get(value, value)

    def tuple_of(value: Any) -> Any:
        return tuple(map(one, value)) if type(value) is list else one(value)

    scalar, size, stride, excluded, excluded_scalar = plain
    more: dict[str, Any] = {}
    if _EXCLUDES:
        sizes = None if excluded is None else tuple(excluded)
        more = {"excluded_sizes": sizes, "excluded_scalar": excluded_scalar}
    return FrameStateSizeEntry(one(scalar), tuple_of(size), tuple_of(stride), **more)


def retrace(frame: Any, listener: Listener, patch: Callable[[Patches], None], **how: Any) -> Retraced:
    """Trace a frame afresh, build its guards, and restore torch's state.

    Runs no part of the frame and compiles nothing: the backend only keeps the graph. Additions to the frame's
    globals are removed. Used where torch's hook asks about the frame, in its thread.

    Args:
        frame: torch's view of the frame: code, globals, locals, builtins, closure.
        listener: observes the graphs.
        patch: installs the hooks that torch's compiler had when the frame was recorded.
        how: ``fullgraph`` and ``dynamic`` of ``torch.compile``.

    Raises:
        Exception: whatever torch raises if it cannot trace the frame.
    """
    before = set(frame.f_globals)
    try:
        with (
            convert_frame.compile_lock,
            _disable_current_modes(),
            _as_compiling(frame, patch, listener, how.get("dynamic")),
        ):
            return _traced(frame, bool(how.get("fullgraph")))
    finally:
        for name in set(frame.f_globals) - before:
            if _MADE.match(name):
                del frame.f_globals[name]


def _traced(frame: Any, fullgraph: bool) -> Retraced:
    modes = torch_function_mode_stack_state_mgr
    try:
        with modes:
            made = convert_frame.compile_frame(
                frame.f_code, frame.f_globals, frame.f_locals, frame.f_builtins, frame.closure,
                _keep_graph, fullgraph, set(), frame_state={},
            )  # fmt: skip
            with modes.temp_restore_stack() if modes.stack else contextlib.nullcontext():
                made.build_guards(frame.f_code)
    except exc.SkipFrame:
        return Retraced(None, {}, [])
    graph: Any = made.tracer_output.output_graph
    resumes = dict(_resumes(made.bytecode, frame.f_globals))
    guards = list(graph.guards)
    for hook in graph.cleanups:
        hook()
    return Retraced(made.bytecode, resumes, guards)


def _keep_graph(module: Any, inputs: list[Any]) -> Any:
    return module.forward


def _resumes(code: CodeType, scope: MutableMapping[str, Any]) -> Iterator[tuple[str, CodeType]]:
    for name in code.co_names:
        if name.startswith("__resume_at_"):
            yield name, _code_of(scope[name])


def _code_of(resume: Any) -> CodeType:
    """Return a resume function's code, from inside the function that binds its free variables if any."""
    if isinstance(resume, CodeType):
        return resume
    for cell in resume.__closure__ or ():
        if isinstance(cell.cell_contents, CodeType):
            return cell.cell_contents
    code: CodeType = resume.__code__
    return code


@contextlib.contextmanager
def _as_compiling(
    frame: Any, patch: Callable[[Patches], None], listener: Listener, dynamic: bool | None
) -> Iterator[None]:
    """Run as if inside ``_compile``, and restore the state that a compilation changes in Dynamo."""
    counters = copy.deepcopy(utils.counters)
    times = {name: list(values) for name, values in utils.compilation_time_metrics.items()}
    installed = utils.CleanupManager.count
    metrics = utils.get_metrics_context()
    patches = Patches()
    try:
        patch(patches)
        note_audited(patches, lambda: listener)
        patches.set(convert_frame, "initial_global_state", convert_frame.GlobalStateGuard())
        patches.set(metrics, "_on_exit", lambda *args: None)
        with (
            set_enable_dynamic(dynamic) if dynamic is not None else contextlib.nullcontext(),
            _use_lazy_graph_module(torch._dynamo.config.use_lazy_graph_module),
            compile_context(CompileContext(CompileId(frame_id=0, frame_compile_id=0))),
            utils.chromium_event_timed("dynamo", reset_event_log_on_exit=True),
            metrics,
            utils.dynamo_timed("_compile.compile_inner", phase_name="entire_frame_compile"),
        ):
            yield
    finally:
        patches.undo()
        utils.CleanupManager.count = installed
        utils.counters.clear()
        for name, values in counters.items():
            utils.counters[name] = collections.Counter(values)
        utils.compilation_time_metrics.clear()
        utils.compilation_time_metrics.update(times)


retrace = convert_frame.preserve_global_state(retrace)
