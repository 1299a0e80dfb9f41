"""Compile small functions and observe their backends, restored by torch and restored without it.

Used by tests/runtime/test_lean_backend.py: `save(path, names)` compiles the cases, keeps each backend in lean
form with inputs of it, and writes down what torch's own restored function does with them; `load(path, out)`
restores the lean backends in a process of its own and writes down what those do.
"""

import contextlib
import copy
import pickle
import sys
from pathlib import Path

import torch

WITH_TORCH = frozenset(sys.modules)  # what `import torch` brings

import backend_cases  # noqa: E402


@contextlib.contextmanager
def recording():
    """Record backends and the libraries of their wrappers; yields a function that gives the libraries."""
    import torch._inductor.compile_fx  # noqa: F401
    from torch._dynamo import config
    from torch._dynamo.precompile_context import PrecompileContext
    from torch._functorch._aot_autograd.autograd_cache import AOTAutogradCache
    from torch._inductor.codecache import CppCodeCache, PyCodeCache

    from firebrick.base.patches import Patches
    from firebrick.loader.libraries import Libraries
    from firebrick.loader.wrapper_libraries import WrapperLibraries
    from firebrick.torch_api.aot_entries import making_entries, saving_entries

    def refused(error):
        raise error

    kernels, patches = WrapperLibraries(Libraries()), Patches()
    for owner, name, wrap in (
        (PyCodeCache, "load_by_key_path", kernels.loading_wrapper),
        (CppCodeCache, "load_async", kernels.loading_library),
    ):
        patches.set(owner, name, classmethod(wrap(getattr(owner, name).__func__)))
    making = making_entries(AOTAutogradCache.make_entry, refused)
    patches.set(AOTAutogradCache, "make_entry", staticmethod(making))
    patches.set(AOTAutogradCache, "save", staticmethod(saving_entries(AOTAutogradCache.save)))
    PrecompileContext.clear()
    try:
        with config.patch(caching_precompile=True):
            yield kernels.of
    finally:
        patches.undo()


def artifacts():
    """Return torch's recorded backend artifacts: name -> artifact, in the order of their compilation."""
    from torch._dynamo.precompile_context import PrecompileContext

    return dict(PrecompileContext._backend_artifacts_by_key)


def pack(args):
    """Describe the arguments of a backend so that equal ones can be made again."""
    return [
        (type(a) is torch.nn.Parameter, a.requires_grad, a.is_leaf, a.detach()) if torch.is_tensor(a) else a
        for a in args
    ]


def unpack(packed):
    """Make arguments and the leaves that get their gradients; memory that was shared is shared again."""
    args, leaves = [], []
    for given in copy.deepcopy(packed):
        if not isinstance(given, tuple):
            args.append(given)
            continue
        parameter, requires_grad, leaf, tensor = given
        if parameter:
            tensor = torch.nn.Parameter(tensor, requires_grad)
        elif requires_grad:
            tensor.requires_grad_()
        leaves.append(tensor)
        args.append(tensor if leaf else tensor.view_as(tensor) * 1)
    return args, leaves


def graph_name(tensor):
    return None if tensor.grad_fn is None else type(tensor.grad_fn).__name__


def facts(value, others):
    """Describe a value: of a tensor all that a program can see of it."""
    if not torch.is_tensor(value):
        return [type(value).__name__, str(value)]
    places = {id(other): i for i, other in enumerate(others)}
    shared = [
        i
        for i, other in enumerate(others)
        if other is not value
        and torch.is_tensor(other)
        and other.untyped_storage().data_ptr() == value.untyped_storage().data_ptr()
        and other.untyped_storage().nbytes()
    ]
    return {
        "class": type(value).__name__,
        "is": places.get(id(value)),
        "shares memory with": shared,
        "base is": places.get(id(value._base), "something") if value._is_view() else None,
        "dtype": str(value.dtype),
        "geometry": [list(value.shape), list(value.stride()), value.storage_offset()],
        "flags": [value.requires_grad, value.is_leaf, value.is_conj(), value.is_neg(), value.is_inference()],
        "graph": graph_name(value),
        "version": None if value.is_inference() else value._version,
        "marks": {k: sorted(v) for k, v in sorted(vars(value).items()) if k.startswith("_dynamo_")},
        "value": value.detach().clone(),
    }


def error_of(error):
    return [type(error).__name__, str(error)]


def observe(function, packed, steps):
    """Call a backend and write down all that can be seen.

    Args:
        function: the backend.
        packed: its arguments.
        steps: what to do afterwards, see `STEPS`; and "no_grad" or "inference" for the call itself.
    """
    args, leaves = unpack(packed)
    torch.manual_seed(7)
    mode = contextlib.nullcontext()
    if "no_grad" in steps:
        mode = torch.no_grad()
    if "inference" in steps:
        mode = torch.inference_mode()
    if "autocast" in steps:
        mode = torch.autocast("cpu", torch.bfloat16)
    before = torch.is_grad_enabled()
    with mode:
        try:
            outs = list(function(*args))
        except Exception as error:
            return {"error": error_of(error)}
        seen = {"grad mode": torch.is_grad_enabled()}
    torch.set_grad_enabled(before)
    everything = [*args, *outs]
    seen["outputs"] = [facts(out, everything) for out in outs]
    seen["inputs"] = [facts(arg, args) for arg in args]
    for step in steps:
        if step in STEPS:
            try:
                seen[step] = STEPS[step](outs, leaves)
            except Exception as error:
                seen[step] = error_of(error)
    return seen


def differentiable(outs):
    return [out for out in outs if torch.is_tensor(out) and out.requires_grad and out.grad_fn is not None]


def weighted(out):
    """Reduce an output so that each of its elements counts differently."""
    real = torch.view_as_real(out) if out.is_complex() else out
    weights = torch.linspace(0.5, 1.5, real.numel(), dtype=torch.float64).reshape(real.shape)
    return (real * weights.to(real.dtype)).sum().float()


def strange(out):
    """Reduce an output so that its gradient has strides of its own."""
    return (torch.view_as_real(out) if out.is_complex() else out).sum().float()


def gradients(outs, leaves, weigh=weighted, **options):
    """Give the gradients of the leaves.

    The roots are reduced to one number: torch imports SymPy for gradients that are passed to ``backward``.
    """
    for leaf in leaves:
        leaf.grad = None
    sum(map(weigh, differentiable(outs))).backward(**options)
    return [None if leaf.grad is None else facts(leaf.grad, leaves) for leaf in leaves]


def retained(outs, leaves):
    return [gradients(outs, leaves, retain_graph=True), gradients(outs, leaves, retain_graph=True)]


def twice(outs, leaves):
    return [gradients(outs, leaves), gradients(outs, leaves)]


def some(outs, leaves):
    return gradients(differentiable(outs)[-1:], leaves)


def double(outs, leaves):
    first = gradients(outs, leaves, create_graph=True)
    sum(leaf.grad.sum() for leaf in leaves if leaf.grad is not None and leaf.grad.requires_grad).backward()
    return first


def changed(outs, leaves):
    """Change what the backward needs, in place."""
    with torch.no_grad():
        for value in [*leaves, *outs]:
            if torch.is_tensor(value) and value.is_floating_point():
                value.add_(1)
    return gradients(outs, leaves)


STEPS = {
    "backward": gradients,
    "backward of some": some,
    "backward with strange gradients": lambda outs, leaves: gradients(outs, leaves, strange),
    "backward, retained": retained,
    "backward, twice": twice,
    "double backward": double,
    "backward after changes": changed,
}


def variants(packed, case):
    """Give the ways in which a backend is observed: name -> steps."""
    base = (case.mode,) if case.mode else ()
    if not case.trains:
        yield "call", base
        return
    for step in STEPS:
        if step in case.steps or step == "backward":
            yield step, (*base, step)


def compiled_backends(case):
    """Compile and run a case; return its artifacts, with the arguments that each backend got."""
    from torch._dynamo.precompile_context import PrecompileContext

    torch._dynamo.reset()
    PrecompileContext.clear()
    torch.manual_seed(0)
    function = torch.compile(case.function, dynamic=case.dynamic, options=case.options)

    def run():
        args = case.inputs()
        mode = {"no_grad": torch.no_grad, "inference": torch.inference_mode}.get(case.mode)
        if case.mode == "autocast":
            mode = lambda: torch.autocast("cpu", torch.bfloat16)  # noqa: E731
        with mode() if mode else contextlib.nullcontext():
            outs = function(*args)
        outs = outs if isinstance(outs, tuple | list) else [outs]
        torch.set_grad_enabled(True)
        if case.trains:
            sum(map(weighted, differentiable(outs))).backward()

    run()
    found, given = artifacts(), {}
    scope = case.function.__globals__
    for name in found:
        original = scope[name]

        def spying(*args, name=name, original=original):
            given.setdefault(name, pickle.dumps(pack(args)))
            return original(*args)

        scope[name] = torch._dynamo.disable(spying)
    run()
    return [(artifact, pickle.loads(given[name])) for name, artifact in found.items()]


def save(path, folder, names):
    """Compile cases, put their lean backends into a store, and write what torch's functions do."""
    from torch._dynamo import config

    from firebrick import codecs
    from firebrick.capture.lowering import lean_backend
    from firebrick.errors import NotStorable
    from firebrick.storage.format import Kind
    from firebrick.storage.store import Store
    from firebrick.torch_api import load

    result = {}
    found = {"capture_scalar_outputs": True, "capture_dynamic_output_shape_ops": True}
    with Store.open(folder, create=True) as store, recording() as libraries_of, config.patch(found):
        for name in names:
            case = backend_cases.CASES[name]
            result[name] = backends = []
            for artifact, packed in compiled_backends(case):
                try:
                    lean = lean_backend(artifact, libraries_of, lambda key: {})
                except NotStorable as error:
                    backends.append({"refused": str(error)})
                    continue
                encoded = codecs.encode(Kind.LEAN_BACKEND, lean)
                again = codecs.encode(Kind.LEAN_BACKEND, lean_backend(artifact, libraries_of, lambda key: {}))
                key = store.put_many([*encoded.children, encoded.root])[-1]
                seen = {}
                for variant, steps in variants(packed, case):
                    mode = torch.autocast("cpu", torch.bfloat16, case.mode == "autocast")
                    with mode, load().naming_compile(0):
                        function = copy.deepcopy(artifact).after_deserialization()
                    # torch's first call runs in a mode that checks operators, which shows in versions
                    observe(function, packed, steps[:0])
                    seen[variant] = steps, observe(function, packed, steps)
                backends.append(
                    {
                        "key": bytes(key),
                        "again": again == encoded,
                        "inputs": packed,
                        "seen": seen,
                        "donated": bool(lean.program.training and lean.program.training.donated),
                        "kernels": len(lean.libraries),
                    }
                )
    Path(path).write_bytes(pickle.dumps(result))


def load(path, folder, out):
    """Restore the lean backends and write what they do, and which modules are there afterwards."""
    from firebrick.loader.lean_backends import LeanBackends
    from firebrick.storage.store import Store

    result = {}
    with Store.open(folder, readonly=True) as store:
        loader = LeanBackends(store)
        for name, backends in pickle.loads(Path(path).read_bytes()).items():
            case = backend_cases.CASES[name]
            result[name] = []
            for saved in backends:
                seen = {}
                result[name].append(seen)
                if "refused" in saved:
                    continue
                disabled = case.mode == "autocast"
                function = loader.load(saved["key"], disable_autocast=disabled)
                assert loader.load(saved["key"], disable_autocast=disabled) is function
                for variant, (steps, _) in saved["seen"].items():
                    seen[variant] = observe(function, saved["inputs"], steps)
    compiler = ("torch._dynamo", "torch._inductor", "torch._functorch", "sympy", "triton")
    modules = sorted(m for m in sys.modules.keys() - WITH_TORCH if m.startswith(compiler))
    Path(out).write_bytes(pickle.dumps({"seen": result, "modules": modules}))
