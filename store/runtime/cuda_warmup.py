"""Open CUDA's libraries in parallel with the rest of a start.

cuBLAS and cuDNN load at first use, which takes a tenth of a second or more. A bundle lists those its graphs
call; a thread has torch open them while guards and kernels are prepared.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection, Iterable
from typing import Final

import torch

_log = logging.getLogger("firebrick")
_BLAS: Final = frozenset(
    ("mm", "addmm", "bmm", "baddbmm", "bias_addmm", "mm_dtype", "bmm_dtype", "_mm_plus_mm", "conv1x1_via_mm")
)
_DNN: Final = frozenset(("convolution", "convolution_backward"))
_opened: set[tuple[str, int]] = set()  # library and device
_threads: list[threading.Thread] = []
_lock = threading.Lock()


def libraries_of(names: Collection[str]) -> frozenset[str]:
    """Return the libraries called by a wrapper that uses these names."""
    return frozenset(
        library for library, uses in (("blas", _BLAS), ("dnn", _DNN)) if not uses.isdisjoint(names)
    )


def open_libraries(libraries: Iterable[str]) -> Callable[[], None]:
    """Open libraries for the current device on a thread, except those already opened.

    Does nothing before the program itself has initialised CUDA, or while it captures a graph.

    Returns:
        A function that waits until they are open. Handles belong to threads: the caller can use those that
        the thread created only after it has ended.
    """
    if not torch.cuda.is_initialized() or torch.cuda.is_current_stream_capturing():
        return _nothing
    device = torch.cuda.current_device()
    with _lock:
        new = [name for name in libraries if name in _OPENERS and (name, device) not in _opened]
        _opened.update((name, device) for name in new)
    if not new:
        return _nothing
    thread = threading.Thread(target=_open, args=(new, device), name="firebrick-libraries")
    try:
        thread.start()
    except RuntimeError:  # at process exit
        return _nothing
    with _lock:
        _threads.append(thread)
    return thread.join


def are_opening() -> bool:
    """Tell whether libraries are being opened, so that a start bound to wait for them may do other work."""
    with _lock:
        _threads[:] = [thread for thread in _threads if thread.is_alive()]
        return bool(_threads)


def _open(libraries: list[str], device: int) -> None:
    try:
        with torch.cuda.device(device):
            for name in libraries:
                _OPENERS[name]()
    except Exception:
        _log.debug("opening %s failed; torch will say so where it needs them", libraries, exc_info=True)


def _blas() -> None:
    torch.cuda.current_blas_handle()


def _dnn() -> None:
    if torch.backends.cudnn.enabled and torch.backends.cudnn.is_available():
        with torch.no_grad():
            tiny = torch.ones((1, 1, 1, 1), device="cuda")
            torch.convolution(tiny, tiny, None, (1, 1), (0, 0), (1, 1), False, (0, 0), 1)


def _nothing() -> None:
    pass


_OPENERS: Final = {"blas": _blas, "dnn": _dnn}
