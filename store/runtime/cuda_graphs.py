"""Capture what a wrapper launches in CUDA graphs, and replay them.

torch's own CUDA graphs (``cudagraph_trees.py``) need the compiler. Those here serve inference, and differ
from torch's in one thing: an output keeps its values for as long as anything holds its memory.

Source followed: ``torch/_inductor/cudagraph_trees.py``; ``torch/cuda/graphs.py`` does the capture.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

import torch
from torch.multiprocessing.reductions import StorageWeakRef

from firebrick.runtime.calls import Boxed
from firebrick.torch_api import native

_log = logging.getLogger("firebrick")

KEYS: Final = 64  # combinations of a stream and integers that graphs are captured for
TURNS: Final = 2  # graphs of one combination, so that the outputs of the call before may be alive
CAPTURES: Final = 128  # of one combination, for all that it is called with; torch's limit

Key = tuple[int, ...]


class NoGraph(Exception):
    """Say why something is not captured; it then runs as it is."""


class Graphed:
    """A function that a wrapper calls, as a CUDA graph for each stream and each combination of integers.

    The first call of a combination, and of a thread, runs the function, which loads kernels and libraries;
    the second captures; later ones copy their inputs and replay. While a tensor that a replay returned is
    alive, its graph is left alone and a second one takes turns with it; where both are taken, and while the
    program captures a graph itself, the function runs as it is.

    Args:
        function: takes a list of arguments, clears it, and returns a tuple.
        device: index of the device that it launches on.
        static: indices of arguments that stay at their addresses, as parameters do; they are not copied.

    Any thread may call it. Graphs and their memory live as long as it does.
    """

    def __init__(self, function: Boxed, device: int, static: Sequence[int]) -> None:
        self._function = function
        self._device = device
        self._capture = functools.partial(Recording, function, device, tuple(static))
        self._sites: dict[Key, _Site] = {}
        self._lock = threading.Lock()
        self._thread = threading.local()  # of one that has run the function: handles of cuBLAS belong to it

    def __call__(self, args: list[Any]) -> Any:
        """Run the function, or what replays it."""
        if torch.cuda.is_current_stream_capturing():
            return self._function(args)
        key = (_stream(self._device), *(value for value in args if type(value) is int))
        with self._lock:
            if (site := self._sites.get(key)) is not None:
                recording = site.free(args)
                if recording is None and hasattr(self._thread, "ran"):
                    recording = site.record(self._capture, args)
                if recording is not None:
                    return recording.replay(args)
            elif len(self._sites) < KEYS:
                self._sites[key] = _Site()
        self._thread.ran = True
        return self._function(args)


class _Site:
    """The graphs of one stream and one combination of integers; several for each set of parameters."""

    def __init__(self) -> None:
        self._recordings: list[Recording] = []
        self._left = CAPTURES

    def free(self, args: list[Any]) -> Recording | None:
        """Return a graph that these arguments can be run with."""
        return next((r for r in self._recordings if r.stays(args) and r.free()), None)

    def record(self, make: Callable[[list[Any]], Recording], args: list[Any]) -> Recording | None:
        """Capture one more graph; None where that is not possible."""
        self._recordings = [recording for recording in self._recordings if recording.lives()]
        if not self._left or sum(recording.stays(args) for recording in self._recordings) == TURNS:
            return None
        self._left -= 1
        try:
            self._recordings.append(make(args))
        except NoGraph as reason:
            self._left = 0
            _log.debug("no CUDA graph: %s", reason)
            return None
        except Exception:  # the call itself says what is wrong with its arguments
            self._left = 0
            _log.warning("no CUDA graph; the kernels are launched one by one", exc_info=True)
            return None
        return self._recordings[-1]


class Recording:
    """One captured graph, with the memory of its inputs and outputs.

    Raises:
        NoGraph: an argument or a result is none that a graph can have.
        Exception: what the function raises; RuntimeError where CUDA refuses to capture.
    """

    def __init__(self, function: Boxed, device: int, static: tuple[int, ...], args: list[Any]) -> None:
        tensors = [index for index, value in enumerate(args) if isinstance(value, torch.Tensor)]
        if any(type(value) is not int for i, value in enumerate(args) if i not in tensors):
            raise NoGraph("an argument that is neither a tensor nor an integer")
        self._static = [index for index in tensors if index in static]
        self._copied = [index for index in tensors if index not in static]
        self._addresses = [value.data_ptr() if i in self._static else None for i, value in enumerate(args)]
        with torch.inference_mode(False), torch.no_grad():
            given = [_place(value) if i in self._copied else value for i, value in enumerate(args)]
            self._inputs = [given[index] for index in self._copied]
            self._graph, outputs = capture(function, given, device)
        storages = [args[index].untyped_storage() for index in self._static]
        self._owners = [StorageWeakRef(storage) for storage in storages]
        static_storages = {storage._cdata for storage in storages}
        self._outputs = [_Output.of(value, static_storages) for value in outputs]
        del outputs
        self._memories = [output.memory for output in self._outputs if isinstance(output, _Output)]
        self._untouched = self._holders()

    def stays(self, args: list[Any]) -> bool:
        """Tell whether the arguments that are not copied are where they were."""
        return _same_addresses(args, self._addresses, self._static)

    def lives(self) -> bool:
        """Tell whether the memory of the arguments that are not copied is still that of tensors."""
        return not any(owner.expired() for owner in self._owners)

    def free(self) -> bool:
        """Tell whether nobody holds what the last replay returned."""
        return self._holders() == self._untouched

    def _holders(self) -> list[tuple[int, int]]:
        """Count who shares each memory: tensors, and those who have its object in Python."""
        count = native.storage_use_count
        return [(count(memory._cdata), sys.getrefcount(memory)) for memory in self._memories]

    def replay(self, args: list[Any]) -> tuple[Any, ...]:
        """Run the graph on other arguments; the list is cleared."""
        if self._copied:
            native.foreach_copy(self._inputs, [args[index] for index in self._copied])
        args.clear()
        self._graph.replay()
        return tuple(o.tensor() if isinstance(o, _Output) else o for o in self._outputs)


class _Output:
    """A tensor in the memory of a graph, and how another one is made there."""

    __slots__ = ("_facts", "memory")

    def __init__(self, tensor: torch.Tensor) -> None:
        self.memory = memory = tensor.untyped_storage()
        self._facts = {
            "nbytes": memory.nbytes(),
            "data_ptr": memory.data_ptr(),
            "size": tuple(tensor.shape),
            "stride": tensor.stride(),
            "dtype": tensor.dtype,
            "device": tensor.device,
            "storage_offset": tensor.storage_offset(),
        }

    @classmethod
    def of(cls, value: Any, static: set[int]) -> Any:
        """Return how a result is given out; what is no tensor is given as it is."""
        if not isinstance(value, torch.Tensor):
            return value
        if not _on_gpu(value) or value.untyped_storage()._cdata in static:
            raise NoGraph("a result that shares memory with the program's own, or is not on the GPU")
        return cls(value)

    def tensor(self) -> torch.Tensor:
        return _in_memory(self._facts, self.memory)


def capture(function: Boxed, args: Sequence[Any], device: int) -> tuple[Any, Sequence[Any]]:
    """Capture a call; return the graph and the results, which have values after a replay only."""
    graph = torch.cuda.CUDAGraph()
    scope = torch.cuda.graph(graph, stream=_side_stream(device), capture_error_mode="thread_local")
    current = torch.cuda.stream(torch.cuda.current_stream(device))
    # where CUDA refuses, `scope` leaves its stream behind; `current` puts that right
    with torch.cuda.device(device), current, _workspaces(), scope:
        results = function(list(args))
    return graph, results


@contextlib.contextmanager
def _workspaces() -> Iterator[None]:
    """Have cuBLAS make its workspaces in the memory of the graph, and forget them afterwards."""
    emptying = native.conv_benchmark_empties_cache()
    native.let_conv_benchmark_empty_cache(False)
    native.clear_cublas_workspaces()
    try:
        yield
    finally:
        native.clear_cublas_workspaces()
        native.let_conv_benchmark_empty_cache(emptying)


@functools.cache
def _side_stream(device: int) -> torch.cuda.Stream:
    return torch.cuda.Stream(device)


def _place(value: torch.Tensor) -> torch.Tensor:
    """Return memory for what is copied at each replay."""
    if not _on_gpu(value) or native.internal_overlap(value) != 0:
        raise NoGraph("an argument that is not on the GPU, or whose elements share memory")
    return torch.empty_strided(value.size(), value.stride(), dtype=value.dtype, device=value.device)


def _on_gpu(value: torch.Tensor) -> bool:
    return value.is_cuda


def _stream(device: int) -> int:
    return int(native.raw_stream()(device))


def _same_addresses(args: list[Any], addresses: list[int | None], indices: list[int]) -> bool:
    return native.same_addresses(args, addresses, indices)


def _in_memory(facts: dict[str, Any], memory: Any) -> torch.Tensor:
    made: torch.Tensor = native.tensor_in_memory(facts, memory)
    return made
