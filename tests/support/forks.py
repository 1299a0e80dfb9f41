"""Fork a process that has torch, the compiler and Firebrick loaded, for programs that are to be alone."""

from __future__ import annotations

import gc
import os
import sys
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path

import torch

import firebrick


def warm(*, store: bool) -> None:
    """Import the compiler and use it once, so that forks need not.

    Args:
        store: with Firebrick, on a store that is thrown away.
    """
    import torch._inductor.config as config

    def twice(x: torch.Tensor) -> torch.Tensor:
        return x * 2

    config.fallback_by_default = True
    with tempfile.TemporaryDirectory() as folder:
        if store:
            firebrick.enable(folder)
        # autograd's threads, which a build with CUDA starts, do not survive a fork
        graded = not torch.backends.cuda.is_built()
        result = torch.compile(twice)(torch.ones(2, requires_grad=graded)).sum()
        if graded:
            result.backward()
        firebrick.disable()
    config.fallback_by_default = False
    torch._dynamo.reset()


def fork(body: Callable[[], object], log: Path) -> int:
    """Run a function in a fork and return the fork's id; it ends with 1 where the function raised.

    Args:
        body: what runs there.
        log: takes what it writes to standard output and error.
    """
    gc.freeze()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(output, 1)
            os.dup2(output, 2)
            body()
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)
    return pid
