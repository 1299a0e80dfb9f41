"""Rewrite the source of Inductor's wrappers to the closed vocabulary of the runtime.

It keeps the functions that run at each call and the names they use. Imports of the compiler, kernel sources,
benchmarks and the ``Runner`` class go; anything else makes a graph not lean.

Source followed: ``torch/_inductor/codegen/wrapper.py``.
"""

from __future__ import annotations

import ast
import builtins
import dataclasses
from collections.abc import Callable, Collection, Iterator
from types import CodeType
from typing import Final

from firebrick.capture.wrapper_devices import take_device
from firebrick.capture.wrapper_vocabulary import (
    BUILTINS,
    METHODS,
    ORIGINS,
    SYNTAX,
    UNUSED,
    check_path,
    path_of,
)
from firebrick.errors import NotLean
from firebrick.runtime.names import NAMES

FILE_NAME: Final = "<firebrick>/wrapper.py"  # of code objects restored from a store


@dataclasses.dataclass(frozen=True)
class Wrapper:
    """A rewritten wrapper.

    Args:
        code: code of a module that defines ``call`` in terms of the runtime's names, kernels and constants.
        kernels: name -> digest of the request of its library.
        launches: name of a Triton kernel -> number of arguments at each of its launches.
        partitions: number of functions in the list ``partitions``; each can be a CUDA graph.
        device: GPU index that the code reads from `firebrick.runtime.names.DEVICE`.
    """

    code: CodeType
    kernels: dict[str, str]
    launches: dict[str, list[int]] = dataclasses.field(default_factory=dict)
    partitions: int = 0
    device: int | None = None


def rewrite(
    source: str, constants: Collection[str], pybinding_digest: Callable[[list[str], str], str]
) -> Wrapper:
    """Rewrite a wrapper.

    Args:
        source: the module Inductor wrote.
        constants: names of tensors that torch adds to the module.
        pybinding_digest: returns the digest of the request of ``cpp_pybinding(argument types, source)``.

    Raises:
        NotLean: naming what is outside the vocabulary.
    """
    try:
        tree = ast.parse(source)
    except SyntaxError as error:
        raise NotLean(f"the wrapper is no Python: {error}") from None
    reader = _Reader(frozenset(constants), pybinding_digest)
    for statement in tree.body:
        reader.read(statement)
    return reader.wrapper()


def plain_wrapper(inputs: list[str], outputs: list[object]) -> Wrapper:
    """Write the wrapper of a graph without calls.

    Args:
        inputs: names of its inputs.
        outputs: names of inputs, or constants (None, bool, int, float).
    """
    values = [str(value) if isinstance(value, str) else repr(value) for value in outputs]
    lines = ["def call(args):", f"    {''.join(f'{name}, ' for name in inputs) or '()'}= args"]
    if not inputs:
        lines[-1] = "    () = args"
    lines += ["    args.clear()", f"    return ({''.join(f'{value}, ' for value in values)})"]
    return Wrapper(compile("\n".join(lines), FILE_NAME, "exec"), {})


class _Reader:
    """A sorter of a module's statements."""

    def __init__(self, constants: frozenset[str], digest: Callable[[list[str], str], str]) -> None:
        self._constants = constants
        self._digest = digest
        self._aliases: dict[str, ast.Assign] = {}
        self._functions: list[ast.FunctionDef] = []
        self._kernels: dict[str, str] = {}
        self._launches: dict[str, list[int]] = {}
        self._partitions: ast.Assign | None = None

    def read(self, statement: ast.stmt) -> None:
        """Accept one statement of the module, or refuse it."""
        match statement:
            case ast.Import() | ast.ImportFrom():
                _check_import(statement)
            case ast.FunctionDef(name=name):
                if name not in UNUSED:
                    self._functions.append(statement)
            case ast.ClassDef(name="Runner"):
                self._runner(statement)
            case ast.If(test=ast.Compare(left=ast.Name(id="__name__"))):
                pass
            case ast.Assign(targets=[ast.Name(id=name)], value=value):
                self._assigned(name, value, statement)
            case ast.Expr(value=ast.Constant()):
                pass
            case ast.Expr(
                value=ast.Call(func=ast.Attribute(value=ast.Name(id="async_compile"), attr="wait"))
            ):
                pass
            case ast.Delete(targets=[ast.Name(id="async_compile")]):
                pass
            case _:
                raise NotLean(f"statement of the wrapper: {ast.unparse(statement):.80}")

    def _assigned(self, name: str, value: ast.expr, statement: ast.Assign) -> None:
        match value:
            case ast.Call(func=ast.Name(id="AsyncCompile")):
                pass
            case ast.Call(func=ast.Attribute(value=ast.Name(id="async_compile"), attr=method)):
                if method == "triton":
                    self._launches[name] = []
                else:
                    self._kernels[name] = self._kernel(method, value)
            case ast.Call(
                func=ast.Name(id="Runner"),
                keywords=[ast.keyword(arg="partitions", value=ast.List() as partitions)],
            ):
                target = ast.Name("partitions", ast.Store())
                self._partitions = ast.copy_location(ast.Assign([target], partitions), statement)
            case ast.Attribute(value=ast.Name(id="runner"), attr="call" | "recursively_apply_fns"):
                pass
            case ast.Constant(value=None) if name in self._constants:
                pass
            case ast.Attribute():
                self._aliases[name] = statement
            case _:
                raise NotLean(f"global of the wrapper: {ast.unparse(statement):.80}")

    def _kernel(self, method: str, call: ast.Call) -> str:
        match method, call.args, call.keywords:
            case "cpp_pybinding", [ast.List(elts=types), ast.Constant(value=str(source))], []:
                names = [item.value for item in types if isinstance(item, ast.Constant)]
                if len(names) == len(types):
                    return self._digest([str(name) for name in names], source)
        raise NotLean(f"kernel made by async_compile.{method}")

    def _runner(self, runner: ast.ClassDef) -> None:
        """Take ``call`` out of the class, with ``self.partitions`` as a global."""
        for method in runner.body:
            if not isinstance(method, ast.FunctionDef):
                raise NotLean(f"Runner of the wrapper: {ast.unparse(method):.80}")
            if method.name == "call":
                method.args.args = method.args.args[1:]
                self._functions.append(_WithoutSelf().visit(method))

    def wrapper(self) -> Wrapper:
        """Return the wrapper read, with the globals it uses."""
        if not any(function.name == "call" for function in self._functions):
            raise NotLean("the wrapper has no call")
        device = take_device(self._functions)
        defined = {function.name for function in self._functions}
        known = defined | NAMES | self._aliases.keys() | self._kernels.keys() | self._constants
        known |= self._launches.keys()
        used: set[str] = set()
        operators: set[str] = set()
        body: list[ast.stmt] = list(self._functions)
        partitions = 0 if self._partitions is None else len(self._partitions.value.elts)  # type: ignore[attr-defined]
        if self._partitions is not None and partitions:
            body.append(self._partitions)
            known |= {"partitions"}
        for function in self._functions:
            checker = _SourceChecker(function, frozenset(known), self._aliases, self._launches)
            used |= checker.globals()
            operators |= checker.operators
        aliases: list[ast.stmt] = []
        for name, statement in self._aliases.items():
            if name in used:
                check_path(path_of(statement.value), self._aliases)
                aliases.append(statement)
        # looked up when the graph is loaded: where the program has not registered one, the full lane serves
        module = ast.Module([*ast.parse("\n".join(sorted(operators))).body, *aliases, *body], [])
        # unparse, so that line numbers do not depend on what was left out
        text = ast.unparse(ast.fix_missing_locations(module))
        kernels = {name: digest for name, digest in self._kernels.items() if name in used}
        launches = {name: counts for name, counts in self._launches.items() if name in used}
        return Wrapper(compile(text, FILE_NAME, "exec"), kernels, launches, partitions, device)


def _check_import(statement: ast.Import | ast.ImportFrom) -> None:
    """Check that a name the runtime has means the same here; other names are refused on use."""
    place = f"{statement.module}." if isinstance(statement, ast.ImportFrom) else ""
    for item in statement.names:
        bound = item.asname or item.name
        if bound in NAMES and ORIGINS.get(bound) != place + item.name:
            raise NotLean(f"the wrapper imports {place}{item.name} as {bound}")


class _WithoutSelf(ast.NodeTransformer):
    """A transformer of ``self.partitions`` into a global."""

    def visit_Attribute(self, node: ast.Attribute) -> ast.expr:
        if isinstance(node.value, ast.Name) and node.value.id == "self":
            if node.attr != "partitions":
                raise NotLean(f"attribute {node.attr} of the wrapper's Runner")
            return ast.Name(node.attr, node.ctx)
        self.generic_visit(node)
        return node


class _SourceChecker:
    """A checker of one function's names, attributes and syntax; it notes launches and operators.

    Attributes:
        operators: paths of the operators that the program registers.
    """

    def __init__(
        self,
        function: ast.FunctionDef,
        known: frozenset[str],
        aliases: dict[str, ast.Assign],
        launches: dict[str, list[int]],
    ) -> None:
        self._function = function
        self._known = known
        self._aliases = aliases
        self._launches = launches
        self.operators: set[str] = set()
        self._locals = {argument.arg for argument in function.args.args} | {
            node.id
            for node in ast.walk(function)
            if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load)
        }

    def globals(self) -> set[str]:
        """Return the globals the function uses.

        Raises:
            NotLean: something is outside the vocabulary.
        """
        function = self._function
        if function.decorator_list or function.args.vararg or function.args.kwarg or function.args.defaults:
            raise NotLean(f"signature of {function.name}")
        used: set[str] = set()
        for node in self._nodes(function):
            if not isinstance(node, SYNTAX) or (isinstance(node, ast.FunctionDef) and node is not function):
                raise NotLean(f"{type(node).__name__} in the wrapper")
            if isinstance(node, ast.Name) and node.id not in self._locals:
                if node.id in self._known:
                    used.add(node.id)
                elif node.id not in BUILTINS or not hasattr(builtins, node.id):
                    raise NotLean(f"the wrapper uses {node.id}")
        return used

    def _nodes(self, root: ast.AST) -> Iterator[ast.AST]:
        """Yield all nodes; for a dotted path that starts at a global, only its root."""
        todo = [root]
        while todo:
            node = todo.pop()
            if isinstance(node, ast.Call) and self._is_launch(node):
                yield node.func.value  # type: ignore[attr-defined]
                todo += [*node.args, node.keywords[0].value]
                continue
            if isinstance(node, ast.Name) and node.id in self._launches:
                raise NotLean(f"{node.id} in the wrapper, but for its launches")
            if isinstance(node, ast.Attribute):
                path = path_of(node)
                if path and path[0] not in self._locals:
                    self.operators |= {check_path(path, self._aliases)} - {""}
                    while isinstance(node, ast.Attribute):
                        node = node.value
                elif node.attr not in METHODS:
                    raise NotLean(f"the wrapper uses .{node.attr}")
            yield node
            todo.extend(ast.iter_child_nodes(node))

    def _is_launch(self, call: ast.Call) -> bool:
        """Tell whether a call is ``kernel.run(…, stream=…)`` of a Triton kernel, and record it."""
        match call:
            case ast.Call(
                func=ast.Attribute(value=ast.Name(id=name), attr="run"),
                args=arguments,
                keywords=[ast.keyword(arg="stream")],
            ) if name in self._launches and name not in self._locals:
                if not any(isinstance(argument, ast.Starred) for argument in arguments):
                    self._launches[name].append(len(arguments))
                    return True
        return False
