"""What the explanation of a miss must name: the thing that a case edits, read off its program."""

import ast
import re

from firebrick.reports.events import Change

_EVERYWHERE = {"call", "arguments", "x", "self", "torch", "nn", "F", "functools", "types", "ones"}
# What a state goes by that a call of the program sets.
_ALSO = {
    "PYTHONHASHSEED": "hash seed",
    "ATEN_CPU_CAPABILITY": "capability",
    "set_grad_enabled": "grad mode",
    "inference_mode": "grad mode",
    "is_inference": "dispatch keys",
    "use_deterministic_algorithms": "deterministic",
    "set_float32_matmul_precision": "matrix products",
    "set_default_device": "DeviceContext",
    "dynamic": "assume_static_by_default",
    "eval": "training",
    "exec": "changed",
    "symbolic_trace": "GraphModule",
    "nodes": "GraphModule",
    "remove": "_forward_hooks",
    "FB_K": "K|k",
}
_REGISTERS = re.compile(r"register_(module_)?(full_)?(\w+_hook)")


def words(case):
    """Return the words of which an explanation must have one.

    They are the names, attributes and texts of the statements that read `V` or what was bound by such a one, with the
    functions and classes that these lie in, and the variables that the case sets. A case may say them itself.
    """
    if case.says:
        return set(case.says.split("|"))
    trees = [ast.parse(text) for text in (*case.files.values(), case.source)]
    read, found = {"V"}, {word for word in ("grad_fn", "is_leaf") if word in case.name}
    for _ in range(2):  # what is edited, and what is made of it
        for tree in trees:
            for statement, around in _reading(tree, read):
                found |= _words(statement) | around
                read |= {
                    n.id
                    for n in ast.walk(statement)
                    if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)
                }
    found |= {name for side in case.env for name in side}
    found |= {
        text
        for name, texts in _ALSO.items()
        for text in texts.split("|")
        if name in found or name in case.name
    }
    hooks = [_REGISTERS.fullmatch(name) for name in found]
    found |= {f"{'_global' if hook[1] else ''}_{hook[3]}s" for hook in hooks if hook}
    return found - _EVERYWHERE - {"f"} or {"f"}


def _reading(tree, names, around=frozenset()):
    """Yield the smallest statements that read one of some names, with the definitions around each."""
    for node in ast.iter_child_nodes(tree):
        inside = around
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            inside = around | {node.name}
        if isinstance(node, ast.stmt):
            own = [
                n
                for child in ast.iter_child_nodes(node)
                if not isinstance(child, ast.stmt)
                for n in ast.walk(child)
            ]
            if any(isinstance(n, ast.Name) and n.id in names for n in own):
                yield node, inside
        yield from _reading(node, names, inside)


def _words(statement):
    found = set()
    for node in ast.walk(statement):
        for field in ("id", "attr", "name", "arg", "asname"):
            if isinstance(text := getattr(node, field, None), str):
                found.update(text.split("."))
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            found.update(re.findall(r"[A-Za-z_]\w+", node.value))
    return found


def named(case, changes):
    """Say whether the first of some changes names what the case edits."""
    said = str(Change(*changes[0])) if changes else ""
    return any(re.search(rf"(?<!\w){re.escape(word)}(?!\w)", said) for word in words(case))


def values(case):
    """Return the two values of which the case binds a name to one, as texts; nothing where it is no such case."""
    for text in (*case.files.values(), case.source):
        for node in ast.walk(ast.parse(text)):
            pair = []
            if isinstance(node, ast.IfExp) and ast.unparse(node.test) == "V == 1":
                pair = [node.body, node.orelse]
            if (
                isinstance(node, ast.Subscript)
                and ast.unparse(node.slice) == "V - 1"
                and isinstance(node.value, ast.List)
            ):
                pair = node.value.elts
            if len(pair) == 2 and all(isinstance(side, ast.Constant) for side in pair):
                return [repr(side.value) for side in pair]
    return []
