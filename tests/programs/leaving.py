"""Enable and disable Firebrick, and look at what it leaves in torch. STORE names the folder."""

import os
import sys
import types
import warnings

import torch
import torch._dynamo.precompile_context
from torch._dynamo import config as dynamo_config
from torch._functorch import config as functorch_config
from torch._inductor import config as inductor_config

import firebrick

STORE = os.environ["STORE"]
PARTS = (
    "torch._dynamo",
    "torch._inductor",
    "torch._functorch",
    "torch._guards",
    "torch._C._dynamo",
)
PLAIN = (types.FunctionType, types.BuiltinFunctionType, type, classmethod, staticmethod, property)
CONFIGS = (dynamo_config, functorch_config, inductor_config)


def wave(x, n):
    return x.sin() * n


def run(n):
    torch._dynamo.reset()
    return torch.compile(wave)(torch.ones(4), n)


def attributes():
    """Return every function, class and descriptor of torch's compiler, by place."""
    found = {}
    for name, module in list(sys.modules.items()):
        if name != "torch" and not name.startswith(PARTS):
            continue
        owners = [(name, vars(module))]
        owners += [
            (f"{name}:{key}", vars(value))
            for key, value in list(vars(module).items())
            if isinstance(value, type) and value.__module__ == name
        ]
        for place, scope in owners:
            if isinstance(scope, dict | types.MappingProxyType):
                items = list(scope.items())
                found |= {f"{place}.{k}": v for k, v in items if isinstance(v, PLAIN)}
    return found


def changed(before):
    now = attributes()
    return sorted(key for key, value in before.items() if now.get(key) is not value)


def settings():
    return [config.get_config_copy() for config in CONFIGS]


def leaving():
    run(2)
    before, configured, finders = attributes(), settings(), list(sys.meta_path)
    firebrick.enable(STORE)
    run(3)
    during = changed(before)
    firebrick.disable()
    after = changed(before)
    run(4)
    same = settings() == configured and sys.meta_path == finders
    return {"during": during, "after": after, "same": same, "many": len(before) > 5000}


def twice():
    """Enable again with the same and with other settings; leave twice."""
    with firebrick.enabled(STORE):
        run(5)
        firebrick.enable(STORE)
        first = firebrick.stats().stored
        firebrick.enable(STORE + "-other")
        run(6)
        second = firebrick.stats().stored
    firebrick.disable()
    return first, second, firebrick.stats().stored


def shorthand():
    with firebrick.enabled(STORE):
        value = firebrick.compile(lambda x: x.cos() - 4, dynamic=False)(torch.ones(4))
        decorated = firebrick.compile(fullgraph=True)(wave)(torch.ones(4), 7)
        return value, decorated, firebrick.stats().stored


def refused():
    """Return the errors of calls that are wrong in themselves."""
    errors = []
    for call in (
        lambda: firebrick.enable(),
        lambda: firebrick.enable(STORE, colour="red"),
        lambda: firebrick.enable(STORE, map_size=-1),
        lambda: firebrick.enable(3),
        lambda: firebrick.compile(wave),
    ):
        try:
            call()
            errors.append("none")
        except Exception as error:
            errors.append(type(error).__name__)
    return errors


def standing_aside(n):
    """Enable where Firebrick must stand aside, and return what is seen of it."""
    before = attributes()
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        firebrick.enable(STORE)
        value = run(n)
    stored = firebrick.stats().stored
    firebrick.disable()
    ours = [w for w in seen if w.category.__module__.startswith("firebrick")]
    return {"value": value, "warnings": len(ours), "stored": stored, "after": changed(before)}


def unsupported():
    """Stand aside from a torch that nobody knows."""
    version, torch.__version__ = torch.__version__, "2.99.0"
    try:
        return standing_aside(8)
    finally:
        torch.__version__ = version


def lacking():
    """Stand aside from a known torch that lacks a name which only Firebrick needs."""
    gone = vars(torch._dynamo.package).pop("load_guards_state")
    try:
        return standing_aside(9)
    finally:
        torch._dynamo.package.load_guards_state = gone
