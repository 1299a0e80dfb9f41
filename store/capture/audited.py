"""Write Dynamo's result for a frame in canonical form, for audits.

The form is independent of addresses, object ids, counters in generated names, paths and line numbers, set
order and the hash seed: two processes that trace an unchanged program write equal texts. docs/audit.md lists
the omissions.
"""

from __future__ import annotations

import dis
import enum
import hashlib
import re
from collections.abc import Callable, Iterable, Mapping
from types import (
    BuiltinFunctionType,
    CodeType,
    FunctionType,
    MethodDescriptorType,
    MethodType,
    ModuleType,
    WrapperDescriptorType,
)
from typing import Any, Final

import torch

from firebrick import torch_api
from firebrick.validity.audit import Texts

_UUID = r"_[0-9a-f]{8}_[0-9a-f]{4}_[0-9a-f]{4}_[0-9a-f]{4}_[0-9a-f]{12}"
_GENERATED: Final = re.compile(
    rf"(__compiled_fn|__resume_at_\d+|___context_manager_\d+|__comprehension_\w+?_at|__builtins_dict__"
    rf"|\b_{{0,3}}[A-Za-z_][A-Za-z_0-9]*?(?=_\d+_c\d))((?:_c?\d+)+(?:{_UUID})?)\b"
)
_FIREBRICK: Final = re.compile(r"(__compiled_fn|__resume_at)_([0-9a-f]{32})\b")
_ADDRESS: Final = re.compile(r"\b0x[0-9a-f]+")
_PATH: Final = re.compile(r"(['\"])(?:/|[A-Za-z]:\\)[^'\"]*\1")
_VERSION: Final = re.compile(r"(?<=SUPPORTED_NODES\)) == \d+")  # of torch's table of pytree nodes
_RESUMED: Final = "torch_dynamo_resume_in_"
_RESUMED_AT: Final = re.compile(r"(torch_dynamo_resume_in_.*?_at)_\d+")
_HASHED: Final = 1 << 20  # bytes; larger constant tensors are not digested
_OF_DYNAMO: Final = "G['__import_torch_dot__dynamo"
SKIPPED: Final = "torch runs the frame as it is"


class Names:
    """Renumbers generated names in order of appearance. For one frame."""

    def __init__(self) -> None:
        self._known: dict[str, str] = {}
        self._counts: dict[str, int] = {}

    def __call__(self, text: str) -> str:
        """Return a text with its generated names in canonical form."""
        if "_" not in text:
            return text
        text = _RESUMED_AT.sub(r"\1", text)
        return _GENERATED.sub(self._number, _FIREBRICK.sub(self._number, text))

    def _number(self, found: re.Match[str]) -> str:
        whole, stem = found[0], found[1]
        stem = "__resume_at" if stem.startswith("__resume_at") else stem
        if whole not in self._known:
            self._counts[stem] = number = self._counts.get(stem, -1) + 1
            self._known[whole] = f"{stem}#{number}"
        return self._known[whole]


class Audited:
    """A collector for one compilation of a frame. Used under torch's compile lock.

    Args:
        sizes: in an audit, Dynamo's knowledge of input sizes when the frame was recorded.
    """

    def __init__(self, sizes: Mapping[str, Any] | None = None) -> None:
        self._stored = sizes
        self._owner: object = None
        self._names = Names()
        self._graphs: list[str] = []
        self._guards: tuple[str, ...] = ()
        self._sizes: dict[str, Any] = {}
        self._fault: Exception | None = None

    def graph(self, owner: object, module: Any) -> None:
        """Add a graph; of several attempts at a frame the last one counts. Never raises."""
        if owner is not self._owner:
            self._owner, self._graphs, self._names = owner, [], Names()
        try:
            self._graphs.append("\n".join(graph_lines(module, self._names)))
        except Exception as error:  # `texts` says so; the compilation goes on
            self._fault = self._fault or error

    def sized(self, name: str, entry: list[Any]) -> None:
        """Add Dynamo's knowledge of an input's sizes."""
        self._sizes[name] = entry

    def known(self, name: str) -> list[Any] | None:
        """Return Dynamo's knowledge of an input when the frame was recorded; ``None`` outside an audit."""
        found: list[Any] | None = None if self._stored is None else self._stored.get(name, _UNSET)
        return found

    def guards(self, guards: Iterable[Any]) -> None:
        """Add the guards, once they are built. Never raises."""
        try:
            self._guards = guard_lines(guards, self._names)
        except Exception as error:
            self._fault = self._fault or error

    def texts(self, code: CodeType | None, resumes: Mapping[str, CodeType], of: CodeType) -> Texts:
        """Return the canonical form.

        Args:
            code: the bytecode; ``None`` if torch runs the frame uncompiled.
            resumes: names in it -> code of its resume functions.
            of: the frame's code object. The resume functions of a resume function depend on more than its
                code and are left out.

        Raises:
            Exception: whatever prevented part of it from being written.
        """
        if self._fault is not None:
            raise self._fault
        self._owner = None  # it holds the frame's tensors
        if code is None:
            return Texts((), (), SKIPPED, {})
        lines = code_lines(code, self._names)
        if not of.co_name.startswith(_RESUMED):
            for name in code.co_names:
                if (resumed := resumes.get(name)) is not None:
                    lines += ["", f"{self._names(name)}:", *code_lines(resumed, self._names)]
        return Texts(tuple(self._graphs), self._guards, "\n".join(lines), dict(sorted(self._sizes.items())))


_UNSET: Final = ["unset", "unset", "unset", None, None]


# Graphs.


def graph_lines(module: Any, names: Callable[[str], str], indent: str = "") -> list[str]:
    """Return a graph module and its submodules as lines."""
    lines = []
    for node in module.graph.nodes:
        arguments = [_value(a, names) for a in node.args]
        arguments += [f"{key}={_value(a, names)}" for key, a in node.kwargs.items()]
        made = _fake(node.meta.get("example_value"), names)
        target = _target(node, names)
        line = f"{indent}{names(node.name)} = {node.op} {target}({', '.join(arguments)})"
        lines.append(f"{line} -> {made}" if made else line)
        if node.op in ("get_attr", "call_module"):
            lines += _attribute(module, node.target, names, f"{indent}    ")
    return lines


def _attribute(module: Any, path: str, names: Callable[[str], str], indent: str) -> list[str]:
    found = module
    for name in path.split("."):
        found = getattr(found, name)
    if isinstance(found, torch.fx.GraphModule):
        return graph_lines(found, names, indent)
    if isinstance(found, torch.Tensor):
        return [f"{indent}{_fake(found, names)} {_digest(found)}".rstrip()]
    return [f"{indent}{_path(type(found))}"]


def _digest(tensor: torch.Tensor) -> str:
    """Return a digest of a constant's bytes; empty for parameters, devices and large tensors."""
    if (
        isinstance(tensor, torch.nn.Parameter)
        or tensor.device.type != "cpu"
        or type(tensor) is not torch.Tensor
    ):
        return ""
    if tensor.layout is not torch.strided or tensor.numel() * tensor.element_size() > _HASHED:
        return ""
    with torch.no_grad():
        data = tensor.detach().contiguous().reshape(-1).view(torch.uint8)
        return hashlib.sha256(bytes(data.tolist())).hexdigest()[:32]


def _target(node: Any, names: Callable[[str], str]) -> str:
    if node.op == "placeholder" and (held := node.meta.get("grapharg")) is not None:
        source = held.source
        return names(str(source.name)) if source is not None else str(node.target)
    return names(node.target) if isinstance(node.target, str) else _path(node.target)


def _fake(value: Any, names: Callable[[str], str]) -> str:
    """Describe a node's value; a tensor by its type and shape."""
    if isinstance(value, torch.Tensor):
        form = f"{value.dtype}[{', '.join(map(str, value.shape))}]".removeprefix("torch.")
        if value.layout is torch.strided:
            form += f" strides ({', '.join(map(str, value.stride()))})"
        else:
            form += f" {value.layout}"
        return f"{form} {value.device}{' grad' if value.requires_grad else ''}"
    if isinstance(value, tuple | list):
        return f"({', '.join(_fake(item, names) for item in value)})"
    if isinstance(value, torch.SymInt | torch.SymFloat | torch.SymBool):
        return str(value)
    return "" if value is None else _value(value, names)


def _value(value: Any, names: Callable[[str], str]) -> str:
    """Describe an argument or constant without its address."""
    kind = type(value)
    if value is None or kind in (bool, int, float, complex, bytes):
        return repr(value)
    if kind is str:
        return names(repr(value))
    if isinstance(value, torch.fx.Node):
        return f"%{names(value.name)}"
    if isinstance(value, tuple):
        inner = ", ".join(_value(item, names) for item in value)
        return f"{'' if kind is tuple else _path(kind)}({inner}{',' if len(value) == 1 else ''})"
    if isinstance(value, list):
        return f"[{', '.join(_value(item, names) for item in value)}]"
    if isinstance(value, dict):
        inner = ", ".join(f"{_value(k, names)}: {_value(v, names)}" for k, v in value.items())
        return f"{{{inner}}}"
    if kind in (set, frozenset):
        return f"{kind.__name__}({', '.join(sorted(_value(item, names) for item in value))})"
    if kind is slice:
        return f"slice({', '.join(_value(p, names) for p in (value.start, value.stop, value.step))})"
    if isinstance(value, enum.Enum):
        return f"{_path(kind)}.{value.name}"
    if isinstance(value, CodeType):
        return f"code {names(value.co_qualname)}"
    if isinstance(value, torch.Tensor):
        return _fake(value, names)
    if isinstance(
        value, torch.SymInt | torch.SymFloat | torch.SymBool | torch.dtype | torch.device | torch.layout
    ):
        return str(value)
    if isinstance(value, torch.memory_format):
        return str(value)
    return _path(value)


def _path(value: Any) -> str:
    """Return the qualified name of a function, class or operator."""
    if isinstance(value, type | FunctionType | BuiltinFunctionType):
        return f"{value.__module__}.{value.__qualname__}"
    if type(value).__module__ == "torch._ops":  # operators name themselves
        return str(value)
    if isinstance(value, MethodDescriptorType | WrapperDescriptorType):
        return f"{value.__objclass__.__module__}.{value.__qualname__}"
    if isinstance(value, ModuleType):
        return f"module {value.__name__}"
    if isinstance(value, MethodType):
        return f"{_path(value.__func__)} of {_path(type(value.__self__))}"
    return f"{_path(type(value))} object"


# Guards.


def guard_lines(guards: Iterable[Any], names: Callable[[str], str]) -> tuple[str, ...]:
    """Return the texts of guards as lines, sorted.

    Guards on Dynamo's own modules are left out: Dynamo is part of the platform, and whether they exist
    depends on whether torch or Firebrick wrapped an inner compiled function.
    """
    api = torch_api.load()
    lines = set()
    for guard in guards:
        if guard.name.startswith(_OF_DYNAMO):
            continue
        texts = sorted({api.without_addresses(text) for text in guard.code_list or ()})
        known = api.guarded_object(guard)
        if isinstance(known, type | FunctionType | BuiltinFunctionType):
            texts.append(f"is {known.__module__}.{known.__qualname__}")
        lines.add(_plain(f"{guard.name} {guard.create_fn_name()}: {'; '.join(texts)}", names))
    return tuple(sorted(lines))


def _plain(text: str, names: Callable[[str], str]) -> str:
    return names(_VERSION.sub("", _PATH.sub("'…'", _ADDRESS.sub("0x", text))))


# Bytecode.


def code_lines(code: CodeType, names: Callable[[str], str], indent: str = "") -> list[str]:
    """Return a code object, and those nested in it, as lines: instructions and their operands."""
    arguments = f"{code.co_argcount}, {code.co_posonlyargcount}, {code.co_kwonlyargcount}"
    lines = [f"{indent}arguments {arguments}; flags {code.co_flags:#x}"]
    for what, found in (
        ("variables", code.co_varnames), ("free", code.co_freevars), ("cells", code.co_cellvars),
    ):  # fmt: skip
        if found:
            lines.append(f"{indent}{what} {' '.join(map(names, found))}")
    inner: list[CodeType] = []
    for instruction in dis.get_instructions(code):
        lines.append(
            f"{indent}{instruction.offset:4} {instruction.opname} {_operand(instruction, names)}".rstrip()
        )
        if isinstance(instruction.argval, CodeType):
            inner.append(instruction.argval)
    if code.co_exceptiontable:
        lines.append(f"{indent}exceptions {code.co_exceptiontable.hex()}")
    for nested in inner:
        lines += [f"{indent}code {names(nested.co_qualname)}:", *code_lines(nested, names, f"{indent}    ")]
    return lines


def _operand(instruction: dis.Instruction, names: Callable[[str], str]) -> str:
    if instruction.arg is None:
        return ""
    if instruction.opcode in dis.hasconst:
        return _value(instruction.argval, names)
    return names(instruction.argrepr or str(instruction.arg))
