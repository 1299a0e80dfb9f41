"""What the corpora have in common: subjects, their samples, and values that are described bit for bit.

A *subject* is one entry of a database of torch's: it has a ``name``, ``supports(dtype)``, and
``samples(dtype)``, which makes all its samples anew. A sample has a ``function``, which is compiled, and
``measure(function)``, which calls what it is given in its place and returns all that is to be compared.
"""

import hashlib
import importlib
import random

import numpy
import torch
from torch.utils import _pytree as pytree

KINDS = ("operators", "modules", "optimizers")
DATABASES = ("op_db", "module_db", "optim_db", "hop_db", "custom_op_db", "autograd_function_db")


def subjects(database):
    """Return the subjects of a database by name."""
    for kind in KINDS:
        module = importlib.import_module(f"corpora.{kind}")
        if database in module.DATABASES:
            return {subject.name: subject for subject in module.subjects(database)}
    raise ValueError(f"expected one of {', '.join(DATABASES)}, got {database!r}")


def seed(number=0):
    """Seed all generators that samples and operators use."""
    torch.manual_seed(number)
    random.seed(number)
    numpy.random.seed(number)


def spread(number, most):
    """Return at most so many indices of so many samples, spread over them; 0 stands for all."""
    count = min(number, most) if most else number
    return [n * number // count for n in range(count)]


def gradients(result, arguments):
    """Return the gradients of results for all arguments that require one, or ``None``."""
    outputs = [x for x in tensors(result) if x.requires_grad and x.grad_fn is not None]
    inputs = [x for x in tensors(arguments) if x.requires_grad and x.is_leaf]
    if not outputs or not inputs:
        return None
    weights = [weight(x) for x in outputs]
    return torch.autograd.grad(outputs, inputs, weights, allow_unused=True)


def weight(result):
    """Return what comes from behind a result: numbers that differ from each other."""
    if result.layout != torch.strided or result.is_nested:
        return torch.ones_like(result)
    numbers = torch.arange(result.numel(), dtype=torch.float64).remainder(7).add(1).div(4)
    return numbers.reshape(result.shape).to(result.dtype)


def tensors(value):
    """Return the tensors in a value, each once."""
    return list({id(x): x for x in pytree.tree_leaves(value) if isinstance(x, torch.Tensor)}.values())


def described(value):
    """Return a value as JSON that is equal if and only if the value is, bit for bit; any nan equals any."""
    if isinstance(value, torch.Tensor):
        return tensor(value)
    if isinstance(value, dict):
        return {str(key): described(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [type(value).__name__, *map(described, value)]
    if isinstance(value, numpy.ndarray):
        return described(torch.from_numpy(value))
    if isinstance(value, torch.Generator):
        return described(value.get_state())
    return (
        repr(value) if isinstance(value, bool | int | float | complex | str | None) else type(value).__name__
    )


def tensor(value):
    """Return the type of a tensor and the digest of its numbers."""
    kind = f"{type(value).__name__} {value.dtype} {value.layout} {value.requires_grad}"
    value = value.detach()
    if value.is_nested:
        return [kind, *map(tensor, value.unbind())]
    if value.layout == torch.strided:
        kind += f" {tuple(value.shape)} {value.stride()} {value.is_conj()} {value.is_neg()}"
        return {"type": kind, "bits": digest(value)}
    kind += f" {tuple(value.shape)}"
    if value.layout == torch.sparse_coo:
        parts = value._indices(), value._values()
    elif value.layout in (torch.sparse_csr, torch.sparse_bsr):
        parts = value.crow_indices(), value.col_indices(), value.values()
    else:
        parts = value.ccol_indices(), value.row_indices(), value.values()
    return {"type": kind, "parts": [tensor(part) for part in parts]}


def digest(value):
    """Return the digest of a tensor's bytes."""
    plain = value.resolve_conj().resolve_neg().contiguous().flatten()
    if plain.is_complex():
        plain = torch.view_as_real(plain).flatten()
    if plain.is_floating_point() and plain.element_size() > 1:
        plain = torch.where(plain.isnan(), torch.full_like(plain, float("nan")), plain)
    return hashlib.sha256(plain.view(torch.uint8).numpy().tobytes()).hexdigest()[:32]


def form(described):
    """Return a description without the numbers, for results that are random or not initialised."""
    if isinstance(described, dict):
        return {key: form(item) for key, item in described.items() if key != "bits"}
    return [form(item) for item in described] if isinstance(described, list) else described


def close(one, other):
    """Raise an AssertionError where two values are not equal up to rounding."""
    pairs = zip(tensors(one), tensors(other), strict=True)
    for left, right in pairs:
        narrow = left.dtype in (torch.float16, torch.bfloat16, torch.complex32)
        bound = 2e-2 if narrow else 1e-3
        torch.testing.assert_close(left, right, rtol=bound, atol=bound, equal_nan=True, check_stride=False)
