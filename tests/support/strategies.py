"""Hypothesis strategies for everything that codecs encode, and what it takes to compare it.

`everything(kind)` is the one strategy; its arguments are the documented limits of what it makes.
Every codec is run with it (tests/codecs/test_codecs_all.py), and so can be a codec of one's own.
"""

from __future__ import annotations

import enum
import math
import pickle
import struct
import sys
import types
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable
from typing import Any, NamedTuple

from hypothesis import strategies as st

from firebrick.codecs.lean_backend import LeanBackend, LeanGraph
from firebrick.codecs.lean_program import Program
from firebrick.codecs.lean_split import LeanSplit
from firebrick.codecs.library import Library
from firebrick.codecs.triton import TritonKernel
from firebrick.storage.format import Kind
from support.guard_programs import guard_programs
from support.launch_examples import autotuned, launches
from support.lean_programs import programs, split
from support.manifest_examples import manifests

BIG = 1 << 80  # integers up to this and down to its negative


class Shade(enum.Enum):
    """An enumeration for tests."""

    LIGHT = 1
    DARK = "d"


Shade.__module__ = "firebrick.testing.strategies"  # the name that golden files have of it
sys.modules[Shade.__module__] = sys.modules[__name__]


class Pair(NamedTuple):
    """A tuple with names for tests."""

    left: Any
    right: Any


class Node:
    """An object with attributes for tests; equal only to itself."""


def texts(max_size: int = 40, *, surrogates: bool = True) -> st.SearchStrategy[str]:
    """Make text of at most `max_size` characters, with lone surrogates among them or without."""
    characters = st.characters() if surrogates else st.characters(exclude_categories=["Cs"])
    return st.text(characters, max_size=max_size)


def scalars(max_size: int = 40, *, surrogates: bool = True) -> st.SearchStrategy[Any]:
    """Make None, numbers (NaN, infinities, negative zero, `BIG` ones), text and bytes."""
    return st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-BIG, BIG),
        st.floats(),
        st.complex_numbers(allow_nan=True),
        texts(max_size, surrogates=surrogates),
        st.binary(max_size=max_size),
        st.sampled_from([Ellipsis, NotImplemented]),
    )


def graphs(max_size: int = 40, max_leaves: int = 12) -> st.SearchStrategy[Any]:
    """Make containers of scalars: nested, with parts that occur more than once, and cycles."""
    keys = st.one_of(st.integers(), texts(max_size), st.binary(max_size=max_size), st.none())
    plain = st.recursive(
        scalars(max_size),
        lambda inner: st.one_of(
            st.lists(inner, max_size=4),
            st.tuples(inner, inner),
            st.dictionaries(keys, inner, max_size=4),
            st.sets(keys, max_size=4),
            st.frozensets(keys, max_size=4),
            st.binary(max_size=max_size).map(bytearray),
            st.builds(slice, inner, inner),
            st.builds(range, st.integers(-9, 9), st.integers(-9, 9)),
            st.builds(Counter, st.lists(keys, max_size=4)),
            st.builds(OrderedDict, st.lists(st.tuples(keys, inner), max_size=4)),
            st.builds(deque, st.lists(inner, max_size=4)),
        ),
        max_leaves=max_leaves,
    )
    return st.builds(_tangle, st.lists(plain, min_size=1, max_size=4), st.integers(0, 7))


def _tangle(parts: list[Any], how: int) -> Any:
    if how & 1:
        parts.append(parts[0])
    if how & 2:
        parts.append({"self": parts})
    return parts if how & 4 else tuple(parts)


_SOURCES = (
    "def f({a}, *, {b}={i}):\n    '''{t}'''\n    return [{a} + {b}, {t!r}, {c!r}]",
    "def f({a}):\n    def g({b}):\n        nonlocal {a}\n"
    "        {a} = {b} in {c!r}\n        return {a}\n    return g",
    "class C:\n    {a} = {c!r}\n    def m(self):\n        try:\n"
    "            yield {i}\n        finally:\n            print({t!r})",
    "async def f({a}):\n    async with {a} as {b}:\n        return [x async for x in {b} if x == {c!r}]",
    "f = lambda {a}, /, {b}={i}: ({a}[{i}:...], -0.0, 1e999, 2j, {c!r})",
)


def code_objects(max_size: int = 40) -> st.SearchStrategy[types.CodeType]:
    """Make code objects: modules with functions, classes, closures, generators and coroutines."""
    names = st.sampled_from(["a", "b", "é", "long_name", "__x"])
    literals = st.recursive(
        st.one_of(st.integers(-BIG, BIG), texts(max_size, surrogates=False), st.binary(max_size=4)),
        lambda inner: st.tuples(inner, inner),
        max_leaves=4,
    )

    def build(source: str, a: str, b: str, i: int, t: str, c: Any) -> types.CodeType:
        b = b if b != a else b + "2"
        return compile(source.format(a=a, b=b, i=i, t=t, c=c), "<firebrick>/file.py", "exec")

    text = st.text("abc xyz_", max_size=max_size)
    return st.builds(build, st.sampled_from(_SOURCES), names, names, st.integers(), text, literals)


def tensors(max_side: int = 4) -> st.SearchStrategy[Any]:
    """Make tensors on the CPU of at most three dimensions, also views, parameters and scalars.

    torch is imported. Sides are at most `max_side` elements.
    """
    import torch

    dtypes = st.sampled_from(
        [torch.float32, torch.bfloat16, torch.float64, torch.int64, torch.bool, torch.complex64]
    )

    def build(shape: list[int], dtype: Any, seed: int, view: int) -> Any:
        generator = torch.Generator().manual_seed(seed)
        raw = torch.randint(0, 2, (*shape, 16), generator=generator, dtype=torch.uint8)
        tensor = raw.view(dtype).select(-1, 0) if view & 1 else raw.view(dtype)[..., 0].clone()
        if view & 2 and tensor.dim() > 1:
            tensor = tensor.transpose(0, 1)
        if view & 4 and tensor.dim():
            tensor = tensor[tensor.shape[0] // 2 :]
        if view & 8 and dtype.is_complex:
            tensor = tensor.conj()
        if view & 16 and dtype.is_floating_point:
            tensor = torch.nn.Parameter(tensor) if view & 32 else tensor.requires_grad_()
        return tensor

    shapes = st.lists(st.integers(0, max_side), max_size=3)
    return st.builds(build, shapes, dtypes, st.integers(0, 99), st.integers(0, 63))


def elf(
    needed: tuple[str, ...] = ("libc.so.6",),
    soname: str = "",
    machine: int = 62,
    extra: bytes = b"",
) -> bytes:
    """Write a shared object of ELF that has a dynamic section and nothing to run."""
    strings, offsets = b"\0", []
    for name in (*needed, soname):
        offsets.append(len(strings))
        strings += name.encode() + b"\0"
    header, segment = 64, 56
    at = header + 2 * segment
    dynamic = [(1, offset) for offset in offsets[:-1]]
    dynamic += [(14, offsets[-1])] if soname else []
    dynamic += [(5, at), (10, len(strings)), (0, 0)]
    entries = b"".join(struct.pack("<qQ", *entry) for entry in dynamic)
    size = at + len(strings) + len(entries)
    head = struct.pack(
        "<16sHHIQQQIHHHHHH",
        b"\x7fELF\x02\x01\x01".ljust(16, b"\0"), 3, machine, 1, 0, header, 0, 0, header, segment, 2, 0, 0, 0,
    )  # fmt: skip
    segments = struct.pack("<IIQQQQQQ", 1, 4, 0, 0, 0, size, size, 4096)
    start = at + len(strings)
    segments += struct.pack("<IIQQQQQQ", 2, 4, start, start, start, len(entries), len(entries), 8)
    return head + segments + strings + entries + extra


def libraries(max_size: int = 40) -> st.SearchStrategy[Library]:
    """Make shared libraries with up to three needed ones."""
    names = st.text("abcdefgh_", min_size=1, max_size=max_size)
    lists = st.lists(names, max_size=3, unique=True)
    return st.builds(
        lambda name, symbols, isa, flags, needed, extra: Library(
            name + ".so", tuple(symbols), isa, tuple(sorted(flags)), elf(tuple(needed), extra=extra)
        ),
        names,
        lists,
        st.sampled_from(["", "avx2", "avx512"]),
        lists,
        lists,
        st.binary(max_size=max_size),
    )


def kernels(max_size: int = 40) -> st.SearchStrategy[TritonKernel]:
    """Make Triton kernels that no GPU would load."""
    names = st.text("abcdefgh_", min_size=1, max_size=12)

    def build(hash_: str, name: str, binary: bytes, warps: int, shared: int) -> TritonKernel:
        facts = f'{{"name": "{name}", "num_warps": {warps}, "shared": {shared}, "target": {{"backend": '
        json = (facts + '"cuda", "arch": 90, "warp_size": 32}}').encode()
        group = f'{{"child_paths": {{"{name}.cubin": "[REPLACE]/{name}.cubin"}}}}'.encode()
        payloads = {f"{name}.cubin": binary, f"{name}.json": json, f"__grp__{name}.json": group}
        return TritonKernel.from_payloads(hash_.upper(), payloads)

    sizes = st.integers(0, 1 << 20)
    return st.builds(build, names, names, st.binary(max_size=max_size), st.integers(1, 32), sizes)


def pickles(max_size: int = 40) -> st.SearchStrategy[bytes]:
    """Make pickles of protocols 4 and 5 that name a few globals of the standard library."""
    values = st.one_of(
        graphs(max_size),
        st.sampled_from([Counter, OrderedDict(a=1), defaultdict(list), math.sqrt, Shade, 1 << 70]),
    )
    return st.builds(pickle.dumps, st.tuples(values, values), st.sampled_from([4, 5]))


def dynamo_entries(max_size: int = 40) -> st.SearchStrategy[Any]:
    """Make Dynamo entries of one code object; torch._dynamo is imported."""
    from torch._dynamo import package

    def build(original: Any, compiled: Any, state: bytes, flag: bool, text: str) -> Any:
        serialize = package.SerializedCode.from_code_object
        guarded = package._GuardedCodeCacheEntry(state, serialize(compiled))
        code = package._DynamoCodeCacheEntry(
            serialize(original), text, [package._FunctionId("__resume_at_8_1")], [guarded],
            {"__import_math": "math"},
            [package._BackendId("__compiled_fn_1_ab")], None, flag,
        )  # fmt: skip
        source = package.InlinedSource("math", 1, 2, "0", "no text of that module")
        entry = package._DynamoCacheEntry([code], package.SourceInfo({source}), "cpu")
        entry._private = {"note": text}  # type: ignore[attr-defined]
        return entry

    codes = code_objects(max_size)
    return st.builds(build, codes, codes, pickles(max_size), st.booleans(), texts(max_size))


def backend_artifacts(max_size: int = 40) -> st.SearchStrategy[Any]:
    """Make backend artifacts whose content is a graph; torch._functorch is imported."""
    from torch._functorch._aot_autograd.aot_autograd_result import BundledAOTAutogradCacheArtifact

    values = st.one_of(graphs(max_size), tensors())
    return st.builds(lambda content: BundledAOTAutogradCacheArtifact("", content), values)


def lean_backends(max_size: int = 40) -> st.SearchStrategy[LeanBackend]:
    """Make lean backends that nobody should call; torch is imported."""

    def graph(
        code: Any, digests: list[str], constant: Any, check: tuple[int, ...], tuned: Any, device: int | None
    ) -> LeanGraph:
        kernels = {f"kernel_{number}": digest for number, digest in enumerate(digests)}
        constants = {} if constant is None else {"constant": constant}
        made = LeanGraph(code, kernels, constants, check, check[:1], device=device)
        return made._replace(launches=tuned) if tuned else made

    def build(
        program: Program, forward: Any, backward: Any, constant: Any, known: list[Library], tuned: Any,
        device: int | None,
    ) -> LeanBackend:  # fmt: skip
        digests = [f"{number:x}" for number in range(len(known))]
        graphs = (
            graph(forward, digests, constant, (0, 3), tuned, device),
            graph(backward, digests[:1], None, (), {}, None),
        )
        trains = program.training is not None
        return LeanBackend(
            program, graphs[0], graphs[1] if trains else None, dict(zip(digests, known, strict=True))
        )

    codes, small = code_objects(max_size), min(max_size, 4)
    constants = st.none() | tensors(small)
    several = st.lists(libraries(max_size), max_size=2)
    tuned = autotuned(kernels(max_size))
    devices = st.none() | st.integers(0, 7)
    return st.builds(build, programs(), codes, codes, constants, several, tuned, devices)


def lean_splits(max_size: int = 40) -> st.SearchStrategy[LeanSplit]:
    """Make backends of several parts that nobody should call; torch is imported."""

    parts = st.lists(lean_backends(max_size), max_size=2)
    return st.builds(split, st.randoms(use_true_random=False), parts)


_KINDS: dict[Kind, Callable[[int], st.SearchStrategy[Any]]] = {
    Kind.BACKEND: backend_artifacts,
    Kind.BUNDLE: manifests,
    Kind.CODE: code_objects,
    Kind.DYNAMO: dynamo_entries,
    Kind.GRAPH: lambda size: st.one_of(graphs(size), tensors(), code_objects(size)),
    Kind.GUARDS: pickles,
    Kind.GUARD_PROGRAM: guard_programs,
    Kind.LAUNCH: lambda size: launches(kernels(size)),
    Kind.LEAN_BACKEND: lean_backends,
    Kind.LEAN_SPLIT: lean_splits,
    Kind.LIBRARY: libraries,
    Kind.TENSOR: lambda size: tensors(min(size, 4)),
    Kind.TEXT: texts,
    Kind.TRITON: kernels,
    Kind.WRAPPER: lambda size: texts(size, surrogates=False),
}


def everything(kind: Kind, max_size: int = 40) -> st.SearchStrategy[Any]:
    """Make values of every shape that the codec of a kind accepts.

    Args:
        kind: Kind of blob; BACKEND, DYNAMO, GRAPH, LEAN_BACKEND, LEAN_SPLIT and TENSOR import torch.
        max_size: Most characters, bytes or elements of one part.
    """
    return _KINDS[kind](max_size)


def same(first: Any, second: Any) -> bool:
    """Compare values part by part: types, order, bits of floats, sharing and cycles, tensors."""
    return _same(first, second, {})


def _same(a: Any, b: Any, seen: dict[int, int]) -> bool:
    if type(a) is not type(b):
        return False
    if isinstance(a, float):
        return struct.pack("<d", a) == struct.pack("<d", b)
    if isinstance(a, complex):
        return _same(a.real, b.real, seen) and _same(a.imag, b.imag, seen)
    if isinstance(a, tuple | range):
        return len(a) == len(b) and all(_same(x, y, seen) for x, y in zip(a, b, strict=True))
    if isinstance(a, slice):
        return _same((a.start, a.stop, a.step), (b.start, b.stop, b.step), seen)
    if isinstance(a, set | frozenset):
        return a == b and {repr(item) for item in a} == {repr(item) for item in b}
    if type(a).__module__.startswith("torch") and hasattr(a, "untyped_storage"):
        return _same_tensor(a, b)
    mutable = isinstance(a, list | dict | deque) or getattr(a, "__dict__", None) is not None
    if not mutable or isinstance(a, type | enum.Enum):
        return bool(a == b)
    if getattr(type(a), "__hash__", None) in (None, object.__hash__):  # of equal values, sharing says nothing
        if id(a) in seen:
            return seen[id(a)] == id(b)
        seen[id(a)] = id(b)
    if isinstance(a, dict):
        return _same(tuple(a.items()), tuple(b.items()), seen)
    if isinstance(a, list | deque):
        return _same(tuple(a), tuple(b), seen)
    return _same(tuple(vars(a).items()), tuple(vars(b).items()), seen)


def _same_tensor(a: Any, b: Any) -> bool:
    def facts(t: Any) -> Any:
        geometry = t.dtype, t.size(), t.stride(), t.device
        return *geometry, t.requires_grad, t.is_conj(), t.is_neg(), repr(t.detach().tolist())

    return bool(facts(a) == facts(b))
