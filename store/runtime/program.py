"""Turn a program into one specialised Python function.

The source is built from the templates below, filled only with numbers and names made here; no text of a
stored program enters it. Equal programs share their code.

Source followed: ``_create_runtime_wrapper`` and ``_AOTDispatchAutogradFunctionFactory`` of
``torch/_functorch/_aot_autograd/runtime_wrappers.py`` (2.13), ``AOTDispatchAutograd.post_compile`` (2.11),
``CompiledFxGraph.__call__`` of ``torch/_inductor/output_code.py``.
"""

from __future__ import annotations

import functools
import types
from collections.abc import Callable, Iterable
from typing import Any, Final

import torch
from torch.autograd import profiler

from firebrick.codecs.lean_program import Mutation, MutationKind, Output, OutputKind, Program, Training
from firebrick.runtime.calls import (
    Boxed,
    Label,
    autograd_function,
    connected,
    entered,
    mark_with,
    profiled_as,
    skip,
)
from firebrick.runtime.views import Alias, clone_keeping_strides, regenerate, replay, tangent_of, view_steps
from firebrick.torch_api import native
from firebrick.torch_api.minors import has

BOXED_GRADS: Final = has("torch.autograd.function:Function.boxed_grads_call")

_VMAP: Final = (
    "It looks like you're trying to call a compiled backward function within vmap/grad/vjp, "
    "which isn't supported. Try wrapping vmap inside torch.compile, or skip compiling the "
    "backward function."
)
_DETERMINISTIC: Final = (
    "This compiled backward function is being run with torch.use_deterministic_algorithms(True), "
    "but it was previously generated during the forward function while "
    "torch.use_deterministic_algorithms(False) was set."
)
_MUTATES: Final = (
    "aot_autograd does not support input mutations with requires_grad in backward for create_graph=True"
)


class _Lines:
    """Lines of source with their indentation."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.depth = 0

    def __call__(self, *lines: str) -> None:
        self.lines += ["    " * self.depth + line for line in lines]

    def block(self, head: str) -> _Lines:
        self(head)
        return self

    def __enter__(self) -> None:
        self.depth += 1

    def __exit__(self, *error: object) -> None:
        self.depth -= 1


def _listed(names: Iterable[str]) -> str:
    return "".join(f"{name}, " for name in names)


def _results(program: Program) -> list[str]:
    return [
        *(f"m{i}" for i in range(len(program.mutations))),
        *(f"o{i}" for i in range(len(program.outputs) + program.bases)),
    ]


def _unpack(write: _Lines, names: list[str], value: str) -> None:
    write(f"{_listed(names)}= {value}" if names else f"() = {value}")


def _run(write: _Lines, graph: str, args: str, target: list[str] | str, autocast: bool) -> None:
    """Write the call of a graph, which gets its own range when the profiler is on."""
    if autocast:
        with write.block("with DisableAutocast():"):
            _run(write, graph, args, target, False)
        return
    call = f"{graph}({args}) if not profiler._is_profiler_enabled else profiled({graph}, {args})"
    if isinstance(target, str):
        write(f"{target} = {call}")
    else:
        _unpack(write, target, f"({call})")


def _prologue(write: _Lines, program: Program) -> None:
    write(
        'scope = entered("AOTDispatcher Runtime Wrapper Prologue") if profiler._is_profiler_enabled else None'
    )
    write("args = [*args]")
    kept = {mutation.index for mutation in program.mutations}
    kept |= {o.base for o in program.outputs if o.kind in (OutputKind.INPUT, OutputKind.VIEW_OF_INPUT)}
    for index in sorted(kept):
        write(f"in{index} = args[{index}]")
    if program.versions:
        write(f"increment_version(({_listed(f'args[{i}]' for i in program.versions)}))")
    if program.training is not None:
        for index in program.training.detach:
            with write.block(f"if isinstance(args[{index}], Tensor):"):
                write(f"args[{index}] = args[{index}].detach()")


def _mutate(write: _Lines, number: int, mutation: Mutation, training: bool) -> None:
    given, new = f"in{mutation.index}", f"m{number}"
    if mutation.kind is MutationKind.NONE:
        return
    if training and mutation.wrapped:
        new += ".tensor"
    if mutation.kind is MutationKind.SET:
        with write.block("with no_grad():"):
            write(f"{given}.set_({new})")
        return
    if mutation.kind in (MutationKind.RESTRIDE, MutationKind.RESTRIDE_COPY):
        write(f"{given}.as_strided_({new}.size(), {new}.stride(), {new}.storage_offset())")
    if mutation.kind in (MutationKind.COPY, MutationKind.RESTRIDE_COPY):
        if mutation.leaf:
            write(f"({given}.detach() if {given}.requires_grad else {given}).copy_({new})")
        else:
            write(f"{given}.copy_({new})")


def _output(number: int, output: Output, training: bool) -> str:
    if output.kind is OutputKind.PLAIN:
        return f"o{number}"
    if output.kind is OutputKind.INPUT:
        return f"in{output.base}"
    base = f"in{output.base}" if output.kind is OutputKind.VIEW_OF_INPUT else f"o{output.base}"
    if training and output.wrapped_base:
        base += ".tensor"
    target = f"o{number}.tensor" if training else f"o{number}"
    if output.views is None:
        return f"regenerate({base}, {target}, {output.requires_grad})"
    return f"replay({base}, {target}, {output.requires_grad}, views{number})"


def _epilogue(write: _Lines, program: Program) -> None:
    training = program.training is not None
    for number, mutation in enumerate(program.mutations):
        _mutate(write, number, mutation, training)
    for number, output in enumerate(program.outputs):
        if (value := _output(number, output, training)) != f"o{number}":
            write(f"r{number} = {value}")
    returned = [
        f"o{n}" if output.kind is OutputKind.PLAIN else f"r{n}" for n, output in enumerate(program.outputs)
    ]
    for name, output in zip(returned, program.outputs, strict=True):
        if output.dynamic is not None:
            write(f"mark({name}, {set(output.dynamic) or 'set()'})")
    if program.grad_enabled is not None:
        write(f"set_grad_enabled({program.grad_enabled})")
    write(f"return [{_listed(returned)}]")


def _inference(write: _Lines, program: Program, autocast: bool) -> None:
    with write.block("def compiled(*args):"):
        _prologue(write, program)
        write("grad = is_grad_enabled()")
        with write.block("try:"):
            write("if grad: set_grad_enabled(False)")
            write("if scope is not None: scope.__exit__(None, None, None)")
            _run(write, "run_forward", "args", _results(program), autocast)
        with write.block("finally:"):
            write("if grad: set_grad_enabled(True)")
        _epilogue(write, program)


def _training(write: _Lines, program: Program, training: Training, autocast: bool) -> None:
    with write.block("def compiled(*args):"):
        _prologue(write, program)
        write("replaying, grad = is_view_replay_enabled(), is_grad_enabled()")
        with write.block("try:"):
            write("if not replaying: set_view_replay_enabled(True)")
            write("if not grad: set_grad_enabled(True)")
            write("if scope is not None: scope.__exit__(None, None, None)")
            call = "apply(*args)"
            if autocast:
                with write.block("with DisableAutocast():"):
                    _unpack(write, _results(program), call)
            else:
                _unpack(write, _results(program), call)
        with write.block("finally:"):
            write("if not grad: set_grad_enabled(False)")
            write("if not replaying: set_view_replay_enabled(False)")
        _epilogue(write, program)


def _save(write: _Lines, target: str, tensors: str, inputs: tuple[int, ...], first: str) -> None:
    """Write which tensors are saved; views lose their history unless they are inputs."""
    if inputs:
        kept = f"{{{', '.join(map(str, inputs))}}}"
        tensors = f"enumerate({tensors}, {first})"
        write(f"{target} = [x if n in {kept} or not x._is_view() else x.detach() for n, x in {tensors}]")
    else:
        write(f"{target} = [x.detach() if x._is_view() else x for x in {tensors}]")


def _forward(write: _Lines, program: Program, training: Training) -> None:
    names = _results(program)
    behind = training.unchecked + training.numbers
    with write.block("def forward(ctx, *args):"):
        _run(write, "run_forward", "[*args]", "outs", False)  # autocast is off already
        _save(write, "saved", f"outs[{training.saved}:{-behind or None}]", training.inputs, "0")
        if training.unchecked:
            loose = f"outs[{-behind}:{-training.numbers or None}]"
            _save(write, "loose", loose, training.inputs, "len(saved)")
        else:
            write("loose = []")
        if training.saved_dynamic:
            write("both = saved + loose")
            for index, dimensions in training.saved_dynamic:
                write(f"mark(both[{index}], {set(dimensions) or 'set()'})")
        write("ctx.save_for_backward(*saved)", "ctx._tensors_no_vc_check = loose")
        write(f"ctx.symints = outs[{-training.numbers}:]" if training.numbers else "ctx.symints = ()")
        write("ctx.opaque_objects = ()")
        _unpack(write, names, f"outs[:{program.results}]")
        for number, mutation in enumerate(program.mutations):
            if mutation.wrapped:
                write(f"m{number} = Alias(m{number})")
        for number, output in enumerate(program.outputs):
            if output.unsafe_view:
                write(f"o{number} = unsafe_view(o{number}, o{number}.shape)")
            if output.kind is not OutputKind.PLAIN:
                write(f"o{number} = Alias(o{number})")
        plain = [
            *(f"m{n}" for n, m in enumerate(program.mutations) if not m.requires_grad and not m.wrapped),
            *(
                f"o{n}"
                for n, o in enumerate(program.outputs)
                if not o.requires_grad and o.kind is OutputKind.PLAIN
            ),
        ]
        write(f"ctx.mark_non_differentiable(*[x for x in ({_listed(plain)}) if isinstance(x, Tensor)])")
        write("ctx._materialize_non_diff_grads = False")
        write(f"return ({_listed(names)})")


def _backward(write: _Lines, program: Program, training: Training, autocast: bool) -> None:
    with write.block("def run(ctx, args):"):
        write("ctx.maybe_clear_saved_tensors()")
        if training.donated:
            # the graph may overwrite them; torch refuses to keep a graph compiled that way
            with write.block("if keeps_graph():"):
                for index in training.donated:
                    write(f"args[{index}] = clone_keeping_strides(args[{index}])")
        _run(write, "run_backward", "args", "outs", autocast)
        write("return tuple(outs)")
    with write.block("def backward(ctx, grads):" if BOXED_GRADS else "def backward(ctx, *grads):"):
        write("saved = ctx.saved_tensors")
        with write.block("if peek_interpreter_stack() is not None:"):
            write("raise RuntimeError(VMAP)")
        if training.deterministic is False:
            with write.block("if deterministic():"):
                write("raise RuntimeError(DETERMINISTIC)")
        with write.block(f"if len(grads) != {program.results}:"):
            write(f'raise AssertionError(f"expected {program.results} grad_outs, got {{len(grads)}}")')
        loose = "*ctx._tensors_no_vc_check, " if training.unchecked else ""
        grads = _listed(f"tangent{n}(grads[{t.index}])" for n, t in enumerate(training.tangents))
        write(f"args = [*ctx.symints, *saved, {loose}{grads}]")
        write("grads.clear()" if BOXED_GRADS else "del grads", "del saved")
        if training.in_context:
            write("context = get_obj_in_tls('context') if is_key_in_tls('context') else None")
            write("step = run if context is None else partial(context.run, run)")
        else:
            write("step = run")
        with write.block("if is_grad_enabled():"):
            if training.mutates:
                write("raise RuntimeError(MUTATES)")
            elif training.always_connected:
                write("return connected(ctx, step, args)")
            else:
                with write.block("if any(x.requires_grad for x in args if isinstance(x, Tensor)):"):
                    write("return connected(ctx, step, args)")
        write("return step(ctx, args)")


@functools.lru_cache(4096)
def _code(program: Program, autocast: bool) -> types.CodeType:
    """Compile the source of a program; its values do not affect which names the code uses."""
    write = _Lines()
    if program.training is None:
        _inference(write, program, autocast)
    else:
        _forward(write, program, program.training)
        _backward(write, program, program.training, autocast)
        _training(write, program, program.training, autocast)
    return compile("\n".join(write.lines), "<firebrick runtime>", "exec")


def build(
    program: Program,
    forward: Boxed,
    backward: Boxed | None,
    labels: tuple[Label, Label],
    *,
    disable_autocast: bool,
) -> Callable[..., list[Any]]:
    """Return the function made of a program and its graphs.

    Args:
        program: the steps around the graphs.
        forward, backward: the graphs; each takes a list of its arguments and clears it.
        labels: their names in the profiler.
        disable_autocast: run the graphs without autocast, as torch does when it was on at compile time.

    The function takes the inputs as positional arguments and returns a list. Any thread may call it.

    Raises:
        Unsupported: this torch does not know a recorded view.
    """
    names = {forward: labels[0]} if backward is None else {forward: labels[0], backward: labels[1]}
    scope: dict[str, Any] = {
        "Alias": Alias,
        "DETERMINISTIC": _DETERMINISTIC,
        "DisableAutocast": native.DisableAutocast,
        "MUTATES": _MUTATES,
        "Tensor": torch.Tensor,
        "VMAP": _VMAP,
        "clone_keeping_strides": clone_keeping_strides,
        "connected": connected,
        "deterministic": torch.are_deterministic_algorithms_enabled,
        "entered": entered,
        "get_obj_in_tls": native.get_obj_in_tls,
        "increment_version": native.increment_version,
        "is_grad_enabled": torch.is_grad_enabled,
        "is_key_in_tls": native.is_key_in_tls,
        "is_view_replay_enabled": native.is_view_replay_enabled,
        "keeps_graph": native.keeps_graph,
        "mark": mark_with(program.dynamic_mark),
        "no_grad": torch.no_grad,
        "partial": functools.partial,
        "peek_interpreter_stack": native.peek_interpreter_stack,
        "profiled": profiled_as(names),
        "profiler": profiler,
        "regenerate": regenerate,
        "replay": replay,
        "run_backward": backward,
        "run_forward": forward,
        "set_grad_enabled": native.set_grad_enabled,
        "set_view_replay_enabled": native.set_view_replay_enabled,
        "unsafe_view": native.unsafe_view,
    }
    for number, output in enumerate(program.outputs):
        if output.views is not None:
            scope[f"views{number}"] = view_steps(output.views)
    training = program.training
    for number, tangent in enumerate(training.tangents if training is not None else ()):
        scope[f"tangent{number}"] = tangent_of(tangent)
    exec(_code(program, disable_autocast), scope)
    if training is not None:
        scope["apply"] = autograd_function(scope["forward"], scope["backward"]).apply
        skip(scope["forward"].__code__)
        skip(scope["backward"].__code__)
    compiled: Callable[..., list[Any]] = scope["compiled"]
    skip(compiled.__code__)
    return compiled
