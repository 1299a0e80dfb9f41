"""Patches of torch's compiler: functions and classes in its modules that are not torch's.

A module or class is looked at again only if one of its entries is another object than before.

Source followed: ``torch/_inductor/virtualized.py`` (the handler of choices).
"""

from __future__ import annotations

import functools
import operator
import sys
import types
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

import torch

from firebrick.base.shipped import is_own, is_shipped_class, shipped_file
from firebrick.torch_api import imported
from firebrick.validity.reach import whole_digest

# Modules that take part in a compilation. Those that torch imports at once are in every process.
_COMPILER: Final = (
    "torch._inductor", "torch._dynamo", "torch._functorch", "torch._decomp", "torch._refs", "torch._prims",
    "torch._subclasses", "torch._higher_order_ops", "torch._meta_registrations", "torch.fx",
)  # fmt: skip
# Packages from which torch's compiler imports functions and classes, besides Python's own.
_USED: Final = frozenset({
    "torch", "torchgen", "functorch", "triton", "sympy", "mpmath", "numpy", "networkx", "jinja2",
    "filelock", "optree", "typing_extensions", "packaging", "psutil", "yaml", "tabulate", "pydot",
    "cutlass", "cuda", "rich", "tqdm", "PIL", "redis", "requests", "fsspec", "expecttest", "hypothesis",
    "onnx", "onnxscript", "ml_dtypes", "pkg_resources", "setuptools", "torch_xla", "ck4inductor",
    "cutlass_library", "nvidia", "scipy", "firebrick",
    *sys.stdlib_module_names,
})  # fmt: skip
_OF_IMPORT: Final = ("__loader__", "__spec__")  # of a module; import hooks of other packages set their own
TRANSPARENT: Final = "firebrick_transparent"  # attribute of a patch that only watches: its own code
# What holds a function, and the attributes that lead to it.
_HOLDERS: Final[Mapping[type, tuple[str, ...]]] = {
    staticmethod: ("__func__",), classmethod: ("__func__",), types.MethodType: ("__func__",),
    property: ("fget", "fset"), functools.partial: ("func",), functools.cached_property: ("func",),
    type(functools.cache(len)): ("__wrapped__",),
}  # fmt: skip

# Modules and classes whose values are all torch's: these values, and the classes they define.
_fine_types: set[type] = set()
_fine_files: set[str] = set()
_as_shipped: dict[types.ModuleType | type, tuple[Sequence[object], list[type]]] = {}


def named_digest(value: object) -> str:
    """Return the path of a function, class or object of the program, and the digest of what it can run."""
    named = value if hasattr(value, "__qualname__") else type(value)
    return f"{getattr(named, '__module__', None)}.{getattr(named, '__qualname__', '')} {whole_digest(value)}"


def note_compiler() -> None:
    """At the end of ``import torch``, note its modules as shipped without a look at them."""
    if torch.__spec__ is not None and getattr(torch.__spec__, "_initializing", False):
        for name, module in _compiler_modules():
            for cls in _note(module, name):
                _note(cls, name)


def _compiler_modules() -> Iterator[tuple[str, types.ModuleType]]:
    for name, module in list(sys.modules.items()):
        if name.startswith(_COMPILER) and isinstance(module, types.ModuleType):
            yield name, module


def _note(owner: types.ModuleType | type, module: str) -> list[type]:
    """Note the values of a module or class as torch's, and return the classes that it defines itself."""
    values = [*vars(owner).values()]
    classes = [value for value in values if isinstance(value, type) and value.__module__ == module]
    _as_shipped[owner] = values, classes
    return classes


def changed_code() -> Iterator[str]:
    """Yield functions and classes of the compiler that are not torch's."""
    for name, module in _compiler_modules():
        yield from (f"{name}.{text}" for text in _foreign_entries(module, name))
        for cls in _as_shipped.get(module, ((), []))[1]:
            yield from (f"{name}.{cls.__name__}.{text}" for text in _foreign_entries(cls, name))
    virtualized = imported("torch._inductor.virtualized")
    if virtualized is not None and not is_shipped_class(chosen := type(virtualized.V.choices)):
        yield f"choices: {named_digest(chosen)}"


def _foreign_entries(owner: types.ModuleType | type, module: str) -> list[str]:
    """Describe the entries of a module or class that are not torch's.

    They are looked at again only if one is another object than before.
    """
    entries = vars(owner)
    known = _as_shipped.get(owner, ((), []))[0]
    if len(known) == len(entries) and all(map(operator.is_, known, entries.values())):
        return []
    found = [
        f"{name}: {named_digest(value)}"
        for name, value in [*entries.items()]
        if name not in _OF_IMPORT and _is_foreign(value)
    ]
    _note(owner, module)
    if found:
        _as_shipped[owner] = (), _as_shipped[owner][1]
    return found


def _is_foreign(value: object) -> bool:
    """Tell whether a function, class or other object comes from neither torch nor what torch uses.

    Functions are judged by the module whose names they see, which decorators cannot change; Firebrick's own
    replacements are looked through.
    """
    kind = type(value)
    if kind in _fine_types:
        return False
    if isinstance(value, types.FunctionType):
        if value.__code__.co_filename not in _fine_files and _is_foreign_function(value):
            return True
        return value.__closure__ is not None and _is_foreign(getattr(value, "__wrapped__", None))
    if kind in _HOLDERS:
        return any(_is_foreign(getattr(value, name, None)) for name in _HOLDERS[kind])
    cls = value if isinstance(value, type) else kind
    if cls.__module__.partition(".")[0] not in _USED or cls.__module__ == "unittest.mock":
        return True
    if cls is kind:
        _fine_types.add(kind)
    return False


def _is_foreign_function(function: types.FunctionType) -> bool:
    file = function.__code__.co_filename
    if shipped_file(file) or is_own(function.__code__):
        _fine_files.add(file)
        return False
    if getattr(function, TRANSPARENT, None) is function.__code__:
        return False
    module = str(function.__globals__.get("__name__"))
    root, generated = module.partition(".")[0], file.startswith("<")
    if generated and module not in sys.modules:  # by a library, such as the constructors of named tuples
        return False
    return root not in _USED or (root in sys.stdlib_module_names and not generated)
