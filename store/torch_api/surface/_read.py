"""Read the names in the tables from an installed torch.

Python is read as source, so that no part of the compiler is imported; ``torch._C`` is inspected for C++
names.
"""

from __future__ import annotations

import ast
import functools
import importlib
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

from firebrick.torch_api.surface._table import Group

_GENERATED: Final = re.compile(
    r"^\s*(?:from ([\w.]+) import (.+)|import ([\w.]+)|(\w+) = (torch(?:\.\w+)+))\s*$"
)
_OVERLOAD: Final = re.compile(r"\w+\((.*)\) ->")

Found = dict[str, str]  # name -> fact


class Installed:
    """The names of an installed torch.

    Args:
        folder: directory of the package ``torch``.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._kinds: dict[str, Callable[[str], Found]] = {
            "fields": self._fields,
            "guards": self._guards,
            "sources": self._sources,
            "methods": self._methods,
            "natives": self._natives,
            "wrapper": self._wrapper,
            "ignored": self._ignored,
            "context": self._context,
            "names": self._names,
            "behaviours": self._behaviours,
        }

    def found(self, group: Group) -> Found | None:
        """Return this torch's names of a group, with their facts; None if it lacks the subject."""
        if group.kind == "texts":
            text = self._text(group.subject)
            words = set(re.findall(r"\w+", text or ""))
            return None if text is None else {e.name: "" for e in group.entries if e.name in words}
        try:
            return self._kinds[group.kind](group.subject)
        except LookupError:
            return None

    # Sources.

    def _text(self, module: str) -> str | None:
        path = self._folder.joinpath(*module.split(".")[1:])
        for file in (path.with_suffix(".py"), path / "__init__.py"):
            if file.exists():
                return file.read_text()
        return None

    @functools.cache  # noqa: B019 - bounded by one comparison
    def _module(self, name: str) -> dict[str, ast.stmt]:
        if (text := self._text(name)) is None:
            raise LookupError(name)
        return dict(_defined(ast.parse(text).body))

    def _class(self, subject: str) -> ast.ClassDef:
        module, _, name = subject.partition(":")
        found = self._module(module)[name]
        if not isinstance(found, ast.ClassDef):
            raise LookupError(subject)
        return found

    def _fields(self, subject: str) -> Found:
        body = self._class(subject).body
        return {
            s.target.id: "" for s in body if isinstance(s, ast.AnnAssign) and isinstance(s.target, ast.Name)
        }

    def _guards(self, subject: str) -> Found:
        functions = (s for s in self._class(subject).body if isinstance(s, ast.FunctionDef))
        return {function.name: "" for function in functions if function.name.isupper()}

    def _sources(self, subject: str) -> Found:
        return {name: "" for name, node in self._module(subject).items() if isinstance(node, ast.ClassDef)}

    def _names(self, subject: str) -> Found:
        module, _, owner = subject.partition(":")
        if module.startswith("torch._C"):
            return _members(_native(subject))
        if owner:
            return {name: _fact(node) for name, node in _defined(self._class(subject).body)}
        return {name: _fact(node) for name, node in self._module(module).items()}

    def _wrapper(self, subject: str) -> Found:
        found: Found = {}
        text = self._text(subject)
        if text is None:
            raise LookupError(subject)
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                for line in node.value.splitlines():
                    found.update(_bound(line))
        return found

    def _context(self, subject: str) -> Found:
        if (text := self._text(subject)) is None:
            raise LookupError(subject)
        nodes = (node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Attribute))
        kept = (n for n in nodes if isinstance(n.ctx, ast.Store) and ast.unparse(n.value) == "ctx")
        return {node.attr: "" for node in kept}

    def _ignored(self, subject: str) -> Found:
        from firebrick.validity.configuration import _IGNORED_CONFIG

        part = subject.split(".")[1].removeprefix("_")
        names = _settings(list(self._module(subject).items()), "")
        return {name: "" for name in names if name.startswith(_IGNORED_CONFIG[part])}

    # C++ names.

    def _methods(self, subject: str) -> Found:
        return _members(_native(subject))

    def _natives(self, subject: str) -> Found:
        return _members(_native(subject))

    def _behaviours(self, subject: str) -> Found:
        from firebrick.torch_api.surface import _behaviours

        return {name: f"={probe()}" for name, probe in _behaviours.PROBES.items()}


def _defined(body: list[ast.stmt]) -> Iterator[tuple[str, ast.stmt]]:
    """Yield the names that statements bind, including those under ``if``, ``try`` and ``with``."""
    for node in body:
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                yield name, node
            case ast.Assign(targets=targets):
                yield from ((t.id, node) for t in targets if isinstance(t, ast.Name))
            case ast.AnnAssign(target=ast.Name(id=name)):
                yield name, node
            case ast.Import(names=names) | ast.ImportFrom(names=names):
                yield from ((item.asname or item.name.partition(".")[0], node) for item in names)
            case ast.If() | ast.Try() | ast.With():
                for inner in ("body", "orelse", "handlers", "finalbody"):
                    for part in getattr(node, inner, []):
                        yield from _defined(part.body if isinstance(part, ast.ExceptHandler) else [part])


def _fact(node: ast.stmt) -> str:
    if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        return ""
    arguments = node.args
    names = [argument.arg for argument in (*arguments.posonlyargs, *arguments.args)]
    names += [f"*{arguments.vararg.arg}"] if arguments.vararg else ["*"] if arguments.kwonlyargs else []
    names += [argument.arg for argument in arguments.kwonlyargs]
    names += [f"**{arguments.kwarg.arg}"] if arguments.kwarg else []
    return f"({','.join(name for name in names if name not in ('self', 'cls'))})"


def _bound(line: str) -> Iterator[tuple[str, str]]:
    """Yield the bindings of a line of generated code: a name and its meaning."""
    if (match := _GENERATED.match(line)) is None:
        return
    module, names, imported, name, path = match.groups()
    if module:
        for item in names.strip("()").split(","):
            original, _, alias = item.strip().partition(" as ")
            if original.isidentifier():
                yield alias or original, f"={module}.{original}"
    elif imported:
        yield imported, ""
    else:
        yield name, f"={path}"


def _settings(items: list[tuple[str, ast.stmt]], prefix: str) -> Iterator[str]:
    for name, node in items:
        if isinstance(node, ast.ClassDef):
            yield from _settings(list(_defined(node.body)), f"{prefix}{name}.")
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            yield prefix + name


def _native(subject: str) -> Any:
    import torch  # noqa: F401 - importing it loads its C++ parts

    module, _, name = subject.partition(":")
    found: Any = importlib.import_module(module)
    try:
        return getattr(found, name) if name else found
    except AttributeError:
        raise LookupError(subject) from None


def _members(owner: Any) -> Found:
    return {name: _parameters(value) for name, value in vars(owner).items() if not name.startswith("__")}


def _parameters(value: Any) -> str:
    """Return the parameters of a C++ function, from the first line of its docstring; "" if it has none."""
    doc = getattr(value, "__doc__", None) or ""
    if not callable(value) or isinstance(value, type) or (match := _OVERLOAD.match(doc)) is None:
        return ""
    inside = re.sub(r"\[[^\[\]]*\]", "", re.sub(r"\[[^\[\]]*\]", "", match[1]))
    names = [part.partition(":")[0].strip() for part in inside.split(",")]
    return f"({','.join(name for name in names if name.isidentifier() and name not in ('self', 'arg0'))})"
