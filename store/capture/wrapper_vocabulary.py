"""The vocabulary that graph wrappers may use.

Source followed: ``torch/_inductor/codegen/wrapper.py``.
"""

from __future__ import annotations

import ast

import torch

from firebrick.errors import NotLean
from firebrick.runtime.names import EXTERN_KERNELS, OWN_KERNELS
from firebrick.torch_api.operators import is_of_compiler
from firebrick.validity.operator_kernels import OF_TORCH

# Functions of a wrapper that no call runs.
UNUSED = frozenset(("benchmark_compiled_module", "get_args", "recursively_apply_fns"))
BUILTINS = frozenset(
    (
        *(
            "AssertionError",
            "RuntimeError",
            "abs",
            "bool",
            "complex",
            "enumerate",
            "float",
            "int",
            "isinstance",
        ),
        *("len", "list", "max", "min", "pow", "range", "round", "slice", "sum", "tuple", "zip"),
    )
)
SYNTAX = (
    *(ast.FunctionDef, ast.arguments, ast.arg, ast.Return, ast.Delete, ast.Assign, ast.AugAssign, ast.For),
    *(ast.If, ast.With, ast.withitem, ast.Raise, ast.Assert, ast.Expr, ast.Pass, ast.BoolOp, ast.BinOp),
    *(ast.UnaryOp, ast.IfExp, ast.Compare, ast.Call, ast.keyword, ast.Attribute, ast.Subscript, ast.Slice),
    *(ast.Starred, ast.Name, ast.List, ast.Tuple, ast.Constant, ast.JoinedStr, ast.FormattedValue),
    *(ast.expr_context, ast.boolop, ast.operator, ast.unaryop, ast.cmpop),
)
# Attributes of values, mostly tensors.
METHODS = frozenset(
    (
        *("clear", "append", "size", "stride", "item", "dtype", "device", "shape", "storage_offset", "numel"),
        *("copy_", "zero_", "fill_", "data_ptr", "untyped_storage", "is_integer", "conj", "real", "imag"),
        *("element_size", "is_contiguous", "contiguous", "clone", "detach", "dim", "ndim", "nbytes", "view"),
        *("as_strided", "as_strided_", "set_", "resize_", "to", "tolist", "t", "values", "is_cpu", "isnan"),
        *("isinf", "any", "all", "sum", "prod", "amin", "amax"),
    )
)
_GUARDS = frozenset(
    (
        *("assert_size_stride", "assert_size_stride_grouped", "assert_alignment", "_empty_strided_cpu"),
        *("_empty_strided_cuda", "_empty_strided_cpu_pinned", "_reinterpret_tensor", "copy_if_misaligned"),
    )
)
_OPERATORS = frozenset(
    (
        "aten",
        "prims",
        "inductor",
        "_quantized",
        "quantized",
        "quantized_decomposed",
        "mkldnn",
        "mkl",
        "onednn",
    )
)
_FUNCTIONS = frozenset(
    (
        *("as_strided", "empty_strided", "device", "Tensor", "view_as_complex", "view_as_real", "sym_float"),
        *("sym_int", "sym_ite", "sym_max", "sym_min", "sym_not", "sym_sqrt", "sym_sum", "Size"),
    )
)
ORIGINS = {  # of the runtime's names
    "torch": "torch",
    "math": "math",
    "inf": "math.inf",
    "nan": "math.nan",
    "nanj": "cmath.nanj",
    "device": "torch.device",
    "empty_strided": "torch.empty_strided",
    "align": "torch._inductor.codegen.memory_planning._align",
    "assert_tensor_metadata": "torch._inductor.runtime.runtime_utils.assert_tensor_metadata",
    "extern_kernels": "torch._inductor.select_algorithm.extern_kernels",
    "get_raw_stream": "torch._C._cuda_getCurrentRawStream",
    "copy_if_misaligned": "torch._C._dynamo.guards.copy_if_misaligned",
}
_PLACES = {"cuda": "CUDA", "xpu": "XPU", "mtia": "MTIA"}


def path_of(node: ast.expr) -> list[str]:
    """Return the names of a dotted path; empty if it does not start at a name."""
    names: list[str] = []
    while isinstance(node, ast.Attribute):
        names.append(node.attr)
        node = node.value
    return [node.id, *reversed(names)] if isinstance(node, ast.Name) else []


def check_path(path: list[str], aliases: dict[str, ast.Assign]) -> str:
    """Check a dotted path that starts at a global; return the path of an operator that the program registers.

    Raises:
        NotLean: naming a path outside the vocabulary.
    """
    seen = 0
    while path and path[0] in aliases and seen < len(aliases):
        path, seen = [*path_of(aliases[path[0]].value), *path[1:]], seen + 1
    match path:
        case ["torch", "ops", namespace, *rest] if namespace in _OPERATORS:
            _check_operator(namespace, rest)
        case ["torch", "ops", namespace, *rest] if rest and namespace not in OF_TORCH:
            _check_operator(namespace, rest)
            return ".".join(path)
        case ["torch", "ops", namespace, *_]:
            raise NotLean(f"operator of {namespace}")
        case ["torch", "_C", "_dynamo", "guards", name] if name in _GUARDS:
            pass
        case ["torch", "_C", "_dynamo", "guards", name] if name.removeprefix("_empty_strided_") in _PLACES:
            raise NotLean(f"{_PLACES[name.removeprefix('_empty_strided_')]} memory")
        case ["torch", "cuda", "_DeviceGuard" | "set_device"]:
            pass
        case ["torch", place, *_] if place in _PLACES:
            raise NotLean(f"{_PLACES[place]} code")
        case ["torch", name] if name in _FUNCTIONS:
            pass
        case ["torch", name]:
            kinds = (torch.dtype, torch.layout, torch.memory_format)
            if not isinstance(getattr(torch, name, None), kinds):
                raise NotLean(f"the wrapper uses torch.{name}")
        case ["extern_kernels", name]:
            if name not in EXTERN_KERNELS and name not in OWN_KERNELS:
                raise NotLean(f"extern kernel {name}")
        case ["math", _]:
            pass
        case _:
            raise NotLean(f"the wrapper uses {'.'.join(path)}")
    return ""


def _check_operator(namespace: str, rest: list[str]) -> None:
    value = getattr(torch.ops, namespace)
    for name in rest:
        try:
            value = getattr(value, name)
        except AttributeError:
            raise NotLean(f"operator {namespace}.{'.'.join(rest)}") from None
    if is_of_compiler(value):
        raise NotLean(f"operator {namespace}.{'.'.join(rest)}, which the compiler registers")
