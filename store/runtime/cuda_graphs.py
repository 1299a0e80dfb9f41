"""Capture a wrapper's launches in CUDA graphs and replay them.

torch's own CUDA graphs (``cudagraph_trees.py``) need the compiler. These serve inference and differ from
torch's in one way: an output keeps its values as long as anything holds its memory.

Source followed: ``torch/_inductor/cudagraph_trees.py``; ``torch/cuda/graphs.py`` does the capturing.
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

KEYS: Final = 64  # combinations of stream and integers to capture graphs for
TURNS: Final = 2  # graphs per combination, so that the previous call's outputs may stay alive
CAPTURES: Final = 128  # per combination, over all its arguments; torch's limit

Key = tuple[int, ...]


class NoGraph(Exception):
    """The reason a function is not captured; it then runs directly."""


class Graphed:
    """A function called by a wrapper, as a CUDA graph per stream and combination of integers.

    The first call of each combination and thread runs the function, which loads kernels and libraries; the
    second captures; later ones copy their inputs and replay. While a tensor returned by a replay is alive,
    its graph is not replayed and a second one takes its turn; when both are in use, or while the program
    itself captures a graph, the function runs directly.

    Args:
        function: takes a list of arguments, clears it, and returns a tuple.
        device: index of the device it launches on.
        static: indices of arguments with fixed addresses, such as parameters; they are not copied.

    Any thread may call it. Graphs and their memory live as long as it does.
    """

    def __init__(self, function: Boxed, device: int, static: Sequence[int]) -> None:
        self._function = function
        self._device = device
        self._capture = functools.partial(Recording, function, device, tuple(static))
        self._sites: dict[Key, _Site] = {}
        self._lock = threading.Lock()
        self._thread = threading.local()  # marks threads that ran it: cuBLAS handles are per thread

    def __call__(self, args: list[Any]) -> Any:
        """Run the function, or replay it."""
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
        """Return a graph that can run these arguments."""
        return next((r for r in self._recordings if r.stays(args) and r.free()), None)

    def record(self, make: Callable[[list[Any]], Recording], args: list[Any]) -> Recording | None:
        """Capture another graph; return None if that is impossible."""
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
        except Exception:  # the call itself reports bad arguments
            self._left = 0
            _log.warning("no CUDA graph; the kernels are launched one by one", exc_info=True)
            return None
        return self._recordings[-1]


class Recording:
    """One captured graph, with the memory of its inputs and outputs.

    Raises:
        NoGraph: a graph cannot take one of the arguments or results.
        Exception: whatever the function raises; RuntimeError if CUDA refuses to capture.
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
        """Tell whether the uncopied arguments are at the recorded addresses."""
        return _same_addresses(args, self._addresses, self._static)

    def lives(self) -> bool:
        """Tell whether tensors still own the memory of the uncopied arguments."""
        return not any(owner.expired() for owner in self._owners)

    def free(self) -> bool:
        """Tell whether nothing holds the outputs of the last replay."""
        return self._holders() == self._untouched

    def _holders(self) -> list[tuple[int, int]]:
        """Count the owners of each storage: tensors, and references to its Python object."""
        count = native.storage_use_count
        return [(count(memory._cdata), sys.getrefcount(memory)) for memory in self._memories]

    def replay(self, args: list[Any]) -> tuple[Any, ...]:
        """Replay the graph on these arguments and clear the list."""
        if self._copied:
            native.foreach_copy(self._inputs, [args[index] for index in self._copied])
        args.clear()
        self._graph.replay()
        return tuple(o.tensor() if isinstance(o, _Output) else o for o in self._outputs)


class _Output:
    """An output tensor in a graph's memory, and how to make another one there."""

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
        """Return how to hand out a result; anything but a tensor is handed out unchanged."""
        if not isinstance(value, torch.Tensor):
            return value
        if not _on_gpu(value) or value.untyped_storage()._cdata in static:
            raise NoGraph("a result that shares memory with the program's own, or is not on the GPU")
        return cls(value)

    def tensor(self) -> torch.Tensor:
        return _in_memory(self._facts, self.memory)


def capture(function: Boxed, args: Sequence[Any], device: int) -> tuple[Any, Sequence[Any]]:
    """Capture a call; return the graph and its results, which hold values only after a replay."""
    graph = torch.cuda.CUDAGraph()
    scope = torch.cuda.graph(graph, stream=_side_stream(device), capture_error_mode="thread_local")
    current = torch.cuda.stream(torch.cuda.current_stream(device))
    # if CUDA refuses, `scope` leaves its stream current; `current` restores the old one
    with torch.cuda.device(device), current, _workspaces(), scope:
        results = function(list(args))
    return graph, results


@contextlib.contextmanager
def _workspaces() -> Iterator[None]:
    """Make cuBLAS allocate its workspaces in the graph's memory, and drop them afterwards."""
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
    """Allocate memory for an input that is copied at each replay."""
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
