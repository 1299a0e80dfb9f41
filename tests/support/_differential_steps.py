"""Make the calls of a case and describe each: results, arguments, gradients, modes, exceptions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch

from support.differential import Call, Program, Scenario
from support.observe import Observer, generators, modes


class Steps:
    """The calls of one case, to be made once, in their order.

    Args:
        program: the case.
    """

    def __init__(self, program: Program | Scenario) -> None:
        self._program = program
        self._compiled: Any = None
        self.unexpected = ""

    @property
    def has_misses(self) -> bool:
        """Whether the case has calls that nothing stored fits."""
        return isinstance(self._program, Program) and bool(self._program.misses)

    @property
    def graphs(self) -> bool:
        """Whether torch compiles anything for the case."""
        return not isinstance(self._program, Program) or self._program.graphs

    def calls(self) -> list[Any]:
        """Compile the target, make the calls and describe them."""
        program = self._program
        if isinstance(program, Scenario):
            torch.manual_seed(1)
            value = program.body()
            return [{"value": Observer().see(value, "value"), "modes": modes(), "random": generators()}]
        if program.how == "wrap":
            self._compiled = torch.compile(program.target, **program.options)
        else:
            self._compiled = program.target
        if program.how == "in_place":
            program.target.compile(**program.options)
        return [self._step(program, number, call) for number, call in enumerate(program.calls)]

    def misses(self) -> list[Any]:
        """Make the calls that nothing stored fits, and describe them."""
        program = self._program
        if isinstance(program, Scenario):
            return []
        return [self._step(program, number, call) for number, call in enumerate(program.misses)]

    def _step(self, program: Program, number: int, call: Call) -> dict[str, Any]:
        torch.manual_seed(1 + number)
        step: dict[str, Any] = {}
        if call.before is not None:
            call.before()
        result: Any = None
        raised: BaseException | None = None
        try:
            with call.inside():
                result = self._compiled(*call.args, **call.kwargs)
                inside = modes()
            step["modes_inside"] = inside
        except Exception as error:
            raised = error
        step["modes"], step["random"] = modes(), generators()
        observer = Observer()
        for name, value in self._surroundings(program, call):
            step[name] = observer.see(value, name)
        if raised is not None:
            step["raised"] = observer.see(raised, "raised")
        else:
            step["result"] = observer.see(result, "result")
        self._expect(program, raised)
        times = call.backward if call.backward is not None else int(program.train)
        if times and raised is None:
            step["backward"] = [*self._backward(result, times)]
            step["gradients"] = observer.gradients()
            step["versions"] = observer.versions()
            step["random"] = generators()
        return step

    @staticmethod
    def _surroundings(program: Program, call: Call) -> Iterator[tuple[str, Any]]:
        yield "args", list(call.args)
        yield "kwargs", dict(call.kwargs)
        if isinstance(program.target, torch.nn.Module):
            yield "target", program.target
        if program.state is not None:
            yield "state", program.state()

    def _expect(self, program: Program, raised: BaseException | None) -> None:
        name = type(raised).__name__ if raised is not None else None
        if name != program.raises and not self.unexpected:
            self.unexpected = f"raised {name}: {raised!s:.300}, expected {program.raises}"

    @staticmethod
    def _backward(result: Any, times: int) -> Iterator[str]:
        outputs = [*_differentiable(result, set())]
        # one number: for gradients that are given torch imports sympy
        loss = sum((_weighted(output) for output in outputs), start=torch.zeros(()))
        for turn in range(times):
            try:
                loss.backward(retain_graph=turn < times - 1)
            except RuntimeError as error:
                yield f"{type(error).__name__}: {error}"
            else:
                yield f"{len(outputs)} outputs"


def _differentiable(value: Any, seen: set[int]) -> Iterator[torch.Tensor]:
    """Yield the tensors in a result that gradients can be taken of, each once."""
    if id(value) in seen:
        return
    seen.add(id(value))
    if isinstance(value, torch.Tensor):
        if value.requires_grad and value.grad_fn is not None:
            yield value
        return
    parts: Sequence[Any] = ()
    if isinstance(value, dict):
        parts = list(value.values())
    elif isinstance(value, list | tuple):
        parts = value
    elif hasattr(value, "__dict__") and not isinstance(value, type | torch.nn.Module):
        parts = list(vars(value).values())
    for part in parts:
        yield from _differentiable(part, seen)


def _weighted(output: torch.Tensor) -> torch.Tensor:
    """Return the sum of an output's elements with weights that are all different."""
    if output.layout is not torch.strided:
        output = output.to_dense()
    weights = torch.linspace(0.5, 1.5, output.numel(), dtype=torch.float64).reshape(output.shape)
    total = (output * weights.to(output.dtype)).sum()
    return total.real if total.is_complex() else total
