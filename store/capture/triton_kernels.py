"""Turn torch's autotuners of Triton kernels into descriptions that launch the kernels without Triton.

Autotuners are read just after a wrapper is loaded: by then torch has compiled all configurations of each
kernel, including those it adds because of register use, and measured none.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from firebrick.codecs import Encoded, encode
from firebrick.codecs.launch import Autotuned, Expression, Launch
from firebrick.codecs.triton import TritonKernel
from firebrick.errors import CodecError, NotLean
from firebrick.storage.format import Kind

Tuners = Callable[[str], Mapping[str, Any]]

_OPERATORS: Final[dict[type, str]] = {
    ast.Add: "add",
    ast.Sub: "subtract",
    ast.Mult: "multiply",
    ast.FloorDiv: "divide",
    ast.Mod: "modulo",
}


def autotuned(
    name: str, tuner: Any, counts: Sequence[int], kernels: Mapping[str, Callable[[], TritonKernel]]
) -> Autotuned:
    """Return a kernel with the configurations torch chooses from at its first launch.

    Args:
        name: the kernel's name in the wrapper.
        tuner: torch's autotuner.
        counts: number of arguments the wrapper passes at each launch.
        kernels: returns binaries by the name of their directory, when Triton's cache lacks them.

    Raises:
        NotLean: naming the kernel and its part outside the closed vocabulary.
    """
    from firebrick.torch_api import autotuners as api

    if not api.is_plain(tuner):
        raise NotLean(f"Triton kernel {name}: autotuner {type(tuner).__name__}")
    kind, device = api.device_of(tuner)
    if kind != "cuda":
        raise NotLean(f"Triton kernel {name}: device {kind}")
    if api.retunes(tuner):
        raise NotLean(f"Triton kernel {name}: combined kernels that are tuned part by part")
    launches = [launch(name, result, device, kernels) for result in api.results_of(tuner)]
    if not launches:
        raise NotLean(f"Triton kernel {name}: not compiled")
    descends = api.descends(tuner)
    if not tuner.kernel_hash and (descends or len(launches) > 1):
        raise NotLean(f"Triton kernel {name}: no name by which its best configuration is kept")
    for count in counts:
        if count != launches[0].arguments:
            raise NotLean(f"Triton kernel {name}: {count} arguments of {launches[0].arguments}")
    return Autotuned(tuner.kernel_hash, device, descends, tuple(launches))


def encoded_winner(tuner: Any, launcher: Any) -> Encoded | None:
    """Return the blobs of the launch of an autotuner's winner; ``None`` if it is not lean.

    Args:
        tuner: torch's autotuner.
        launcher: the launcher of the configuration that coordinate descent found.
    """
    from firebrick.torch_api import autotuners as api

    try:
        result = api.result_of(tuner, launcher)
        made = launch(tuner.inductor_meta.get("kernel_name", ""), result, api.device_of(tuner)[1], {})
    except NotLean:
        return None
    return encode(Kind.LAUNCH, made)


def launch(name: str, result: Any, device: int, kernels: Mapping[str, Callable[[], TritonKernel]]) -> Launch:
    """Return the launch of one compiled configuration.

    Raises:
        NotLean: torch's static launcher does not accept it, or part of it is unknown.
    """
    from firebrick.torch_api import autotuners as api

    try:
        facts = api.facts_of(result)
        if (bundled := kernels.get(facts.path_key)) is not None:
            kernel = bundled()
        else:
            kernel = api.cached_kernel(facts.path_key, device)
        backend, architecture, _ = kernel.target
    except NotLean as error:
        raise NotLean(f"Triton kernel {name}: not for torch's static launcher: {error.reason}") from None
    except (OSError, CodecError) as error:
        raise NotLean(f"Triton kernel {name}: no binary ({error})") from None
    if backend != "cuda" or not isinstance(architecture, int):
        raise NotLean(f"Triton kernel {name}: a binary for {backend} {architecture}")
    if (kernel.symbol, kernel.shared, kernel.num_warps) != (facts.name, facts.shared, facts.warps):
        raise NotLean(f"Triton kernel {name}: a binary that is not the autotuner's")
    if unknown := set(facts.passed) - set(facts.arguments):
        raise NotLean(f"Triton kernel {name}: argument {min(unknown)}")
    temporaries, grid = grid_of(name, facts.arguments, facts.temporaries, facts.grid)
    return Launch(
        facts.name,
        facts.configuration,
        architecture,
        len(facts.arguments),
        tuple(facts.arguments.index(argument) for argument in facts.passed),
        facts.letters,
        facts.scratch,
        temporaries,
        grid,
        facts.warps,
        facts.shared,
        kernel,
    )


def grid_of(
    name: str, arguments: Sequence[str], lines: Sequence[str], texts: tuple[str, str, str]
) -> tuple[tuple[Expression, ...], tuple[Expression, Expression, Expression]]:
    """Return the temporaries and the grid of a kernel.

    Args:
        name: the kernel's name.
        arguments: names of the arguments a wrapper passes.
        lines: ``name = expression`` for each temporary.
        texts: expressions for x, y and z.

    Raises:
        NotLean: naming an expression outside the vocabulary.
    """
    known: dict[str, Expression] = {argument: ("argument", index) for index, argument in enumerate(arguments)}
    values: list[Expression] = []
    try:
        for line in lines:
            (statement,) = ast.parse(line).body
            match statement:
                case ast.Assign(targets=[ast.Name(id=target)], value=value):
                    values.append(_expression(value, known))
                    known[target] = ("temporary", len(values) - 1)
                case _:
                    raise ValueError(line)
        x, y, z = (_expression(ast.parse(text, mode="eval").body, known) for text in texts)
    except (ValueError, KeyError, SyntaxError) as error:
        raise NotLean(f"Triton kernel {name}: grid {error!s:.80}") from None
    return tuple(values), (x, y, z)


def _expression(node: ast.expr, known: Mapping[str, Expression]) -> Expression:
    def inner(value: ast.expr) -> Expression:
        return _expression(value, known)

    match node:
        case ast.Constant(value=value) if type(value) is int:
            return value
        case ast.Name(id=name):
            return known[name]
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            negated = inner(operand)
            return -negated if isinstance(negated, int) else ("negative", negated)
        case ast.BinOp(left=left, op=operator, right=right) if type(operator) in _OPERATORS:
            return _OPERATORS[type(operator)], inner(left), inner(right)
        case ast.Call(func=ast.Name(id="max" | "min" as function), args=args, keywords=[]) if len(args) > 1:
            return f"{function}imum", *map(inner, args)
        case ast.IfExp(
            test=ast.Compare(left=left, ops=[ast.Eq()], comparators=[ast.Constant(value=0)]),
            body=ast.Constant(value=0),
            orelse=value,
        ):
            return "guarded", inner(left), inner(value)
    raise ValueError(ast.unparse(node))
