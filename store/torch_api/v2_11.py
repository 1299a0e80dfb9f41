"""torch 2.11: as in `_common`, but for the files of autotuning, which have a class of their own."""

from torch._inductor.runtime.autotune_cache import _LocalAutotuneCacheBackend as AutotuneFiles

from firebrick.torch_api._common import *  # noqa: F403

__all__ = ["AutotuneFiles"]
