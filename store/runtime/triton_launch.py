"""Launch Triton kernels without Triton, through torch's static launcher.

A kernel's binary is loaded from memory once per device and process, at its first launch or before. The
function that launches it is built from the templates below, filled only with numbers and names made here;
equal launches share their code.

Source followed: ``StaticTritonCompileResult.make_launcher`` and ``CachingAutotuner.run`` of
``torch/_inductor/runtime/triton_heuristics.py``, ``static_triton_launcher.py`` beside it.
"""

from __future__ import annotations

import functools
import threading
import types
from collections.abc import Callable, Iterable
from typing import Any, Final

import torch
from torch.autograd import profiler

from firebrick.base.digest import digest
from firebrick.codecs.launch import Expression, Launch
from firebrick.errors import Unsupported
from firebrick.runtime.calls import skip
from firebrick.torch_api import native
from firebrick.torch_api.shared_object import as_file

_BINARY: Final = {
    "add": "({} + {})",
    "subtract": "({} - {})",
    "multiply": "({} * {})",
    "divide": "({} // {})",
    "modulo": "({} % {})",
    "guarded": "(0 if {} == 0 else {})",
}

_loaded: dict[tuple[bytes, str, int], int] = {}  # digest of a binary, symbol, device -> function
_lock = threading.RLock()


def static_launcher() -> Any:
    """Return torch's launcher.

    Raises:
        Unsupported: this torch was built without CUDA.
    """
    launcher = native.static_launcher_class()
    if launcher is None:
        raise Unsupported("a torch without a launcher of CUDA kernels")
    return launcher


def check_device(architecture: int, device: int) -> None:
    """Raise unless a device is of a binary's architecture.

    Binaries also run on later devices of their generation, but torch would launch a different one there.

    Args:
        architecture: of the binary, 90 for sm_90.
        device: index.

    Raises:
        Unsupported: there is no such device, or its architecture differs.
    """
    static_launcher()
    if device >= torch.cuda.device_count():
        raise Unsupported(f"no CUDA device {device}")
    major, minor = torch.cuda.get_device_capability(device)
    if architecture != major * 10 + minor:
        raise Unsupported(f"a kernel for sm_{architecture}, device {device} is sm_{major}{minor}")


class TritonLauncher:
    """A kernel as wrappers call it: ``run(*arguments, stream=…)``, on the current device, from any thread.

    Args:
        launch: how to launch it. A wrapper's kernels are made for one device, so the first launch fixes the
            device.
    """

    __slots__ = ("_launch", "run")

    def __init__(self, launch: Launch) -> None:
        static_launcher()
        self._launch: Launch | None = launch
        self.run: Callable[..., None] = self._first

    def load(self) -> None:
        """Load the binary on the current device; later launches go straight to torch's launcher."""
        if (launch := self._launch) is not None:
            self.run = launcher(launch, function(launch, torch.cuda.current_device()))
            self._launch = None  # and the bytes with it

    def _first(self, *arguments: Any, stream: int) -> None:
        self.load()
        self.run(*arguments, stream)

    def __repr__(self) -> str:
        return f"<TritonKernel {self.run!r}>"


def function(launch: Launch, device: int) -> int:
    """Return the handle of a kernel's function on a device, which must be current."""
    binary = launch.kernel.binary
    key = digest(binary), launch.symbol, device
    with _lock:
        if (handle := _loaded.get(key)) is None:
            with as_file(binary) as path:
                # 2.11: function, registers, spills; later releases prepend the module
                *_, handle, _, _ = static_launcher()._load_kernel(path, launch.symbol, launch.shared, device)
            _loaded[key] = handle
        return handle


def launcher(launch: Launch, handle: int) -> Callable[..., None]:
    """Return the function that launches a loaded kernel; it takes the wrapper's arguments and the stream."""
    numbers: list[int] = []
    temporaries = tuple(_lifted(value, numbers) for value in launch.temporaries)
    grid = tuple(_lifted(value, numbers) for value in launch.grid)
    shape = launch.arguments, launch.passed, launch.scratch, temporaries, grid, len(numbers)
    scope: dict[str, Any] = {"profiler": profiler}
    exec(_code(shape), scope)
    letters = launch.letters + "O" * launch.scratch
    run: Callable[..., None] = scope["make"](
        static_launcher()._launch_kernel,
        handle,
        launch.warps,
        launch.shared,
        letters,
        native.RecordFunctionFast,
        launch.symbol,
        *numbers,
    )
    skip(run.__code__)
    return run


def _lifted(value: Expression, numbers: list[int]) -> Expression:
    """Return an expression with its numbers (block sizes) lifted out, so that more expressions are equal."""
    if isinstance(value, int):
        if value in (0, 1):
            return value
        numbers.append(value)
        return "number", len(numbers) - 1
    if value[0] in ("argument", "temporary"):
        return value
    return value[0], *(_lifted(operand, numbers) for operand in value[1:])


@functools.lru_cache(1024)
def _code(shape: tuple[Any, ...]) -> types.CodeType:
    count, passed, scratch, temporaries, grid, numbers = shape
    given, taken = _listed("a", range(count)), _listed("a", passed) + "None, " * scratch
    x, y, z = map(_text, grid)
    launch = f"launch(handle, {x}, {y}, {z}, warps, shared, letters, ({taken}), stream)"
    lines = [
        f"def make(launch, handle, warps, shared, letters, record, name, {_listed('n', range(numbers))}):",
        f"    def run({given}stream):",
        *(f"        t{index} = {_text(value)}" for index, value in enumerate(temporaries)),
        "        if profiler._is_profiler_enabled:",
        "            facts = {'kernel_backend': 'triton', 'kernel_name': name, "
        "'num_warps': warps, 'stream': stream}",
        f"            with record(name, ({given}), facts):",
        f"                {launch}",
        "        else:",
        f"            {launch}",
        "    return run",
    ]
    return compile("\n".join(lines), "<firebrick launch>", "exec")


def _listed(letter: str, indices: Iterable[int]) -> str:
    return "".join(f"{letter}{index}, " for index in indices)


def _text(value: Expression) -> str:
    if isinstance(value, int):
        return str(value)
    name, *operands = value
    if name in ("argument", "temporary", "number"):
        return f"{name[0]}{operands[0]}"
    texts = [_text(operand) for operand in operands]
    if name == "negative":
        return f"(-{texts[0]})"
    if name in ("maximum", "minimum"):
        return f"{name[:3]}({', '.join(texts)})"
    return _BINARY[name].format(*texts)
