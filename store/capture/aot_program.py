"""Describe, in plain values, what AOTAutograd does around its compiled graphs.

Source followed: ``ViewAndMutationMeta`` of ``torch/_functorch/_aot_autograd/schemas.py`` and its readers in
``runtime_wrappers.py``; decisions they take while building a function are taken here.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from firebrick.codecs.lean_program import (
    Mutation,
    MutationKind,
    Output,
    OutputKind,
    Program,
    Tangent,
    Training,
    View,
)
from firebrick.errors import NotLean
from firebrick.torch_api import aot as api
from firebrick.torch_api import native

_KINDS = {
    "non_alias": OutputKind.PLAIN,
    "unsafe_view_alias": OutputKind.PLAIN,
    "custom_function_view": OutputKind.PLAIN,
    "is_input": OutputKind.INPUT,
    "alias_of_input": OutputKind.VIEW_OF_INPUT,
    "alias_of_intermediate": OutputKind.VIEW_OF_RESULT,
    "alias_of_intermediate_save_as_output": OutputKind.VIEW_OF_RESULT,
    "alias_of_intermediate_base_is_user_output": OutputKind.VIEW_OF_RESULT,
}


def aot_program(entry: Any) -> Program:
    """Return the program of a bundled AOTAutograd result.

    Args:
        entry: torch's result, which is only read.

    Raises:
        NotLean: naming what a program cannot express.
    """
    for reason in _refusals(entry):
        raise NotLean(reason)
    metadata = entry.runtime_metadata
    trains = entry.compiled_bw is not None
    config = entry.sanitized_aot_config
    return Program(
        inputs=len(metadata.input_info),
        outputs=tuple(_output(info, metadata, trains) for info in metadata.output_info),
        mutations=tuple(
            _mutation(i, metadata.input_info[i], trains) for i in metadata.mutated_inp_runtime_indices
        ),
        bases=metadata.num_intermediate_bases,
        versions=tuple(
            metadata.mutated_graph_handled_indices_seen_by_autograd
            if config.keep_inference_input_mutations
            else ()
        ),
        grad_enabled=metadata.grad_enabled_mutation,
        dynamic_mark=api.dynamic_mark(),
        training=_training(entry, metadata) if trains else None,
    )


def _refusals(entry: Any) -> Iterator[str]:
    """Yield the names of features that no program can express."""
    metadata = entry.runtime_metadata
    backward = entry.compiled_bw
    if entry.maybe_subclass_meta is not None:
        yield "tensor subclasses"
    metas = (metadata.subclass_inp_meta, metadata.subclass_fw_graph_out_meta, metadata.subclass_tangent_meta)
    if any(isinstance(meta, api.SubclassCreationMeta) for group in metas for meta in group):
        yield "tensor subclasses"
    if metadata.tokens or metadata.num_backward_tokens:
        yield "effect tokens"
    if metadata.is_rng_op_functionalized or metadata.num_outputs_rng_offset:
        yield "functionalised random numbers"
    if metadata.num_graphsafe_rng_states:
        yield "random states for CUDA graphs"
    if metadata.num_opaque_objects_saved_for_bw:
        yield "opaque objects saved for the backward"
    if api.collective_inputs(metadata):
        yield "asynchronous collectives among the inputs"
    if api.shallow_copied_inputs(metadata):
        yield "inputs that get other data"
    if any(stream is not None for stream in metadata.mutated_inp_stream_indices or ()):
        yield "inputs mutated on streams"
    if api.functorch_config.debug_assert:
        yield "debug_assert"
    if backward is not None and backward.backward_state_indices:
        yield "BackwardState"
    for wrapper in entry.dispatch_wrappers:
        name = type(wrapper).__name__
        if type(wrapper) is api.AOTDedupeWrapper and wrapper.needs_post_compile:
            yield "inputs that are the same tensor"
        elif type(wrapper) is api.AOTSyntheticBaseWrapper and wrapper.needs_post_compile:
            yield "mutated inputs that share memory"
        elif type(wrapper) not in (api.AOTDedupeWrapper, api.AOTSyntheticBaseWrapper):
            yield f"runtime wrapper {name}"


def _output(info: Any, metadata: Any, trains: bool) -> Output:
    name = info.output_type.name
    if name not in _KINDS:
        raise NotLean(f"output of type {name}")
    kind, base, wrapped = _KINDS[name], info.base_idx, False
    if name in ("alias_of_intermediate", "alias_of_intermediate_save_as_output"):
        base += len(metadata.output_info)
    elif kind is OutputKind.VIEW_OF_RESULT:
        wrapped = trains and base in metadata.aliased_out_indices
    views = info.view_meta_sequence
    if not api.functorch_config.view_replay_for_aliased_outputs or kind is OutputKind.PLAIN:
        views = None
    if views is not None and any(step.has_symbolic_inputs for step in views.sequence):
        views = None
    dynamic = info.dynamic_dims if metadata.dynamic_outputs else None
    return Output(
        kind=kind,
        base=-1 if kind is OutputKind.PLAIN else base,
        requires_grad=bool(info.requires_grad),
        unsafe_view=trains and name == "unsafe_view_alias",
        wrapped_base=wrapped,
        views=None if views is None else tuple(map(_view, views.sequence)),
        dynamic=None if dynamic is None else tuple(sorted(dynamic)),
    )


def _view(step: Any) -> View:
    name = type(step).__name__.removesuffix("_ViewMeta")
    return View(name, tuple(_argument(name, argument) for argument in step.as_tuple()))


def _argument(view: str, value: Any) -> Any:
    if value is None or type(value) in (bool, int):
        return value
    if isinstance(value, torch.dtype):
        return f"dtype {value}".replace("torch.", "")
    if type(value) is getattr(native.functionalization, "InverseReturnMode"):  # noqa: B009 - not in the stub
        return f"mode {value.name}"
    if isinstance(value, list | tuple) and all(type(item) is int for item in value):
        return tuple(value)
    raise NotLean(f"view {view} with an argument of type {type(value).__name__}")


def _mutation(index: int, info: Any, trains: bool) -> Mutation:
    wrapped = info.mutates_metadata and not info.mutates_data
    if not info.mutates_data and not info.mutates_metadata:
        kind = MutationKind.NONE
    elif info.mutates_storage_metadata:
        if trains and not wrapped:  # torch's own runtime fails here
            raise NotLean("set_() of an input whose data is mutated too")
        kind = MutationKind.SET
    elif wrapped:
        kind = MutationKind.RESTRIDE
    else:
        kind = MutationKind.RESTRIDE_COPY if info.mutates_metadata else MutationKind.COPY
    return Mutation(index, kind, bool(info.is_leaf), bool(info.requires_grad), bool(wrapped))


def _training(entry: Any, metadata: Any) -> Training:
    numbers, unchecked = metadata.num_symints_saved_for_bw, metadata.num_tensors_saved_with_no_vc_check
    if numbers is None or unchecked is None:
        raise NotLean("a backward whose saved values are not counted")
    return Training(
        detach=tuple(entry.indices_of_inps_to_detach),
        saved=metadata.num_forward,
        unchecked=unchecked,
        numbers=numbers,
        saved_dynamic=tuple(
            (index, tuple(sorted(dims)))
            for index, dims in sorted(metadata.dynamic_saved_tensors_idxs.items())
        ),
        tangents=tuple(_tangents(metadata)),
        deterministic=metadata.deterministic,
        donated=tuple(metadata.bw_donated_idxs or ()),
        mutates=bool(metadata.indices_of_inputs_that_requires_grad_with_mutations_in_bw),
        always_connected=api.always_connected(metadata),
        in_context=api.backward_in_context(),
        inputs=api.saved_inputs(metadata),
    )


def _tangents(metadata: Any) -> Iterator[Tangent]:
    """Yield the gradients that enter the backward, in the order of its arguments."""
    mutated = metadata.mutated_inp_runtime_indices
    infos = [metadata.input_info[index] for index in mutated]
    indices = [n for n, info in enumerate(infos) if info.mutates_data and info.requires_grad]
    indices += [
        len(mutated) + n
        for n, info in enumerate(metadata.output_info)
        if _KINDS.get(info.output_type.name) is OutputKind.PLAIN
        and issubclass(info.raw_type, torch.Tensor)
        and api.needs_tangent(info)
    ]
    first = len(mutated) + metadata.num_outputs
    indices += range(first, first + metadata.num_intermediate_bases)
    if len(metadata.subclass_tangent_meta) < len(indices):
        raise NotLean("gradients without a description")
    for index, meta in zip(indices, metadata.subclass_tangent_meta, strict=False):
        yield _tangent(index, meta.memory_format)


def _tangent(index: int, expected: Any) -> Tangent:
    if expected is None:
        raise NotLean("a gradient without a memory format")
    if expected.memory_format is not None:
        return Tangent(index, str(expected.memory_format).removeprefix("torch."), (), ())
    sizes, strides = tuple(expected.size), tuple(expected.stride)
    if not all(type(number) is int for number in (*sizes, *strides)):
        raise NotLean("a gradient with symbolic sizes and strides")
    return Tangent(index, "", sizes, strides)
