"""Encode Dynamo entries: `torch._dynamo.package._DynamoCacheEntry`, Dynamo's output for one function.

The body is an object graph. Code objects and guard states are children. The source of modules inlined from is
replaced by its BLAKE3 digest, and decoding reads the source from the module again if it is still the same.

Dynamo's generated names contain uuids and counters. The caller passes a mapping to canonical names, and its
inverse at decoding; see `generated_names`.
"""

from __future__ import annotations

import copy
import copyreg
import dataclasses
import functools
import inspect
import re
import sys
from collections.abc import Mapping
from typing import Any, Final

from firebrick.base.digest import digest
from firebrick.codecs._graph_format import VERSION, Policy
from firebrick.codecs.abc import Codec, Sink, Source
from firebrick.codecs.code import CodeCodec, rename
from firebrick.codecs.graph import Leaf, decode_graph, encode_graph
from firebrick.codecs.guards import GuardsCodec, replace
from firebrick.errors import DecodeError, EncodeError
from firebrick.storage.format import Kind

_PACKAGE: Final = "torch._dynamo.package"
_HERE: Final = "firebrick.codecs.dynamo"
_LOST_TEXT: Final = "_firebrick_digest"
NO_NAMES: Final[Mapping[str, str]] = {}
_BUILTINS = re.compile(r"__builtins_dict___\d+")  # renumbered for every graph


def _reduce_code(code: Any) -> Any:
    return serialized_code, (Leaf(CodeCodec(), type(code).to_code_object(code)),)


def serialized_code(code: Any) -> Any:
    """Make torch's SerializedCode of a code object."""
    return sys.modules[_PACKAGE].SerializedCode.from_code_object(code)


def _reduce_guarded(entry: Any) -> Any:
    state = {**vars(entry), "guards_state": Leaf(GuardsCodec(), entry.guards_state)}
    return copyreg.__newobj__, (type(entry),), state  # type: ignore[attr-defined]


def _reduce_source(source: Any) -> Any:
    values = {field.name: getattr(source, field.name) for field in dataclasses.fields(source)}
    content = values.pop("content")
    digest = getattr(source, _LOST_TEXT, b"") or _digest(content)
    return inlined_source, (digest, tuple(values), *values.values())


def inlined_source(digest: Any, names: Any, *values: Any) -> Any:
    """Make torch's InlinedSource with the text of the imported module, or "" if that changed."""
    fields = dict(zip(names, values, strict=True))
    content = _module_source(fields["module"]) if fields["module"] in sys.modules else ""
    source = sys.modules[_PACKAGE].InlinedSource(**fields, content=content)
    if _digest(content) != digest:
        source = dataclasses.replace(source, content="")
        object.__setattr__(source, _LOST_TEXT, digest)  # so that it is stored unchanged
    return source


@functools.lru_cache(16)  # all functions of a module share its text
def _digest(text: str) -> bytes:
    return digest(text.encode("utf-8", "surrogatepass"))


@functools.lru_cache(1024)
def _module_source(name: str) -> str:
    try:
        return inspect.getsource(sys.modules[name])
    except (OSError, TypeError, SyntaxError):
        return ""


POLICY: Final = Policy(
    callables=frozenset({f"{_HERE}:serialized_code", f"{_HERE}:inlined_source"}),
    instances=(_PACKAGE, "torch.torch_version:TorchVersion"),
    names=(),
    replace={
        f"{_PACKAGE}:SerializedCode": _reduce_code,
        f"{_PACKAGE}:_GuardedCodeCacheEntry": _reduce_guarded,
        f"{_PACKAGE}:InlinedSource": _reduce_source,
    },
)


def generated_names(entry: Any) -> list[str]:
    """Return the names Dynamo generated for an entry, each once, in order of appearance.

    These are the ids of its backends (`__compiled_fn_…`), the names of its resume functions
    (`__resume_at_…`), and the globals that hold the dict of builtins (`__builtins_dict___…`).
    """
    names: dict[str, None] = {}
    for code in entry.codes:
        if code.install_to_global:
            names.update(dict.fromkeys(code.function_names))
        names.update(dict.fromkeys(code.backend_ids))
        for guarded in code.guarded_codes:
            inside = (*guarded.dynamo_code.co_names, guarded.guards_state.decode("latin-1"))
            names.update(dict.fromkeys(name for text in inside for name in _BUILTINS.findall(text)))
    return list(names)


def _renamed_code(code: Any, names: Mapping[str, str]) -> Any:
    plain = type(code).to_code_object(code)
    changed = rename(plain, names)
    return code if changed is plain else type(code).from_code_object(changed)


def renamed(entry: Any, names: Mapping[str, str]) -> Any:
    """Return a copy of an entry with generated names replaced; names that the mapping lacks stay.

    They are replaced in the lists of ids and functions, in code objects and in guard states. The copy shares
    all unchanged parts.
    """
    entry = copy.copy(entry)
    entry.codes = [copy.copy(code) for code in entry.codes]
    for code in entry.codes:
        code.backend_ids = [names.get(name, name) for name in code.backend_ids]
        code.function_names = [names.get(name, name) for name in code.function_names]
        code.python_code = _renamed_code(code.python_code, names)
        code.guarded_codes = [copy.copy(guarded) for guarded in code.guarded_codes]
        for guarded in code.guarded_codes:
            guarded.dynamo_code = _renamed_code(guarded.dynamo_code, names)
            guarded.guards_state = replace(guarded.guards_state, names)
    return entry


class DynamoCodec(Codec[Any]):
    """The codec of Dynamo entries."""

    kind = Kind.DYNAMO
    version = VERSION

    def encode(self, value: Any, sink: Sink, rename: Mapping[str, str] = NO_NAMES) -> bytes:
        """Return the object graph of an entry.

        Args:
            value: A `_DynamoCacheEntry`.
            sink: Accepts code objects and guard states.
            rename: Generated name to canonical name.
        """
        if f"{type(value).__module__}:{type(value).__qualname__}" != f"{_PACKAGE}:_DynamoCacheEntry":
            raise EncodeError(type(value).__name__, reason="not a Dynamo entry")
        return encode_graph(renamed(value, rename) if rename else value, POLICY, sink)[0]

    def decode(
        self,
        data: bytes | memoryview,
        source: Source,
        version: int,
        rename: Mapping[str, str] = NO_NAMES,
    ) -> Any:
        """Rebuild an entry; `rename` maps canonical names to those of this process.

        torch._dynamo must be imported already.
        """
        self.check_version(version)
        entry = decode_graph(data, POLICY, source)
        if type(entry).__qualname__ != "_DynamoCacheEntry":
            raise DecodeError(f"a {type(entry).__name__} is not a Dynamo entry")
        if not rename:
            return entry
        try:
            return renamed(entry, rename)
        except Exception as error:  # fields of unexpected types
            raise DecodeError(f"not a Dynamo entry: {type(error).__name__}: {error}") from None
