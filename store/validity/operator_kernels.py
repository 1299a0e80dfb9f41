"""Describe operators as far as Python defines them: kernels, fakes, gradients, overrides of torch's own.

The C++ dispatcher does not return its Python kernels, so `OperatorKernels` records them as they are
registered. Kernels registered before Firebrick was enabled are known by name alone; torch's own registrations
are part of torch. Source followed: ``torch/library.py``, ``torch/_library/{custom_ops,simple_registry}.py``.
"""

from __future__ import annotations

import functools
import weakref
from collections.abc import Callable, Iterator
from typing import Any, Final

import torch

from firebrick.base.patches import Patches
from firebrick.base.shipped import is_shipped, shipped_file
from firebrick.torch_api import native
from firebrick.validity.configuration import text_of
from firebrick.validity.reach import whole_digest

OF_TORCH: Final = frozenset(
    {
        "aten", "prim", "prims", "inductor", "higher_order", "quantized", "_quantized",
        "quantized_decomposed", "mkldnn", "mkldnn_prims", "mkl", "onednn", "rngprims", "profiler",
        "debugprims", "_c10d_functional", "_c10d_functional_autograd", "c10d", "c10d_functional", "fsdp",
        "symm_mem", "streams", "sparse",
        "quantization", "export", "_inductor_test", "bw", "torch_attn", "_dtensor", "dtensor", "backends",
    }
)  # fmt: skip
# Kernels that run when the graph runs, in each process: their code is not part of a graph.
_AT_RUN_TIME: Final = frozenset(
    {"CPU", "CUDA", "XPU", "MPS", "HPU", "MTIA", "PrivateUse1", "SparseCPU", "SparseCUDA"}
)
# Keys under which torch registers the attributes of a ``CustomOpDef``.
_OF_CUSTOM_OPS: Final = frozenset(
    {"Autograd", "ADInplaceOrView", "CompositeExplicitAutograd", "BackendSelect", "FuncTorchBatched", "Meta"}
)
# Attributes of a ``CustomOpDef`` that name it, or that matter only when the graph runs.
_NAMES_AND_KERNELS: Final = frozenset(
    {"_namespace", "_name", "_schema", "_init_fn", "_backend_fns", "_disabled_kernel", "_lib", "_opoverload"}
)
UNKNOWN: Final = "registered before Firebrick was enabled"


class OperatorKernels:
    """The Python kernels that the program's libraries registered since `install`."""

    def __init__(self) -> None:
        self._known: dict[str, list[tuple[str, Any, weakref.ref[Any]]]] = {}

    def install(self, patches: Patches) -> None:
        """Record kernels as they are registered, until the patches are undone.

        Inside ``import torch``, before any other extension of torch runs, all kernels are torch's own.
        """
        if native.alone_in_import():
            _own_kernels.update(dict.fromkeys(native.python_kernels, True))
        library = torch.library.Library
        patches.set(library, "impl", self._noting(library.impl))

    def _noting(self, original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def impl(library: Any, op_name: Any, fn: Any, dispatch_key: str = "", **options: Any) -> Any:
            before = set(native.python_kernels)
            result = original(library, op_name, fn, dispatch_key, **options)
            for entry in native.python_kernels - before:
                self._known.setdefault(entry, []).append((entry, fn, weakref.ref(library)))
            return result

        return impl

    def seen(self) -> set[str]:
        """Return the entries whose registration was seen."""
        return set(self._known)

    def of(self, entry: str) -> Any:
        """Return the function of an entry of ``native.python_kernels``; `UNKNOWN` if it was not seen."""
        for _, function, library in reversed(self._known.get(entry, ())):
            if library() is not None:
                return function
        return UNKNOWN


KERNELS: Final = OperatorKernels()
_own_kernels: dict[str, bool] = {}  # entry of `_impls` -> whether torch registered it


def _entries(wanted: Callable[[str], bool]) -> Iterator[tuple[str, Any]]:
    """Yield the Python kernels not known to be torch's own."""
    own = {entry for entry, known in _own_kernels.items() if known} - KERNELS.seen()
    for entry in sorted(native.python_kernels - own):
        if wanted(entry.partition("/")[0]):
            yield entry, KERNELS.of(entry)


def overrides() -> str:
    """Return the program's changes to torch's own operators; empty for none."""
    found = []
    for entry, function in _entries(OF_TORCH.__contains__):
        if function is UNKNOWN:
            if not _is_of_torch(entry):
                found.append(f"{entry} {UNKNOWN}")
        elif not is_shipped(function):
            found.append(f"{entry} {whole_digest(function)}")
    return "; ".join(found)


def _is_of_torch(entry: str) -> bool:
    """Tell by the library's file, which the dispatcher keeps, whether torch registered a kernel."""
    if entry not in _own_kernels:
        _own_kernels[entry] = False
        namespace, name, _ = entry.split("/")
        for line in native.dispatch_dump(f"{namespace}::{name}").splitlines():
            head, found, place = line.partition(" registered at ")
            if found:  # all kernels of an operator are in one dump
                key = head.partition(":")[0].strip().removesuffix("[alias]").strip()
                own = bool(shipped_file(place.partition(".py:")[0] + ".py"))
                _own_kernels[f"{namespace}/{name}/{key}"] = own
    return _own_kernels[entry]


def meaning(name: str) -> str:
    """Return the Python side of a user operator: schema, fake, gradient, traced kernels.

    Args:
        name: ``namespace.operator``.
    """
    namespace, _, operator = name.partition(".")
    packet = getattr(getattr(torch.ops, namespace, None), operator, None)
    if packet is None:
        return "absent"
    parts = [str(getattr(packet, overload)._schema) for overload in packet.overloads()]
    if (defined := native.OPDEFS.get(f"{namespace}::{operator}")) is not None:
        for attribute, value in sorted(vars(defined).items()):
            if value and attribute not in _NAMES_AND_KERNELS:
                parts.append(f"{attribute} {whole_digest(value) if callable(value) else text_of(value)}")
    else:
        for overload in packet.overloads():
            qualified = f"{namespace}::{operator}" + ("" if overload == "default" else f".{overload}")
            entry = native.registered_operators.get(qualified)
            if entry is not None and (kernel := entry.fake_impl.kernel) is not None:
                parts.append(f"fake of {overload} {whole_digest(kernel.func)}")
    for path, function in _entries(namespace.__eq__):
        _, found, key = path.split("/")
        if found.partition(".")[0] == operator and key not in _AT_RUN_TIME:
            known = function is not UNKNOWN
            if defined is not None and (is_shipped(function) if known else key in _OF_CUSTOM_OPS):
                continue  # torch's, in which the attributes above are called
            parts.append(f"{key} {whole_digest(function) if known else UNKNOWN}")
    return "; ".join(parts)
