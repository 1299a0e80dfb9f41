"""Fill, read and edit the registry of precompiled functions.

REGISTRY says through which class (``torch`` or ``firebrick``), STORES names a folder with one store
per case, or nothing for a run without Firebrick, and DEVICE where to compute.
"""

import contextlib
import os
from pathlib import Path

import torch
from torch._dynamo import config as dynamo_config
from torch._dynamo.precompile_context import BackendCacheArtifact, PrecompileContext
from torch._functorch import config as functorch_config
from torch._functorch._aot_autograd.autograd_cache import BundledAOTAutogradCacheArtifact

import firebrick

STORES = os.environ.get("STORES")


def registry():
    torchs = os.environ["REGISTRY"] == "torch"
    return PrecompileContext if torchs else firebrick.PrecompileContext


def view(registry):
    """Return what a registry shows, as plain values."""
    whole, _ = registry.create_cache_entries()
    backends = {key: registry.serialize_artifact_by_key(key) for key in registry._backend_artifacts_by_key}
    return {
        "entries": sorted(registry._dynamo_cache_entries),
        "backends": sorted(backends),
        "types": [type(backends[key]).__name__ for key in sorted(backends)],
        "keys": all(artifact.key == key for key, artifact in backends.items()),
        "private": [
            getattr(backend.content, "_my_private_field", None)
            for entry in whole.values()
            for backend in entry.backends.values()
        ],
        "whole": sorted(whole),
    }


class Steps(list):
    """What both classes show after each step."""

    def take(self, step):
        mirror = {"torch": PrecompileContext, "firebrick": firebrick.PrecompileContext}
        self.append([step, {name: view(registry) for name, registry in mirror.items()}])


@contextlib.contextmanager
def attached(name):
    with contextlib.ExitStack() as stack:
        if STORES:
            stack.enter_context(firebrick.enabled(Path(STORES, name)))
        stack.enter_context(functorch_config.patch(enable_autograd_cache=True))
        stack.enter_context(dynamo_config.patch(caching_precompile=True))
        yield


def waves(x):
    return x.sin() + x.cos()


@contextlib.contextmanager
def compiled(name):
    """Clear the registry, then compile one function forward and backward."""
    steps = Steps()
    torch._dynamo.reset()
    with attached(name):
        registry().clear()
        steps.take("clear")
        x = torch.linspace(0, 1, 10, device=os.environ.get("DEVICE", "cpu"), requires_grad=True)
        y = torch.compile(waves)(x)
        y.sum().backward()
        steps.take("compile")
        yield steps
    if STORES:
        steps.take("detached")


def basic():
    with compiled("basic") as steps:
        pass
    return steps


def by_key():
    with compiled("by_key") as steps:
        for key in list(registry()._backend_artifacts_by_key):
            artifact = registry().serialize_artifact_by_key(key)
            if not isinstance(artifact, BackendCacheArtifact) or artifact.key != key:
                raise TypeError(f"{key} gives {artifact!r}")
        steps.take("read")
        if registry().serialize_artifact_by_key("absent") is not None:
            raise KeyError("an artifact that was never recorded")
    return steps


def mark(content):
    content._my_private_field = 42
    return content


def editable():
    with compiled("editable") as steps:
        key = next(iter(registry()._backend_artifacts_by_key))
        registry().edit_artifact(key, mark)
        steps.take("edit")
        artifact = registry().serialize_artifact_by_key(key)
        if not isinstance(artifact, BundledAOTAutogradCacheArtifact) or artifact.key != key:
            raise TypeError(f"{key} gives {artifact!r}")
        try:
            registry().edit_artifact("absent", mark)
        except Exception as error:
            steps.append(["refused", type(error).__name__])
    return steps


def reopened():
    """Return what a later process finds in each store, without compiling anything."""
    found = {}
    for name in ("basic", "by_key", "editable"):
        with attached(name):
            found[name] = view(registry())
    return found
