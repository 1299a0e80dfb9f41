"""Compile small functions, and keep what torch recorded of their backends in lean form.

Used by tests/test_lean_backend.py in processes of their own: `save(path, names)` compiles the cases and
stores lean backends with what torch's own restored functions did on equal inputs.
"""

import contextlib

import torch


@contextlib.contextmanager
def recording():
    """Record backends and the libraries of their wrappers; yields a function that gives the libraries."""
    import torch._inductor.compile_fx  # noqa: F401
    from torch._dynamo import config
    from torch._dynamo.precompile_context import PrecompileContext
    from torch._inductor.codecache import CppCodeCache, PyCodeCache

    from firebrick.capture.kernels import Kernels
    from firebrick.loader.libraries import Libraries
    from firebrick._patches import Patches

    kernels, patches = Kernels(Libraries()), Patches()
    for owner, name, wrap in (
        (PyCodeCache, "load_by_key_path", kernels.loading_wrapper),
        (CppCodeCache, "load_async", kernels.loading_library),
    ):
        patches.set(owner, name, classmethod(wrap(getattr(owner, name).__func__)))
    PrecompileContext.clear()
    try:
        with config.patch(caching_precompile=True):
            yield kernels.of
    finally:
        patches.undo()


def artifacts():
    """Return torch's recorded backend artifacts, in the order of their compilation."""
    from torch._dynamo.precompile_context import PrecompileContext

    return list(PrecompileContext._backend_artifacts_by_key.values())
