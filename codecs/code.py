"""Encode Python code objects without marshal, digest their behaviour, and rename names in them.

The body is `[tag, magic, code]`: the interpreter's cache tag and bytecode magic, which must equal the
reader's, and the fields of the code object. Constants that msgpack cannot hold are `[letter, …]`; see
`_TAGS`.

The bytecode is that of `co_code`, which CPython returns without specialisations, inline counters and
instrumentation. It is checked only as far as building a code object requires: like all Python bytecode it is
trusted by whoever runs it.
"""

from __future__ import annotations

import enum
import functools
import importlib.util
import inspect
import opcode
import os
import re
import sys
import types
from collections.abc import Callable, Iterable, Mapping
from typing import Any, cast

from firebrick.base.digest import hasher_for
from firebrick.codecs._globals import name_of, resolve
from firebrick.codecs.abc import Codec, Sink, Source
from firebrick.errors import CodecError, DecodeError, EncodeError, LimitExceeded, UnknownVersion
from firebrick.storage.format import Kind
from firebrick.storage.msgpack import INT64, Limits, pack, unpack

_LIMITS = Limits(depth=120)
_MAIN = ("__main__", "__mp_main__")  # names of the main module
_HAVE_CODE_UNIT = 2  # bytes per instruction
_LOST_MODULE = r"<firebrick module (.+)>"  # file name for a module that is not imported
_NUMBERS = (
    "co_argcount",
    "co_posonlyargcount",
    "co_kwonlyargcount",
    "co_nlocals",
    "co_stacksize",
    "co_flags",
)
_NAMES = ("co_names", "co_varnames", "co_freevars", "co_cellvars")
_BEHAVIOUR = (
    "co_argcount",
    "co_posonlyargcount",
    "co_kwonlyargcount",
    "co_flags",
    "co_code",
    *_NAMES,
    "co_exceptiontable",
)


@functools.lru_cache(1)
def _module_files(count: int) -> dict[str, str]:
    """Map source files to modules; the module `count` only serves to notice imports."""
    files: dict[str, str] = {}
    for name, module in sorted(sys.modules.items(), key=lambda item: (item[0] in _MAIN, item[0])):
        file = getattr(module, "__dict__", {}).get("__file__")
        if isinstance(file, str):
            files.setdefault(file, name)
    return files


def module_files() -> Mapping[str, str]:
    """Return the source files of all imported modules, each with its module's name.

    Of several modules with one file, the alphabetically first counts, `__main__` and its alias last.
    """
    return _module_files(len(sys.modules))


def _put_constant(value: Any, put_code: Callable[[types.CodeType], Any]) -> Any:
    kind = type(value)
    if value is None or kind in (bool, float, str, bytes) or (kind is int and value in INT64):
        return value
    put = _PUT.get(kind)
    if put is not None:
        return put(value, put_code)
    if kind.__module__ == "torch" and kind.__name__ == "device":
        return ["d", value.type, value.index]
    if kind.__module__ == "torch" and kind.__name__ == "Size":
        return ["S", *map(int, value)]
    if isinstance(value, enum.Enum):
        return ["E", name_of(kind), value.name]
    return ["g", name_of(value)]  # classes, functions, dtypes; refuses anything without a name


def _put_set(value: frozenset[Any], put_code: Callable[[types.CodeType], Any]) -> list[Any]:
    return ["s", *sorted((_put_constant(item, put_code) for item in value), key=pack)]


_PUT: dict[type, Callable[[Any, Callable[[types.CodeType], Any]], Any]] = {
    int: lambda v, _: ["i", v.to_bytes((v + (v < 0)).bit_length() // 8 + 1, "big", signed=True)],
    complex: lambda v, _: ["c", v.real, v.imag],
    type(Ellipsis): lambda v, _: ["e"],
    tuple: lambda v, put: ["t", *(_put_constant(item, put) for item in v)],
    frozenset: _put_set,
    slice: lambda v, put: ["l", *(_put_constant(item, put) for item in (v.start, v.stop, v.step))],
    types.CodeType: lambda v, put: ["C", put(v)],
    types.MethodType: lambda v, _: _put_class_method(v),
}


def _put_class_method(value: Any) -> list[Any]:
    owner, name = value.__self__, value.__func__.__name__
    if not isinstance(owner, type) or class_method(owner, name) != value:
        raise EncodeError("method", reason=f"{name} is bound to an object")
    return ["m", name_of(owner), name]


def class_method(owner: Any, name: Any) -> types.MethodType | None:
    """Bind a class method, looked up without running descriptors; None if there is none."""
    found = inspect.getattr_static(owner, name, None) if isinstance(owner, type) else None
    return types.MethodType(found.__func__, owner) if isinstance(found, classmethod) else None


def _get_class_method(name: str, attribute: str) -> Any:
    if (method := class_method(resolve(name), attribute)) is None:
        raise DecodeError(f"{name} has no class method {attribute}")
    return method


def _get_constant(value: Any) -> Any:
    if type(value) is not list:
        return value
    tag, *rest = value
    return _TAGS[tag](*rest)


def _get_complex(real: float, imag: float) -> complex:
    if type(real) is not float or type(imag) is not float:
        raise DecodeError("a complex constant needs two floats")
    return complex(real, imag)


def _get_enum(name: str, member: str) -> Any:
    cls = resolve(name)
    if not isinstance(cls, enum.EnumType):
        raise DecodeError(f"{name} is not an enumeration")
    return cls.__members__[member]


def _tensors() -> Any:
    from firebrick.codecs import tensor  # few functions have torch constants

    return tensor


_TAGS: dict[str, Callable[..., Any]] = {
    "i": lambda data: int.from_bytes(memoryview(data), "big", signed=True),
    "c": _get_complex,
    "e": lambda: ...,
    "t": lambda *items: tuple(map(_get_constant, items)),
    "s": lambda *items: frozenset(map(_get_constant, items)),
    "l": lambda *items: slice(*map(_get_constant, items)),
    "C": lambda fields: _get_code(fields),
    "d": lambda *facts: _tensors().device(*facts),
    "S": lambda *sizes: _tensors().torch_module().Size(sizes),
    "E": _get_enum,
    "m": _get_class_method,
    "g": resolve,
}


def _put_code(code: types.CodeType, files: Mapping[str, str]) -> list[Any]:
    lost = re.fullmatch(_LOST_MODULE, code.co_filename)
    module = lost[1] if lost else files.get(code.co_filename)
    file = ["m", module] if module else ["f", os.path.basename(code.co_filename)]
    constants = [
        _put_constant(constant, lambda inner: _put_code(inner, files)) for constant in code.co_consts
    ]
    return [
        [getattr(code, name) for name in _NUMBERS],
        code.co_code,
        constants,
        [list(getattr(code, name)) for name in _NAMES],
        file,
        code.co_name,
        code.co_qualname,
        code.co_firstlineno,
        code.co_linetable,
        code.co_exceptiontable,
    ]


def _get_file(kind: str, name: str) -> str:
    if kind == "m":
        file = getattr(sys.modules.get(name), "__dict__", {}).get("__file__")
        return file if isinstance(file, str) else f"<firebrick module {name}>"
    if kind != "f":
        raise DecodeError(f"unknown kind of file {kind!r:.20}")
    return f"<firebrick>/{name}"


def _check_caches(code: bytes) -> None:
    """Refuse bytecode whose last instruction lacks its inline caches.

    CPython writes to them when it builds the object, even past the end of the bytecode.
    """
    caches = cast(Any, opcode)._inline_cache_entries
    count, at = len(code) // _HAVE_CODE_UNIT, 0
    while at < count:
        number = code[at * _HAVE_CODE_UNIT]
        name = opcode.opname[number]
        size = caches.get(name, 0) if isinstance(caches, dict) else caches[number]
        at += 1 + size
    if at != count or len(code) % _HAVE_CODE_UNIT or not count:
        raise DecodeError("the bytecode ends inside an instruction")


def _get_code(fields: Any) -> types.CodeType:
    numbers, code, constants, names, file, name, qualname, line, lines, exceptions = fields
    _check_caches(code)
    co_names, varnames, freevars, cellvars = (tuple(map(sys.intern, group)) for group in names)
    build: Any = types.CodeType  # its parameters differ between Python versions
    code_object: types.CodeType = build(
        *numbers,
        code,
        tuple(map(_get_constant, constants)),
        co_names,
        varnames,
        _get_file(*file),
        name,
        qualname,
        line,
        lines,
        exceptions,
        freevars,
        cellvars,
    )
    return code_object


class CodeCodec(Codec[types.CodeType]):
    """The codec of code objects of this Python minor version.

    The file is named by its module, if imported, else by its last component, so that the encoding does not
    depend on where the program is installed; decoding inserts the module's own file.

    Args:
        files: Source file to module name; None uses `sys.modules`.
    """

    kind = Kind.CODE

    def __init__(self, files: Mapping[str, str] | None = None) -> None:
        self._files = files

    def encode(self, value: types.CodeType, sink: Sink) -> bytes:
        """Return the fields of a code object; EncodeError names a constant without an encoding."""
        if not isinstance(value, types.CodeType):
            raise EncodeError(type(value).__name__, reason="not a code object")
        files = module_files() if self._files is None else self._files
        try:
            fields = _put_code(value, files)
        except EncodeError as error:
            raise EncodeError(error.type_name, f"a constant of {value.co_qualname}", error.reason) from None
        except RecursionError:
            raise LimitExceeded("nesting of constants", _LIMITS.depth + 1, _LIMITS.depth) from None
        return pack([sys.implementation.cache_tag, importlib.util.MAGIC_NUMBER, fields], maps=False)

    def decode(self, data: bytes | memoryview, source: Source, version: int) -> types.CodeType:
        """Rebuild a code object.

        Raises:
            UnknownVersion: Another Python made it.
            CodecError: As for every codec; ForbiddenGlobal if a constant's class is not imported.
        """
        self.check_version(version)
        try:
            tag, magic, fields = unpack(data, _LIMITS)
            if (tag, magic) != (sys.implementation.cache_tag, importlib.util.MAGIC_NUMBER):
                raise UnknownVersion(self.kind, int.from_bytes(magic[:2], "little"))
            return _get_code(fields)
        except CodecError:
            raise
        except Exception as error:  # CodeType and torch.device raise many types
            raise DecodeError(f"not a code object: {type(error).__name__}: {error}") from None


def code_digest(code: types.CodeType) -> bytes:
    """Digest everything that determines the behaviour of a code object: 32 bytes of BLAKE3.

    That is bytecode, constants, names, flags, argument counts and the exception table, recursively; not the
    file, line numbers, line table or qualified names. Moving a function inside its file, or its file on disk,
    does not change the digest.

    Raises:
        EncodeError: A constant has no encoding.
    """
    packed = pack(_behaviour(code), maps=False)
    hasher = hasher_for("firebrick 1 code digest")
    hasher.update(packed)
    return hasher.digest()


def _behaviour(code: types.CodeType) -> list[Any]:
    constants = [_put_constant(constant, _behaviour) for constant in code.co_consts]
    fields = [getattr(code, name) for name in _BEHAVIOUR]
    return [[list(f) if isinstance(f, tuple) else f for f in fields], constants]


def rename(
    code: types.CodeType, names: Mapping[str, str], exchange: Callable[[Any], Any] | None = None
) -> types.CodeType:
    """Replace names and string constants that equal a key of `names`, in nested code too.

    Args:
        code: the code object.
        names: old -> new.
        exchange: returns the replacement of any other constant, usually itself.

    Returns:
        A copy, or the same object if nothing is replaced.
    """

    def constant(value: Any) -> Any:
        if type(value) is str:
            return names.get(value, value)
        if type(value) in (tuple, frozenset):
            items = [constant(item) for item in value]
            return value if _same(items, value) else type(value)(items)
        if isinstance(value, types.CodeType):
            return rename(value, names, exchange)
        return value if exchange is None else exchange(value)

    co_names = tuple(names.get(name, name) for name in code.co_names)
    constants = tuple(map(constant, code.co_consts))
    if co_names == code.co_names and _same(constants, code.co_consts):
        return code
    return code.replace(co_names=co_names, co_consts=constants)


def _same(first: Iterable[Any], second: Iterable[Any]) -> bool:
    return all(a is b for a, b in zip(first, second, strict=True))
